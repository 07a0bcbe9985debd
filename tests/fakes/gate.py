"""A way to a server on this machine that can be shut: TCP through it ends there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Gate:
    """`through` says how to reach the server this way."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)

    def through(self, url: str) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(urlsplit(url)._replace(netloc=f"127.0.0.1:{port}"))

    async def shut(self) -> None:
        """What is open ends for both sides; nothing new comes through."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await asyncio.gather(*self._passing)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        far, to = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._open |= {writer, to}
        try:
            await asyncio.gather(_copy(reader, to), _copy(far, writer))
        finally:
            self._open -= {writer, to}
            self._passing.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def gate(url: str) -> AsyncIterator[Gate]:
    gate = Gate(url)
    await gate.start()
    try:
        yield gate
    finally:
        await gate.shut()
