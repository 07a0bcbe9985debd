"""Lines of stdin while the loop runs, from a pipe; and how time is shown."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator

import pytest

from meshllm.cli.typed import TypedLines, clock
from meshllm.errors import MeshError

WAIT_S = 5


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of stdin; the test closes it."""
    read, write = os.pipe()
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield write


async def test_lines_come_as_they_are_typed(typing: int) -> None:
    typed = TypedLines()
    os.write(typing, b"one\ntw")
    async with asyncio.timeout(WAIT_S):
        assert await typed.next() == "one"
        waiting = asyncio.ensure_future(typed.next())
        os.write(typing, b"o\n")
        assert await waiting == "two"
        os.write(typing, "drei ü\nlast".encode())
        os.close(typing)
        assert [await typed.next(), await typed.next()] == ["drei ü", "last"]
        for _ in range(2):
            with pytest.raises(MeshError, match="stdin has ended"):
                await typed.next()


async def test_a_question_that_was_given_up_takes_no_line(typing: int) -> None:
    typed = TypedLines()
    async with asyncio.timeout(WAIT_S):
        asked = asyncio.ensure_future(typed.next())
        await asyncio.sleep(0)
        asked.cancel()
        os.write(typing, b"one\n")
        assert await typed.next() == "one"
    os.close(typing)


async def test_without_stdin_nothing_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(MeshError, match="stdin has ended"):
        await TypedLines().next()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(600, "10:00"), (599.9, "9:59"), (61, "1:01"), (-3, "0:00")]
)
def test_time_is_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
