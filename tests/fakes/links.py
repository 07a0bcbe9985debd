"""Two links joined by memory carriers: a session with nothing real beneath it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meshllm.errors import Code, RemoteProtocolError
from meshllm.protocol.frames import Frame, Hello
from meshllm.protocol.path import Path
from meshllm.protocol.session import Session
from meshllm.transport.link import Link, Stream
from meshllm.transport.memory import MemoryCarrier
from meshllm.transport.wire import Wire

SESSION = bytes(16)


def believe(hello: Hello) -> None:
    """These tests are not about who the peer is."""


def refuse(hello: Hello) -> None:
    raise RemoteProtocolError("HELLO does not hold")


def wires(*, check: Callable[[Hello], None] = believe) -> tuple[Wire, Wire]:
    """The client's and the provider's end; the provider's `check` judges HELLO."""
    here, there = MemoryCarrier.pair()
    client = Path(Hello(1, bytes(32), bytes(64)), believe, is_client=True)
    provider = Path(Hello(2, bytes(32), bytes(64)), check, is_client=False)
    return Wire(here, client, silent_s=10), Wire(there, provider, silent_s=30)


@dataclass
class Pair:
    client: Link
    provider: Link
    opened: asyncio.Queue[Stream] = field(default_factory=asyncio.Queue)

    async def connect(self) -> None:
        """A new path for both, and OPEN or RESUME on it."""
        near, far = wires()

        def attach(wire: Wire, frames: list[Frame]) -> None:
            self.provider.take(wire)
            self.provider.on_frames(wire, frames)

        far.on_frames = attach
        await asyncio.gather(near.said_hello(), far.said_hello())
        await self.client.start(near)

    def lose_path(self) -> None:
        assert self.client.wire is not None
        assert self.provider.wire is not None
        self.provider.wire.close("cut by the test")
        if self.client.wire is not None:
            self.client.wire.close("cut by the test")


@asynccontextmanager
async def connected() -> AsyncIterator[Pair]:
    pair = Pair(
        Link(Session(SESSION, is_client=True)), Link(Session(SESSION, is_client=False))
    )
    pair.provider.on_stream = pair.opened.put_nowait
    await pair.connect()
    try:
        yield pair
    finally:
        await pair.client.close(Code.CANCELLED, "the test is over")
        await pair.provider.close(Code.CANCELLED, "the test is over")


async def read_all(stream: Stream) -> bytes:
    parts = []
    while data := await stream.read():
        parts.append(data)
    return b"".join(parts)
