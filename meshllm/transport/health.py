"""Which STUN and TURN servers answer: known before an offer is made, so that a dead one
costs nothing.

Without I/O or clock: times are seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from meshllm.transport.servers import Server

DEAD_S = 60.0  # a server that did not answer is left out for so long
STEP_S = 0.3  # TCP and TLS begin this much later each, while no relay has answered
TRANSPORTS = ("udp", "tcp", "tls")  # cheapest first

Key: TypeAlias = tuple[str, tuple[str, int], str]


@dataclass(frozen=True, slots=True)
class Record:
    """How a server did last: `took_s`, or `why` it did not answer."""

    at: float
    took_s: float = 0.0
    why: str | None = None


class Health:
    """What this node has seen of its servers, from where it is now."""

    def __init__(self) -> None:
        self._records: dict[Key, Record] = {}
        self._hosts: tuple[str, ...] = ()

    def at(self, hosts: Sequence[str]) -> None:
        """These are our addresses. With others we are elsewhere, and know nothing."""
        if tuple(hosts) != self._hosts:
            self._hosts = tuple(hosts)
            self._records.clear()

    def answered(self, server: Server, took_s: float, now: float) -> None:
        self._records[_key(server)] = Record(now, took_s)

    def failed(self, server: Server, why: str, now: float) -> None:
        self._records[_key(server)] = Record(now, why=why)

    def is_dead(self, server: Server, now: float) -> bool:
        record = self._records.get(_key(server))
        return (
            record is not None and record.why is not None and now - record.at < DEAD_S
        )

    def has_answered(self, server: Server) -> bool:
        """When it was last asked, however long ago."""
        record = self._records.get(_key(server))
        return record is not None and record.why is None

    def plan(self, servers: Sequence[Server], now: float) -> list[tuple[Server, float]]:
        """Whom to ask, and after how many seconds.

        The dead are left out, but all relays are asked when none is known to live. The
        transport that is known to work begins; the next one waits for it a little.
        """
        alive = [server for server in servers if not self.is_dead(server, now)]
        relays = [server for server in alive if server.is_relay]
        relays = relays or [server for server in servers if server.is_relay]
        works = {server.over for server in relays if self.has_answered(server)}
        order = sorted(
            {server.over for server in relays},
            key=lambda over: (over not in works, TRANSPORTS.index(over)),
        )
        asked = [(server, 0.0) for server in alive if not server.is_relay]
        return asked + [(relay, STEP_S * order.index(relay.over)) for relay in relays]

    def describe(self, servers: Sequence[Server], now: float) -> list[dict[str, Any]]:
        """For `meshllm status`: each server, and how it did when it was last asked."""
        rows = []
        for server in servers:
            record = self._records.get(_key(server))
            row: dict[str, Any] = {"url": server.url, "answers": None}
            if record is not None:
                row["answers"] = record.why is None
                row["seconds_ago"] = round(now - record.at)
                if record.why is None:
                    row["ms"] = round(record.took_s * 1000, 1)
                else:
                    row["why"] = record.why
            rows.append(row)
        return rows


def _key(server: Server) -> Key:
    """Without the credential, which changes."""
    return server.scheme, server.address, server.transport
