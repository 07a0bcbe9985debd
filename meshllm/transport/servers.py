"""STUN and TURN servers: their URLs, and when each is asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiortc.rtcicetransport import parse_stun_turn_uri

log = logging.getLogger(__name__)

RELAY_STEP_S = 0.3  # UDP, TCP and TLS start this far apart while none has answered


@dataclass(frozen=True, slots=True)
class IceServer:
    """STUN and TURN servers (RFC 7064, RFC 7065) that share one credential."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    scheme: str
    address: tuple[str, int]
    transport: str
    username: str | None
    credential: str | None = field(repr=False)

    @property
    def is_relay(self) -> bool:
        return self.scheme in ("turn", "turns")

    @property
    def delay_s(self) -> float:
        if self.scheme == "turns":
            return 2 * RELAY_STEP_S
        return RELAY_STEP_S if self.transport == "tcp" else 0.0


def read_servers(servers: Sequence[IceServer]) -> list[Server]:
    """Those we can use. One bad URL shall not take the other paths away."""
    found = []
    for server in servers:
        for url in server.urls:
            try:
                parts = parse_stun_turn_uri(url)
            except ValueError:
                log.warning("%r is not a STUN or TURN URL; it is not used", url)
                continue
            transport = parts.get("transport", "udp")
            if parts["scheme"] == "stuns" or transport not in ("udp", "tcp"):
                log.debug("%s is not used: no such transport here", url)
            elif parts["scheme"] == "turns" and transport == "udp":
                log.debug("%s is not used: no DTLS to relays here", url)
            else:
                address = (parts["host"], parts["port"])
                found.append(
                    Server(
                        parts["scheme"],
                        address,
                        transport,
                        server.username,
                        server.credential,
                    )
                )
    return found
