"""Pouring: bytes handed on where they arrive, without waking a task for each piece.

A task that reads costs an answer as much per token as all of the protocol: a future, a
turn of the loop, and every coroutine that waits above it. So a source gives its bytes
to the sink in the very call that brought them, for as long as the sink has room, and
its reader sleeps until the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Protocol


class Sink(Protocol):
    """Takes bytes at once; may say that it has enough."""

    def write(self, data: bytes) -> None:
        """Never waits, and never raises: what is wrong, `drain` raises."""

    @property
    def is_full(self) -> bool:
        """Nothing more, please, until `drain` has returned."""

    async def drain(self) -> None: ...


class Pouring:
    """A source that can. (No Protocol: to look for one takes 9 us.)"""

    async def pour(self, sink: Sink) -> None:
        """All that is to come, until the end. Raises what reading it raises."""
        raise NotImplementedError


class Source(Pouring):
    """What pours by way of `_sink`: set while bytes shall go straight there."""

    _sink: Sink | None = None

    async def read(self) -> bytes:
        """The next bytes, b"" after the last; those before count as consumed."""
        raise NotImplementedError

    async def pour(self, sink: Sink) -> None:
        while True:
            if sink.is_full:
                await sink.drain()
            data = await self.read()
            if not data:
                return
            sink.write(data)
            if not sink.is_full:
                self._sink = sink
                try:
                    await self._woken()
                finally:
                    self._sink = None

    async def _woken(self) -> None:
        """Until the end, an error, or a full sink: at once if that is so already."""
        raise NotImplementedError


async def pour(source: Pouring | AsyncIterable[bytes], sink: Sink) -> None:
    """The same for any source: piece by piece where it cannot pour."""
    if isinstance(source, Pouring):
        await source.pour(sink)
        return
    async for data in source:
        sink.write(data)
        if sink.is_full:
            await sink.drain()
