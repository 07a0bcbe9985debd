"""A model server in this process, whose every step waits for the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from meshllm.backends.base import BackendRequest, BackendResponse
from meshllm.dialects import NDJSON, Model
from meshllm.errors import BackendError

MODEL = Model("tiny:1b", context_length=4096)


class Script:
    """One answer: the test feeds its chunks and sees when it was closed."""

    def __init__(self, request: BackendRequest) -> None:
        self.request = request
        self.status = 200
        self.content_type = NDJSON
        self.timing = {"load": 1.5}
        self.closed = asyncio.Event()
        self.taken = 0
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    def say(self, chunk: bytes) -> None:
        self._chunks.put_nowait(chunk)

    def end(self) -> None:
        self._chunks.put_nowait(None)

    def break_off(self, reason: str) -> None:
        self._chunks.put_nowait(BackendError(reason))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            self.taken += 1
            yield chunk

    async def aclose(self) -> None:
        self.closed.set()


class ScriptedBackend:
    """`asked` yields a Script for each request, in order."""

    kind = "scripted"
    url = "memory"
    parallel: int | None = 1

    def __init__(self, *models: Model) -> None:
        self.list = list(models or [MODEL])
        self.asked: asyncio.Queue[Script] = asyncio.Queue()
        self.error: BackendError | None = None
        self.hold: asyncio.Event | None = None
        self.cancelled = asyncio.Event()

    async def models(self) -> list[Model]:
        if self.error is not None:
            raise self.error
        return self.list

    async def run(self, request: BackendRequest) -> BackendResponse:
        if self.error is not None:
            raise self.error
        script = Script(request)
        self.asked.put_nowait(script)
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return script

    async def aclose(self) -> None:
        """Nothing is open."""
