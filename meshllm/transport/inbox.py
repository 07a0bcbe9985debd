"""Messages for whoever listens, kept for a while when nobody does yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

EARLY_BYTES = 262_144


class Inbox:
    """Delivers in order. What came early is delivered in a later turn of the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener: Callable[[bytes], None] | None = None
        self._early: deque[bytes] = deque()
        self._early_bytes = 0

    @property
    def listener(self) -> Callable[[bytes], None]:
        return self._listener or _nobody

    def listen(self, listener: Callable[[bytes], None]) -> None:
        self._listener = listener
        if self._early:
            self._loop.call_soon(self._deliver_early)

    def take(self, message: bytes) -> bool:
        """False when it is not kept: EARLY_BYTES wait already."""
        if self._listener is not None and not self._early:
            self._listener(message)
        elif self._early_bytes + len(message) > EARLY_BYTES:
            return False
        else:
            self._early.append(message)
            self._early_bytes += len(message)
        return True

    def clear(self) -> None:
        self._early.clear()

    def _deliver_early(self) -> None:
        while self._early and self._listener is not None:
            message = self._early.popleft()
            self._early_bytes -= len(message)
            self._listener(message)


def _nobody(message: bytes) -> None:
    """Nobody listens yet."""
