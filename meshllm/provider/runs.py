"""Which requests have run: an id runs once, whatever a lost path makes a peer repeat.

Pure (docs/protocol.md §6.4). Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from meshllm.errors import Code, StreamReset
from meshllm.trust.keys import PeerId

KEPT_S = 600.0  # longer than any caller goes on trying
PEER_MAX = 4_096  # one peer's ended requests; it loses its own oldest beyond that
TOTAL_MAX = 16_384  # everybody's; whoever has most loses its oldest


class Runs:
    """Requests by peer and id: those that run, and those that ended lately."""

    def __init__(self) -> None:
        self._running: set[tuple[PeerId, str]] = set()
        self._ended: dict[PeerId, OrderedDict[str, float]] = {}
        self._total = 0

    def __len__(self) -> int:
        """Ended requests that are remembered."""
        return self._total

    def begin(self, peer: PeerId, id: str, now: float) -> None:
        """StreamReset (`gone`) when this peer's request runs or has run.

        Each `begin` that returns is followed by one `end`.
        """
        self._forget_before(now - KEPT_S)
        if (peer, id) in self._running or id in self._ended.get(peer, ()):
            raise StreamReset(
                Code.GONE, "This request has run here already; it is not run twice."
            )
        self._running.add((peer, id))

    def end(self, peer: PeerId, id: str, now: float, *, has_answered: bool) -> None:
        """It is over. One that was cancelled before its first byte may run again."""
        self._running.discard((peer, id))
        if not has_answered:
            return
        self._ended.setdefault(peer, OrderedDict())[id] = now
        self._total += 1
        if len(self._ended[peer]) > PEER_MAX:
            self._forget_oldest(peer)
        if self._total > TOTAL_MAX:
            self._forget_oldest(max(self._ended, key=lambda who: len(self._ended[who])))

    def _forget_before(self, limit: float) -> None:
        for peer in list(self._stale(limit)):
            while (
                peer in self._ended and next(iter(self._ended[peer].values())) < limit
            ):
                self._forget_oldest(peer)

    def _stale(self, limit: float) -> Iterator[PeerId]:
        for peer, ended in self._ended.items():
            if next(iter(ended.values())) < limit:
                yield peer

    def _forget_oldest(self, peer: PeerId) -> None:
        self._ended[peer].popitem(last=False)
        self._total -= 1
        if not self._ended[peer]:
            del self._ended[peer]
