"""A command in a terminal, as a person sees it."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fakes.commands import MESHLLM, READY_S, Commands


class Terminal:
    """A process whose stdin, stdout and stderr are one terminal."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._shown = bytearray()
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the other side is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._shown += data
        self._news.set()

    async def shows(self, text: str) -> str:
        """What came until and with `text`; later calls look behind it."""
        wanted = text.encode()
        async with asyncio.timeout(READY_S):
            while wanted not in self._shown:
                self._news.clear()
                await self._news.wait()
        end = self._shown.index(wanted) + len(wanted)
        found = bytes(self._shown[:end])
        del self._shown[:end]
        return found.decode()


@asynccontextmanager
async def in_terminal(
    meshllm: Commands, home: str, *words: str
) -> AsyncIterator[Terminal]:
    """`meshllm WORDS` of that home. What still runs at the end is killed."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*MESHLLM, "--home", str(meshllm.home(home)), *words),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **meshllm.env, "TERM": "xterm", "COLUMNS": "100"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
