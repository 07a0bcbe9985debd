"""Links over memory carriers: streams that wait, end, and outlive their path."""

from __future__ import annotations

import asyncio
import time

import pytest

from meshllm.errors import Code, PeerUnreachable, RemoteProtocolError, StreamReset
from meshllm.protocol.frames import Data, Frame, Resume
from meshllm.protocol.session import Session
from meshllm.protocol.streams import CREDIT_STEP, INITIAL_CREDIT
from meshllm.transport.link import Link
from meshllm.transport.memory import MemoryCarrier
from meshllm.transport.wire import Wire
from tests.fakes.links import SESSION, connected, read_all, refuse, wires


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


async def test_a_link_tells_of_the_path_that_it_has_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 1_000.0
    monkeypatch.setattr(time, "time", lambda: clock)
    async with connected() as pair:
        first = pair.client.describe()
        assert (first["path"], first["relay"], first["since"]) == ("host", False, 1_000)
        assert first["rtt_ms"] > 0
        clock = 2_000.0
        monkeypatch.setattr(MemoryCarrier, "kind", "relay")  # ICE has moved it
        moved = pair.client.describe()
        assert (moved["path"], moved["relay"], moved["since"]) == ("relay", True, 1_000)
        await pair.connect()
        assert pair.client.describe()["since"] == 2_000


async def test_a_link_without_a_path_has_the_same_keys() -> None:
    async with connected() as pair:
        with_path = pair.client.describe()
        assert pair.client.wire is not None
        pair.client.wire.close("cut by the test")
        without = pair.client.describe()
    assert without == dict.fromkeys(with_path) | {"streams": 0}


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


async def test_an_open_that_comes_with_hello_waits_for_its_session() -> None:
    near, far = wires()
    client = Link(Session(SESSION, is_client=True))
    await near.said_hello()
    starting = asyncio.create_task(client.start(near))
    for _ in range(20):
        await asyncio.sleep(0)  # OPEN is there; nobody has taken the wire yet
    provider = Link(Session(SESSION, is_client=False))
    provider.take(far)
    await starting
    await client.close(Code.CANCELLED, "over")
    await provider.close(Code.CANCELLED, "over")


async def test_a_session_the_provider_does_not_know_cannot_be_resumed() -> None:
    async with connected() as pair:
        pair.lose_path()
        near, far = wires()
        seen: asyncio.Queue[Frame] = asyncio.Queue()

        def forget(wire: Wire, frames: list[Frame]) -> None:
            seen.put_nowait(frames[0])
            wire.close("an unknown session")

        far.on_frames = forget
        await near.said_hello()
        with pytest.raises(PeerUnreachable):
            await pair.client.start(near)
        assert isinstance(await seen.get(), Resume)


async def test_whoever_closes_ends_its_own_exchanges_too() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.finish()
        answering = await pair.opened.get()
        ended = asyncio.Event()
        answering.on_end = ended.set
        await pair.provider.close(Code.REVOKED, "not any more")
        assert ended.is_set()
        with pytest.raises(StreamReset, match="not any more"):
            await answering.drain()
        with pytest.raises(StreamReset, match="not any more"):
            await asked.read()


class _Cup:
    """A sink that is full from 15,000 bytes on, until it was drained."""

    def __init__(self) -> None:
        self.taken = self.held = 0

    def write(self, data: bytes) -> None:
        self.taken += len(data)
        self.held += len(data)

    @property
    def is_full(self) -> bool:
        return self.held >= 15_000

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.held = 0


async def test_what_is_poured_is_all_acknowledged() -> None:
    """Else the writer's credit would run out, once and for all."""
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.finish()
        answering = await pair.opened.get()
        cup = _Cup()
        pouring = asyncio.create_task(asked.pour(cup))
        for _ in range(500):
            answering.write(bytes(10_000))
            await answering.drain()
        answering.finish()
        await pouring
        assert cup.taken == 5_000_000


async def test_a_sink_that_is_full_twice_in_one_turn_acknowledges_both() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.finish()
        await read_all(await pair.opened.get())
        cup = _Cup()
        pouring = asyncio.create_task(asked.pour(cup))
        wire, id = pair.client.wire, asked.id
        assert wire is not None
        pair.client.on_frames(wire, [Data(id, 0, False, b"begun")])
        while not cup.taken:
            await asyncio.sleep(0)
        half = bytes(CREDIT_STEP // 2)  # one of them alone makes no ACK due
        frames: list[Frame] = [
            Data(id, 5, False, half),
            Data(id, 5 + len(half), False, half),
        ]
        pair.client.on_frames(wire, frames)
        pair.client.on_frames(wire, [Data(id, 5 + 2 * len(half), True, b"")])
        await pouring
        assert cup.taken == 5 + 2 * len(half)
        ack = pair.client.session.mux.take_ack()
        assert ack is not None
        assert ack.ack == 5 + 2 * len(half) + 1  # FIN takes one


async def test_a_cancel_ends_what_is_poured() -> None:
    async with connected() as pair:
        asked = await pair.client.open_stream()
        asked.write(b"question")
        answering = await pair.opened.get()
        cup = _Cup()
        pouring = asyncio.create_task(asked.pour(cup))
        answering.write(b"first")
        while not cup.taken:
            await asyncio.sleep(0)
        answering.reset(Code.BACKEND, "the model server died")
        with pytest.raises(StreamReset, match="died"):
            await pouring
        assert cup.taken == 5
