"""A pair of carriers inside one process: what one sends the other gets, in order.

The transport for tests of everything above it, and for a node that asks itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar


class MemoryCarrier:
    """Delivers in a later turn of the loop; `cut` loses everything from then on."""

    kind = "host"
    is_stalled = False
    candidates: ClassVar[dict[str, str]] = {"local": "memory", "remote": "memory"}

    def __init__(self) -> None:
        self.on_message: Callable[[bytes], None] = lambda message: None
        self.on_low: Callable[[], None] = lambda: None
        self.on_closed: Callable[[str], None] = lambda reason: None
        self.on_stall: Callable[[], None] = lambda: None
        self.buffered = 0
        self.is_cut = False
        self.is_closed = False
        self.sent: int = 0
        self._peer: MemoryCarrier | None = None

    @classmethod
    def pair(cls) -> tuple[MemoryCarrier, MemoryCarrier]:
        one, other = cls(), cls()
        one._peer, other._peer = other, one
        return one, other

    @property
    def rtt_s(self) -> float | None:
        return None

    def send(self, message: bytes) -> None:
        self.buffered += len(message)
        self.sent += len(message)
        asyncio.get_running_loop().call_soon(self._deliver, message)

    def cut(self) -> None:
        """Silence in this direction, as when a cable is pulled."""
        self.is_cut = True

    async def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            if self._peer is not None and not self._peer.is_closed:
                self._peer.on_closed("the peer closed the path")

    def _deliver(self, message: bytes) -> None:
        self.buffered -= len(message)
        if self._peer is None or self.is_closed:
            return
        if not self.is_cut and not self._peer.is_closed:
            self._peer.on_message(message)
        if not self.buffered:
            self.on_low()
