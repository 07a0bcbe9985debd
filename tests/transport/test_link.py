"""Links over memory carriers: streams that wait, end, and outlive their path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from meshllm.errors import Code, PeerUnreachable, RemoteProtocolError, StreamReset
from meshllm.protocol.frames import Hello, Resume
from meshllm.protocol.path import Path
from meshllm.protocol.session import Session
from meshllm.protocol.streams import INITIAL_CREDIT
from meshllm.transport.link import Link, Stream
from meshllm.transport.memory import MemoryCarrier
from meshllm.transport.wire import Wire

SESSION = bytes(16)


def believe(hello: Hello) -> None:
    """These tests are not about who the peer is."""


def refuse(hello: Hello) -> None:
    raise RemoteProtocolError("HELLO does not hold")


def wires(*, check: object = believe) -> tuple[Wire, Wire]:
    here, there = MemoryCarrier.pair()
    client = Path(Hello(1, bytes(32), bytes(64)), believe, is_client=True)
    verify = refuse if check is refuse else believe
    provider = Path(Hello(2, bytes(32), bytes(64)), verify, is_client=False)
    return Wire(here, client, silent_s=10), Wire(there, provider, silent_s=30)


@dataclass
class Pair:
    client: Link
    provider: Link
    opened: asyncio.Queue[Stream] = field(default_factory=asyncio.Queue)

    async def connect(self) -> None:
        """A new path for both, and OPEN or RESUME on it."""
        near, far = wires()

        def attach(wire: Wire, frames: list[object]) -> None:
            self.provider.take(wire)
            self.provider.on_frames(wire, frames)  # type: ignore[arg-type]

        far.on_frames = attach  # type: ignore[assignment]
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


async def test_a_question_and_its_answer_cross() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.write(b"question")
        asked.finish()
        answering = await pair.opened.get()
        assert await read_all(answering) == b"question"
        answering.write(b"answer")
        answering.finish()
        assert await read_all(asked) == b"answer"


async def test_streams_that_both_sides_completed_are_forgotten() -> None:
    async with connected() as pair:
        for _ in range(100):
            asked = await pair.client.open_stream()
            asked.finish()
            answering = await pair.opened.get()
            await read_all(answering)
            answering.finish()
            await read_all(asked)
        last = await pair.client.open_stream()
        last.finish()
        await read_all(await pair.opened.get())
        assert (pair.client.load, pair.provider.load) == (1, 1)


async def test_a_writer_waits_for_its_reader_and_holds_bounded_memory() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.finish()
        answering = await pair.opened.get()

        async def flood() -> None:
            for _ in range(1000):
                answering.write(bytes(10_000))
                await answering.drain()
            answering.finish()

        flooding = asyncio.create_task(flood())
        for _ in range(200):
            await asyncio.sleep(0)
        assert not flooding.done()
        assert pair.provider.session.mux.held < INITIAL_CREDIT + 200_000
        assert len(await read_all(asked)) == 10_000_000
        await flooding


async def test_a_cancel_reaches_the_other_side() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.write(b"question")
        answering = await pair.opened.get()
        asked.reset(Code.CANCELLED, "the program went away")
        with pytest.raises(StreamReset, match="went away") as ended:
            await read_all(answering)
        assert ended.value.code is Code.CANCELLED


async def test_an_answer_goes_on_after_its_path_was_lost() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.finish()
        answering = await pair.opened.get()
        numbers = b"".join(b"%d " % n for n in range(20_000))
        answering.write(numbers[:60_000])
        first = await asked.read()
        pair.lose_path()
        answering.write(numbers[60_000:])
        answering.finish()
        await pair.connect()
        assert first + await read_all(asked) == numbers


async def test_the_65th_stream_waits_for_its_turn() -> None:
    async with connected() as pair:
        streams = [await pair.client.open_stream() for _ in range(64)]
        waiting = asyncio.create_task(pair.client.open_stream())
        await asyncio.sleep(0)
        assert not waiting.done()
        streams[0].reset(Code.CANCELLED, "not needed")
        assert (await waiting).id == 65


async def test_closing_the_session_ends_its_streams() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        await pair.provider.close(Code.DRAINING, "shutting down")
        with pytest.raises(StreamReset, match="shutting down"):
            await read_all(asked)
        with pytest.raises(PeerUnreachable):
            await pair.client.open_stream()


async def test_a_peer_that_cannot_prove_itself_gets_no_session() -> None:
    near, far = wires(check=refuse)
    with pytest.raises(RemoteProtocolError, match="does not hold"):
        await far.said_hello()
    link = Link(Session(SESSION, is_client=True))
    with pytest.raises(PeerUnreachable):
        await near.said_hello()
        await link.start(near)
    await link.close(Code.CANCELLED, "over")
    near.close("over")
    await asyncio.gather(near.closed(), far.closed())


async def test_a_session_the_provider_does_not_know_cannot_be_resumed() -> None:
    async with connected() as pair:
        pair.lose_path()
        near, far = wires()
        seen: asyncio.Queue[object] = asyncio.Queue()

        def forget(wire: Wire, frames: list[object]) -> None:
            seen.put_nowait(frames[0])
            wire.close("an unknown session")

        far.on_frames = forget  # type: ignore[assignment]
        await near.said_hello()
        with pytest.raises(PeerUnreachable):
            await pair.client.start(near)
        assert isinstance(await seen.get(), Resume)
