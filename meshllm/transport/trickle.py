"""Candidates that come after the offer or the answer (RFC 8838): nobody waits for a
server's answer before the other side may begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshllm.protocol.envelope import Candidates
from meshllm.transport.envelopes import Addressee, Envelopes
from meshllm.transport.peer import Peer
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)

EARLY_MAX = 8  # messages that are kept until there is a peer connection for them


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

    def expect(self, path: bytes, sender: PeerId, prev: bytes, for_s: float) -> Inflow:
        """The same, for as long as an introduction may take."""
        inflow = self.open(path, sender, prev)
        asyncio.get_running_loop().call_later(for_s, self.close, path, inflow)
        return inflow

    def close(self, path: bytes, inflow: Inflow) -> None:
        if self._by_path.get(path) is inflow:
            del self._by_path[path]

    def take(self, more: Candidates) -> None:
        if (inflow := self._by_path.get(more.path)) is not None:
            inflow.take(more)


class Outflow:
    """Ours, told to the peers that are being introduced."""

    def __init__(self, envelopes: Envelopes) -> None:
        self._envelopes = envelopes
        self._telling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def told(
        self, peer: Peer, path: bytes, prev: bytes, to: Addressee
    ) -> AsyncIterator[None]:
        """Candidates of ours that are found meanwhile go after the first message."""
        work = self._tell(peer, path, prev, to)
        telling = asyncio.create_task(work, name="candidates")
        self._telling.add(telling)
        telling.add_done_callback(self._ended)
        try:
            yield  # a slow server's answer may still improve a path that is open
        except BaseException:
            telling.cancel()
            raise

    async def close(self) -> None:
        telling = list(self._telling)
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)

    async def _tell(self, peer: Peer, path: bytes, prev: bytes, to: Addressee) -> None:
        async for candidates, is_complete in peer.trickle():
            more = self._envelopes.candidates(
                path, prev, to, candidates, is_complete=is_complete
            )
            await to.send(more.sealed)

    def _ended(self, telling: asyncio.Task[None]) -> None:
        self._telling.discard(telling)
        if not telling.cancelled() and (error := telling.exception()) is not None:
            log.debug("not all candidates could be told: %s", error)
