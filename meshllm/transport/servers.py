"""STUN and TURN servers: their URLs, and when each is asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiortc.rtcicetransport import parse_stun_turn_uri

log = logging.getLogger(__name__)


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
    def over(self) -> str:
        """`udp`, `tcp` or `tls`: what must pass on the way to it."""
        return "tls" if self.scheme == "turns" else self.transport

    @property
    def url(self) -> str:
        host, port = self.address
        name = f"[{host}]" if ":" in host else host
        query = f"?transport={self.transport}" if self.is_relay else ""
        return f"{self.scheme}:{name}:{port}{query}"


def read_servers(servers: Sequence[IceServer]) -> list[Server]:
    """Those we can use. One bad URL shall not take the other paths away."""
    urls = [(url, server) for server in servers for url in server.urls]
    return [found for one in urls if (found := read_url(*one)) is not None]


def read_url(url: str, of: IceServer) -> Server | None:
    """None, and a line in the log, for one that we cannot use."""
    try:
        parts = parse_stun_turn_uri(url)
    except ValueError:
        log.warning("%r is not a STUN or TURN URL; it is not used", url)
        return None
    scheme, transport = parts["scheme"], parts.get("transport", "udp")
    if scheme == "stuns" or transport not in ("udp", "tcp"):
        log.debug("%s is not used: no such transport here", url)
        return None
    if scheme == "turns" and transport == "udp":
        log.debug("%s is not used: no DTLS to relays here", url)
        return None
    address = (parts["host"], parts["port"])
    return Server(scheme, address, transport, of.username, of.credential)
