"""A way to a signaling server that can die without a word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


@contextlib.asynccontextmanager
async def wall(
    url: str,
) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A way to the hub at `url` that can silently lose everything on the connections it
    has, as a router does that forgot them. New connections pass."""
    port = int(url.rpartition(":")[2])
    passing: list[asyncio.Event] = []

    async def pump(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opened: asyncio.Event,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if opened.is_set():
                    writer.write(data)
        writer.close()

    async def accept(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        opened = asyncio.Event()
        opened.set()
        passing.append(opened)
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(pump(reader, back, opened))
            pumps.create_task(pump(there, writer, opened))

    def block() -> None:
        for opened in passing:
            opened.clear()

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with proxy:
        own = proxy.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{own}", block
