"""Whether what came in a stream broke off: then the peer may see us elsewhere.

A NAT that forgot gives our next packets another port, and what the peer sends to the
old one is lost; neither side notices before consent is asked for, every 5 s. So whoever
hears a stream no more sends a check at once: the peer learns from it where we are now.
Pure: `hear` for each packet of data, `tick` after each TICK_S, then `answer` or `miss`
for the check that was sent.
"""

from __future__ import annotations

TICK_S = 0.5
CHECKS = 3


class Pulse:
    """Of one path. A single packet is no stream: PING's answer, the last words."""

    def __init__(self) -> None:
        self.is_stalled = False
        self._count = 0
        self._is_stream = False
        self._left = 0

    def hear(self) -> None:
        self._count += 1
        self.is_stalled = False

    def answer(self) -> None:
        """The peer is there, and has nothing to say."""
        self._left = 0
        self.is_stalled = False

    def miss(self) -> None:
        self.is_stalled = True

    def tick(self) -> bool:
        """Whether to send a check now."""
        count, self._count = self._count, 0
        if count:
            self._left = CHECKS if self._is_stream else 0
            self._is_stream = True
            return False
        self._is_stream = False
        is_due = self._left > 0
        self._left -= is_due
        return is_due
