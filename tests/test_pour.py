"""Pouring: what comes goes straight to the sink while it has room, and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshllm.pour import Source, pour


class Spring(Source):
    """Bytes as the test brings them; `woken` counts how often its reader ran."""

    def __init__(self) -> None:
        self.woken = 0
        self.error: Exception | None = None
        self._kept: list[bytes] = []
        self._is_over = False
        self._wake = asyncio.Event()

    def bring(self, data: bytes) -> None:
        if self._sink is not None and not self._kept:
            self._sink.write(data)
            if self._sink.is_full:
                self._wake.set()
        else:
            self._kept.append(data)
            self._wake.set()

    def end(self, error: Exception | None = None) -> None:
        self._is_over, self.error = True, error
        self._wake.set()

    async def read(self) -> bytes:
        while not self._kept and not self._is_over:
            await self._wait()
        data = b"".join(self._kept)
        self._kept.clear()
        if not data and self.error is not None:
            raise self.error
        return data

    async def _woken(self) -> None:
        if not self._is_over:
            await self._wait()

    async def _wait(self) -> None:
        self._wake.clear()
        await self._wake.wait()
        self.woken += 1


class Cup:
    """Holds `size` bytes until the test drinks."""

    def __init__(self, size: int = 1000) -> None:
        self.taken = b""
        self._room = self._size = size
        self._drunk = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.taken += data
        self._room -= len(data)

    @property
    def is_full(self) -> bool:
        return self._room <= 0

    async def drain(self) -> None:
        await self._drunk.wait()

    def drink(self) -> None:
        self._room = self._size
        self._drunk.set()


async def turns() -> None:
    """Everything that can run has run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_pieces_go_straight_in_and_wake_nobody() -> None:
    spring, cup = Spring(), Cup()
    pouring = asyncio.create_task(pour(spring, cup))
    await turns()
    for piece in (b"one ", b"two ", b"three "):
        spring.bring(piece)
        await turns()
    spring.bring(b"four")
    assert cup.taken == b"one two three four"
    assert spring.woken == 1  # for the first
    spring.end()
    await pouring


async def test_a_full_sink_is_left_in_peace_and_then_gets_all_in_order() -> None:
    spring, cup = Spring(), Cup(4)
    pouring = asyncio.create_task(pour(spring, cup))
    await turns()
    spring.bring(b"a")
    await turns()
    spring.bring(b"bcd")
    spring.bring(b"e")  # in the same turn: the sink is full
    await turns()
    spring.bring(b"f")
    await turns()
    assert cup.taken[:4] == b"abcd"
    assert len(cup.taken) <= 5
    cup.drink()
    await turns()
    spring.bring(b"g")
    spring.end()
    await pouring
    assert cup.taken == b"abcdefg"


async def test_an_error_comes_after_the_bytes_before_it() -> None:
    spring, cup = Spring(), Cup()
    pouring = asyncio.create_task(pour(spring, cup))
    await turns()
    spring.bring(b"half")
    await turns()
    spring.end(ConnectionError("cut"))
    with pytest.raises(ConnectionError, match="cut"):
        await pouring
    assert cup.taken == b"half"


async def test_whoever_is_cancelled_gets_nothing_more() -> None:
    spring, cup = Spring(), Cup()
    pouring = asyncio.create_task(pour(spring, cup))
    await turns()
    spring.bring(b"a")
    await turns()
    pouring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pouring
    spring.bring(b"b")
    assert cup.taken == b"a"
    assert await spring.read() == b"b"


async def test_what_cannot_pour_is_read() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield piece

    cup = Cup(2)
    pouring = asyncio.create_task(pour(pieces(), cup))
    await turns()
    assert cup.taken == b"ab"
    cup.drink()
    await pouring
    assert cup.taken == b"abc"
