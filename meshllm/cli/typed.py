"""What a person types while the event loop runs, and what is waited for meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from meshllm.errors import MeshError

if TYPE_CHECKING:
    from rich.status import Status

READ_BYTES = 4_096


class TypedLines:
    """Lines of stdin, from the first that is asked for on.

    A thread reads, because only a thread can read a terminal, a pipe and a file alike.
    Nothing stops it while it waits; it ends with the process.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def next(self) -> str:
        """MeshError when stdin has ended."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._read, daemon=True).start()
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
            raise MeshError("Nothing was typed: stdin has ended.")
        return line

    def _read(self) -> None:
        rest = b""
        while data := _read_some():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._tell(line.decode(errors="replace"))
        if rest:
            self._tell(rest.decode(errors="replace"))
        self._tell(None)

    def _tell(self, line: str | None) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended before us
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _read_some() -> bytes:
    """Not by sys.stdin: its lock, held at the end of the process, would be fatal."""
    try:
        return os.read(sys.stdin.fileno(), READ_BYTES)
    except (OSError, ValueError, AttributeError):  # there is no stdin
        return b""


class Countdown:
    """On a terminal one line says what is waited for, and how long still."""

    def __init__(self) -> None:
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hide()

    def show(self, text: str, until: float) -> None:
        self.hide()
        if not sys.stderr.isatty():
            return
        from rich.console import Console

        self._status = Console(stderr=True).status(_Left(text, until))
        self._status.start()

    def hide(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


class _Left:
    """Rendered anew each time it is drawn."""

    def __init__(self, text: str, until: float) -> None:
        self._text = text
        self._until = until

    def __rich__(self) -> str:
        return f"{self._text} {clock(self._until - time.time())}"


def clock(seconds: float) -> str:
    """As minutes and seconds: 9:59."""
    left = max(0, int(seconds))
    return f"{left // 60}:{left % 60:02}"
