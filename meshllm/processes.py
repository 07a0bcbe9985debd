"""Child processes that end with their parent, and say why when they end early.

The parent holds a pipe on the child's stdin. However the parent dies, also by a signal
that nobody can catch, the pipe closes, and `exit_when_parent_dies` in the child acts,
or the shell of `guarded` around a program that is not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meshllm.errors import BackendError

PARENT_PIPE = "MESHLLM_PARENT_PIPE"
STDERR_TAIL = 4096  # bytes kept for the message about a child that died
LINE_LIMIT = 1024 * 1024
# A child that prints on must not block, nor fill our memory: of lines that nobody has
# read, the first are kept, because they say that it is ready.
KEPT_LINES = 256
# The shell outlives us by as long as it takes to end the child. SIGUSR2 is passed on.
# `wait` also returns when a trap ran: the child has ended when it is no more. If it
# ended just then, its code is still to be had; what was had once is 127.
_GUARD = """
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
{
  while read -r _; do :; done <&3
  kill "$child"
  sleep 3
  kill -KILL "$child"
} >/dev/null 2>&1 &
watch=$!
trap 'kill "$child"' TERM
trap 'kill -USR2 "$child"' USR2
while :; do
  wait "$child"
  code=$?
  kill -0 "$child" 2>/dev/null || break
done
wait "$child"
last=$?
[ "$last" = 127 ] || code=$last
kill "$watch"
exit "$code"
"""


class Child:
    """A running process of ours. Start it with `Child.start`, end it with `stop`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        name: str,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self._process = process
        self.name = name
        self._on_line = on_line
        self._tail = bytearray()
        self._lines: deque[str] = deque()
        self._news = asyncio.Event()
        self._readers = (
            asyncio.create_task(self._read_stdout()),
            asyncio.create_task(self._read_stderr()),
        )

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        name: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Child:
        """`env` is added to our own environment. `on_line` is told each line of stdout,
        which then is not kept. OSError when it cannot be started."""
        own_group: dict[str, Any] = (
            {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
            if sys.platform == "win32"
            else {"start_new_session": True}  # Ctrl-C is ours to pass on
        )
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {}), PARENT_PIPE: "1"},
            limit=LINE_LIMIT,
            **own_group,
        )
        return cls(process, name or os.path.basename(argv[0]), on_line)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.returncode

    @property
    def stderr_tail(self) -> str:
        return self._tail.decode(errors="replace").strip()

    def why(self) -> str:
        """How it ended, with the last line it wrote: for an error message."""
        said = self.stderr_tail.splitlines()[-1:] or ["it wrote no reason"]
        return f"{self.name} ended with {self.returncode}: {said[0]}"

    async def wait_line(self, timeout_s: float) -> str:
        """Its next line of stdout. BackendError when it ends or says nothing."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._lines:
                    if self._readers[0].done():
                        await self.wait()
                        raise BackendError(self.why())
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as exc:
            raise BackendError(
                f"{self.name} did not say in time that it is ready."
            ) from exc
        return self._lines.popleft()

    async def wait_json(self, timeout_s: float) -> dict[str, Any]:
        """Its next line of stdout that is a JSON object: how it says it is ready."""
        clock = asyncio.get_running_loop().time
        until = clock() + timeout_s
        while True:
            line = await self.wait_line(max(0.0, until - clock()))
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    return found

    def terminate(self) -> None:
        """Asks it to end: as SIGTERM does, the first time and the second."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def wait(self) -> int:
        """Until it has ended and its last words are read."""
        code = await self._process.wait()
        await asyncio.wait(self._readers)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, timeout_s: float = 5.0) -> int:
        """Asks it to end, then makes it. Returns its exit code."""
        try:
            if self.returncode is None:
                self.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._process.wait()
        finally:
            if self.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            if self._process.stdin is not None:
                self._process.stdin.close()
        return await self.wait()

    async def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        try:
            while data := await self._process.stdout.readline():
                line = data.decode(errors="replace").rstrip("\r\n")
                if self._on_line is not None:
                    self._on_line(line)
                elif len(self._lines) < KEPT_LINES:
                    self._lines.append(line)
                    self._news.set()
        except ValueError:  # a line beyond LINE_LIMIT is not one of ours
            await _drain(self._process.stdout)
        finally:
            self._news.set()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._tail = (self._tail + chunk)[-STDERR_TAIL:]


def guarded(argv: Sequence[str]) -> list[str]:
    """The command that runs this one, which then ends with its parent too (not on
    Windows). One that a signal ended has 128 + its number for a code, as in a shell."""
    return ["/bin/sh", "-c", _GUARD, "guard", *argv]


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def exit_when_parent_dies(
    before: Callable[[], None] | None = None, *, grace_s: float = 3.0
) -> None:
    """Called by a child: ends this process soon after its parent is gone.

    Does nothing unless a parent of ours started it. The process is asked to end as by
    SIGTERM, so that it may drain; after `grace_s` it ends in any case. `before` runs
    first, in the watching thread: to remove what the parent can no longer remove.
    """
    if os.environ.pop(PARENT_PIPE, "") == "1":
        threading.Thread(
            target=_watch_parent, args=(before, grace_s), daemon=True
        ).start()


def _watch_parent(before: Callable[[], None] | None, grace_s: float) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    if before is not None:
        with contextlib.suppress(OSError):
            before()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(1)
