"""An event loop beside the keyboard: who enters, who is cancelled, who leaves."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meshllm.cli.background import Background
from meshllm.errors import PeerUnreachable


@asynccontextmanager
async def room(events: list[str]) -> AsyncIterator[str]:
    """Notes who came and went, and in which task: a TaskGroup wants it to be one."""
    task = asyncio.current_task()
    events.append("entered")
    try:
        async with asyncio.TaskGroup():
            yield "value"
    finally:
        events.append("left" if asyncio.current_task() is task else "left elsewhere")


def test_a_context_is_held_open_and_left_by_the_task_that_entered() -> None:
    events: list[str] = []
    with Background(room(events)) as value:
        assert (value, events) == ("value", ["entered"])
    assert events == ["entered", "left"]


def test_work_runs_in_the_other_thread_and_returns() -> None:
    async def work() -> tuple[int, str]:
        return threading.get_ident(), "done"

    background = Background(room([]))
    with background:
        thread, result = background.run(work())
    assert (thread != threading.get_ident(), result) == (True, "done")


def test_what_work_raises_is_raised_here() -> None:
    async def work() -> None:
        raise PeerUnreachable("gone")

    background = Background(room([]))
    with background, pytest.raises(PeerUnreachable, match="gone"):
        background.run(work())


def test_what_entering_raises_is_raised_here() -> None:
    @asynccontextmanager
    async def closed() -> AsyncIterator[None]:
        raise PeerUnreachable("no answer")
        yield

    with pytest.raises(PeerUnreachable, match="no answer"), Background(closed()):
        raise AssertionError("entered")


def test_ctrl_c_cancels_the_work_and_comes_when_it_has_ended() -> None:
    events: list[str] = []

    async def endless() -> None:
        try:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("ended")

    async def more() -> str:
        return "still there"

    background = Background(room(events))
    with background:
        with pytest.raises(KeyboardInterrupt):
            background.run(endless())
        assert events == ["entered", "ended"]
        assert background.run(more()) == "still there"


def test_ctrl_c_while_it_enters_ends_the_entering() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        try:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.Event().wait()
            yield
        finally:
            events.append("given up")

    with pytest.raises(KeyboardInterrupt), Background(slow()):
        raise AssertionError("entered")
    assert events == ["given up"]
