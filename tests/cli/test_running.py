"""Running a command: what is slow shows on a terminal, and only there."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from meshllm.cli import running
from meshllm.cli.running import Signals, run, shown


@contextmanager
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """stderr is a terminal whose other end this is. No fixture: pytest puts its own
    stderr back between a test's setup and the test."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    monkeypatch.setenv("TERM", "xterm")
    with open(theirs, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        yield ours
    os.close(ours)


def seen(terminal: int) -> str:
    try:
        return os.read(terminal, 65536).decode()
    except BlockingIOError:
        return ""


async def test_what_takes_long_says_what_it_is_and_goes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "SLOW_S", 0.0)
    screen = ""
    with on_terminal(monkeypatch) as terminal:
        async with shown(lambda: "Looking around"), asyncio.timeout(10):
            while "Looking around" not in screen:
                await asyncio.sleep(0.01)
                screen += seen(terminal)
        assert "\x1b[2K" in screen + seen(terminal)  # the line is erased


async def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_terminal(monkeypatch) as terminal:
        async with shown(lambda: "Looking around"):
            pass
        assert seen(terminal) == ""


async def test_without_a_terminal_nothing_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "SLOW_S", 0.0)
    async with shown(lambda: "Looking around"):
        await asyncio.sleep(0.05)
    assert capsys.readouterr() == ("", "")


def test_before_anything_is_served_a_signal_ends_at_once() -> None:
    async def starting() -> None:
        async with Signals():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        run(starting())


def test_while_serving_the_first_signal_asks_and_the_second_ends() -> None:
    events = []

    async def serving() -> None:
        async with Signals() as signals:
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            await signals.wait()
            events.append("draining")
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        run(serving())
    assert events == ["draining"]


def test_afterwards_signals_mean_what_they_did_before() -> None:
    async def serving() -> None:
        async with Signals():
            pass

    before = signal.getsignal(signal.SIGTERM)
    run(serving())
    assert signal.getsignal(signal.SIGTERM) == before
