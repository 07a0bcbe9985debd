"""Two addresses that reach each other; our candidates and aioice's."""

from __future__ import annotations

from dataclasses import dataclass

import aioice

from meshllm.protocol.description import Candidate

COMPONENT = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """The addresses in use at both ends."""

    local: Candidate
    remote: Candidate

    @property
    def kind(self) -> str:
        """`relay` when either side is relayed; else how the peer is reached."""
        return kind_of(self.local.kind, self.remote.kind)

    @property
    def names(self) -> dict[str, str]:
        return {"local": _name(self.local), "remote": _name(self.remote)}


def kind_of(local: str, remote: str) -> str:
    """How the peer is reached, by the kinds of the two candidates."""
    return "relay" if local == "relay" else remote


def to_aioice(candidate: Candidate) -> aioice.Candidate:
    return aioice.Candidate(
        foundation=candidate.foundation,
        component=COMPONENT,
        transport=candidate.transport,
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        type=candidate.kind,
        related_address=candidate.related_host,
        related_port=candidate.related_port,
    )


def from_aioice(candidate: aioice.Candidate) -> Candidate:
    return Candidate(
        foundation=candidate.foundation,
        transport=candidate.transport,
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        kind=candidate.type,
        related_host=candidate.related_address,
        related_port=candidate.related_port,
    )


def _name(candidate: Candidate) -> str:
    host = f"[{candidate.host}]" if ":" in candidate.host else candidate.host
    return f"{candidate.kind} {host}:{candidate.port}"
