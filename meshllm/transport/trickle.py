"""Candidates that come after the offer or the answer (RFC 8838): nobody waits for a
server's answer before the other side may begin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from meshllm.protocol.description import Candidate
from meshllm.protocol.envelope import Candidates
from meshllm.transport.peer import Peer
from meshllm.trust.keys import PeerId

EARLY_MAX = 8  # messages that are kept until there is a peer connection for them

Send = Callable[[Sequence[Candidate], bool], Awaitable[None]]


class Inflow:
    """Those of one peer for one path; `prev` names the offer that they belong to."""

    def __init__(self, sender: PeerId, prev: bytes) -> None:
        self._sender = sender
        self._prev = prev
        self._peer: Peer | None = None
        self._early: list[Candidates] = []

    def take(self, more: Candidates) -> None:
        """Others' are dropped."""
        if (more.sender, more.prev) != (self._sender, self._prev):
            return
        if self._peer is not None:
            self._peer.add(more.candidates, is_complete=more.is_complete)
        elif len(self._early) < EARLY_MAX:
            self._early.append(more)

    def flow(self, peer: Peer) -> None:
        """Into this peer connection, which has the description that came first."""
        self._peer = peer
        early, self._early = self._early, []
        for more in early:
            self.take(more)


class Inflows:
    """By path, while it is being introduced."""

    def __init__(self) -> None:
        self._by_path: dict[bytes, Inflow] = {}

    def open(self, path: bytes, sender: PeerId, prev: bytes) -> Inflow:
        """Of an offer that comes again the first one keeps its place."""
        return self._by_path.setdefault(path, Inflow(sender, prev))

    def close(self, path: bytes, inflow: Inflow) -> None:
        if self._by_path.get(path) is inflow:
            del self._by_path[path]

    def take(self, more: Candidates) -> None:
        if (inflow := self._by_path.get(more.path)) is not None:
            inflow.take(more)


async def send_on(peer: Peer, send: Send) -> None:
    """Ours, as they are found, until these were all."""
    async for candidates, is_complete in peer.trickle():
        await send(candidates, is_complete)
