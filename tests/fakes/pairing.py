"""`meshllm pair` in a process of its own, read and typed into by a test."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.commands import MESHLLM, READY_S, Commands


class Pairing:
    """A `meshllm pair --json` whose stdin is a pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until(self, event: str) -> dict[str, Any]:
        """The next event of that name."""
        assert self.process.stdout is not None
        async with asyncio.timeout(READY_S):
            while line := await self.process.stdout.readline():
                said: dict[str, Any] = json.loads(line)
                if said["event"] == event:
                    return said
        raise AssertionError(await self.fails())

    def type(self, digits: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{digits}\n".encode())

    async def ends(self) -> int:
        async with asyncio.timeout(READY_S):
            return await self.process.wait()

    async def fails(self) -> str:
        """What it says on stderr, having failed."""
        assert self.process.stderr is not None
        async with asyncio.timeout(READY_S):
            said = (await self.process.stderr.read()).decode()
            assert await self.process.wait() == 1, said
        return said


@asynccontextmanager
async def pairing(
    meshllm: Commands, home: str, *words: str, at: tuple[str, ...] = ()
) -> AsyncIterator[Pairing]:
    """Killed at the end, if it still runs. `at` leads into a network namespace."""
    process = await asyncio.create_subprocess_exec(
        *(*at, *MESHLLM, "--home", str(meshllm.home(home)), "pair", "--json", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **meshllm.env},
    )
    try:
        yield Pairing(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
