"""How many requests run at once, and how many may wait for their turn.

First come, first served. A waiter that is cancelled leaves the line at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshllm.errors import Code, NotAllowed


class Slots:
    """`parallel` requests run, `queue` more wait; the next one is refused as busy."""

    def __init__(self, parallel: int, queue: int) -> None:
        self.parallel = parallel
        self.queue = queue
        self.running = 0
        self.refused = 0
        self.on_waited: Callable[[float], None] = lambda seconds: None
        self.on_ran: Callable[[float], None] = lambda seconds: None
        self._waiting: OrderedDict[asyncio.Future[None], Callable[[int], None]] = (
            OrderedDict()
        )

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def take(self, on_position: Callable[[int], None]) -> AsyncIterator[None]:
        """A slot for as long as the block runs. `on_position` hears 1, 2, … in line."""
        asked_at = time.monotonic()
        await self._enter(on_position)
        began_at = time.monotonic()
        self.on_waited(began_at - asked_at)
        try:
            yield
        finally:
            self.on_ran(time.monotonic() - began_at)
            self._leave()

    async def _enter(self, on_position: Callable[[int], None]) -> None:
        if self.running < self.parallel:
            self.running += 1
            return
        if len(self._waiting) >= self.queue:
            self.refused += 1
            raise NotAllowed(
                "server busy, please try again.  maximum pending requests exceeded",
                Code.BUSY,
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = on_position
        on_position(len(self._waiting))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # it was given a slot in the same moment
            self._waiting.pop(turn, None)
            self._tell()
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)  # the slot passes on: `running` stays
                self._tell()
                return
        self.running -= 1

    def _tell(self) -> None:
        for position, on_position in enumerate(self._waiting.values(), 1):
            on_position(position)
