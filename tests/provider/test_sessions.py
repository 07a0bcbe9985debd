"""A provider's sessions: kept without a path for a while, ended when nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from meshllm.errors import Code, NotAllowed, StreamReset
from meshllm.protocol.description import Description
from meshllm.protocol.envelope import Offer
from meshllm.protocol.session import Session
from meshllm.provider import sessions
from meshllm.provider.sessions import ASK_FROM_S, ASK_UNTIL_S, QUEUED_S, Sessions
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link, Stream
from meshllm.transport.memory import MemoryCarrier
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Caps, Role
from meshllm.trust.keys import peer_id
from tests.fakes.links import wires

ME = peer_id(bytes(32))
NOWHERE = Description(bytes(32), "user", "p" * 22, "actpass", ())
OFFER = Offer(
    path=bytes(16),
    sender=ME,
    to=ME,
    ts=0,
    conn=bytes(16),
    box=bytes(32),
    commit=bytes(32),
    versions=(1, 1),
    description=NOWHERE,
    chain=(),
)
GUEST = Admission(ME, ME, "gustav", Role.GUEST, Caps(), None, None, ME)


class House:
    """A provider's sessions and clients of them, joined in memory."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue[Stream] = asyncio.Queue()
        self.waiting: set[Stream] = set()
        self.sessions = Sessions(
            lambda stream, who: self.opened.put_nowait(stream),
            is_waiting=self.waiting.__contains__,
        )
        self.clients: list[Link] = []

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def connect(self, client: Link | None = None, id: int = 0) -> Link:
        """A path for a new client, or another one for this."""
        if client is None:
            client = Link(Session(bytes([id]) * 16, is_client=True))
            self.clients.append(client)
        near, far = wires()
        await asyncio.gather(near.said_hello(), far.said_hello())
        offered = replace(OFFER, conn=bytes([id]) * 16), bytes(32)
        self.sessions.on_path(Introduced(far, GUEST, bytes(16), offered))
        await client.start(near)
        return client

    async def ask(self, client: Link) -> tuple[Stream, Stream]:
        """A stream's both ends."""
        asked = await client.open_stream()
        asked.finish()
        return asked, await self.opened.get()

    def lose_paths(self) -> None:
        for guest in self.sessions.guests:
            assert guest.link.wire is not None
            guest.link.wire.close("cut by the test")


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.sessions.close()
    for client in house.clients:
        await client.close(Code.CANCELLED, "the test is over")


async def test_a_queued_request_waits_ten_seconds_for_a_path(house: House) -> None:
    client = await house.connect()
    _, queued = await house.ask(client)
    _, running = await house.ask(client)
    house.waiting.add(queued)
    house.lose_paths()
    house.sessions.tick(house.now + QUEUED_S - 1)
    assert queued.is_open
    house.sessions.tick(house.now + QUEUED_S)
    assert not queued.is_open
    assert running.is_open


async def test_its_caller_may_ask_elsewhere(house: House) -> None:
    client = await house.connect()
    asked, queued = await house.ask(client)
    house.waiting.add(queued)
    house.lose_paths()
    house.sessions.tick(house.now + QUEUED_S)
    await house.connect(client)
    with pytest.raises(StreamReset) as told:
        await asked.read()
    assert told.value.retryable


async def test_a_path_that_comes_back_lets_the_queue_be(house: House) -> None:
    client = await house.connect()
    _, queued = await house.ask(client)
    house.waiting.add(queued)
    house.lose_paths()
    await house.connect(client)
    house.sessions.tick(house.now + QUEUED_S)
    assert queued.is_open


async def test_a_client_that_says_nothing_is_asked_after(house: House) -> None:
    await house.connect()
    assert house.sessions.tick(house.now + ASK_FROM_S - 1) == []
    (guest,) = house.sessions.tick(house.now + ASK_FROM_S)
    assert guest.admission is GUEST
    assert house.sessions.tick(house.now + ASK_FROM_S + 1) == []
    assert house.sessions.tick(house.now + ASK_FROM_S + 5) == [guest]


async def test_one_unheard_for_long_is_not(house: House) -> None:
    """The server itself has lost those by then: its word proves nothing."""
    await house.connect()
    assert house.sessions.tick(house.now + ASK_UNTIL_S) == []


async def judged(house: House, monkeypatch: pytest.MonkeyPatch, left: bool) -> None:
    """The clients fall silent, and `judge` runs until it has asked."""
    asked = asyncio.Event()
    for client in house.clients:
        assert client.wire is not None
        assert isinstance(client.wire.carrier, MemoryCarrier)
        client.wire.carrier.cut()
    for _ in range(5):  # what was under way arrives
        await asyncio.sleep(0)

    async def has_left(path: Introduced, unheard_s: float) -> bool:
        asked.set()
        return left

    monkeypatch.setattr(sessions, "TICK_S", 0.0)
    monkeypatch.setattr(sessions, "ASK_FROM_S", 0.0)
    house.sessions.has_left = has_left
    judging = asyncio.create_task(house.sessions.judge())
    await asked.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    judging.cancel()
    await asyncio.wait([judging])


async def test_a_client_that_has_left_is_ended_with_what_it_asked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await house.connect()
    _, running = await house.ask(client)
    await judged(house, monkeypatch, left=True)
    with pytest.raises(StreamReset) as end:
        await running.drain()
    assert end.value.code is Code.GONE
    assert house.sessions.guests == []


async def test_one_that_is_there_is_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await house.connect()
    _, running = await house.ask(client)
    await judged(house, monkeypatch, left=False)
    assert running.is_open


class Server:
    """Says of everybody that they have left; counts how often it was asked."""

    def __init__(self, house: House) -> None:
        self.asked = 0
        house.sessions.has_left = self.has_left

    async def has_left(self, path: Introduced, unheard_s: float) -> bool:
        self.asked += 1
        return True


def silence(client: Link) -> None:
    """It is killed: nothing comes from it, nor arrives there."""
    assert client.wire is not None
    assert isinstance(client.wire.carrier, MemoryCarrier)
    client.wire.carrier.cut()


async def test_one_that_was_killed_is_ended_within_a_second(house: House) -> None:
    server = Server(house)
    running = [await house.ask(await house.connect(id=id)) for id in (1, 2)]
    silence(house.clients[0])
    began = house.now
    await house.sessions.look_after(bytes([1]) * 16)
    with pytest.raises(StreamReset) as end:
        await running[0][1].drain()
    assert house.now - began < 1
    assert end.value.code is Code.GONE
    assert running[1][1].is_open
    assert server.asked == 1


async def test_one_that_only_lost_the_server_is_left_alone(house: House) -> None:
    """Its own PINGs do not come in time: it answers ours."""
    server = Server(house)
    _, running = await house.ask(await house.connect(id=1))
    await house.sessions.look_after(bytes([1]) * 16)
    assert running.is_open
    assert server.asked == 0


async def test_one_that_was_silent_before_has_lost_its_network(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ASK_FROM_S", 0.0)
    server = Server(house)
    _, running = await house.ask(await house.connect(id=1))
    silence(house.clients[0])
    await house.sessions.look_after(bytes([1]) * 16)
    assert running.is_open
    assert server.asked == 0


async def test_one_that_takes_another_path_meanwhile_is_there(house: House) -> None:
    server = Server(house)
    client = await house.connect(id=1)
    _, running = await house.ask(client)
    silence(client)
    looking = asyncio.create_task(house.sessions.look_after(bytes([1]) * 16))
    await asyncio.sleep(0)
    await house.connect(client, id=1)
    await looking
    assert running.is_open
    assert server.asked == 0


async def test_what_all_detached_sessions_hold_is_bounded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "REPLAY_MAX", 250_000)
    running = []
    for id in range(3):
        client = await house.connect(id=id)
        running.append((await house.ask(client))[1])
    for guest in house.sessions.guests:  # one after the other
        assert guest.link.wire is not None
        guest.link.wire.close("cut by the test")
    for stream in running:
        stream.write(bytes(100_000))
    ended = asyncio.Event()
    running[0].on_end = ended.set
    house.sessions.tick(house.now)
    await ended.wait()
    with pytest.raises(StreamReset) as end:
        await running[0].drain()
    assert end.value.code is Code.GONE
    assert [stream.is_open for stream in running] == [False, True, True]


async def test_while_draining_a_lost_path_may_come_back(house: House) -> None:
    client = await house.connect()
    asked, running = await house.ask(client)
    draining = asyncio.create_task(house.sessions.drain())
    await asyncio.sleep(0)
    house.lose_paths()
    await house.connect(client)
    running.write(b"answer")
    running.finish()
    assert await asked.read() == b"answer"
    assert await asked.read() == b""
    await draining


async def test_but_nobody_new_comes_in(house: House) -> None:
    await house.sessions.drain()
    with pytest.raises(NotAllowed, match="shutting down") as refused:
        await house.connect()
    assert refused.value.code is Code.DRAINING
    assert house.sessions.guests == []
