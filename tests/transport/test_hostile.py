"""A peer that sends what no peer of ours would: before HELLO, and after it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import MeshError
from meshllm.protocol import frames as f
from meshllm.protocol.path import Path
from meshllm.provider.sessions import Sessions
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Stream
from meshllm.transport.memory import MemoryCarrier
from meshllm.transport.wire import Wire
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Caps, Role
from tests.fakes.frames import frames
from tests.fakes.links import SESSION, believe
from tests.fakes.people import id_of

EVE = id_of("eve")
GUEST = Admission(EVE, EVE, "eve", Role.GUEST, Caps(), None, None, EVE)
HELLO = f.encode(f.Hello(1, bytes(32), bytes(64)))
OPEN = f.encode(f.Open(SESSION, 1))
GARBAGE = [
    b"",
    b"\xff" * 100,
    b"\x00",
    bytes(16_384),
    bytes(20_000),  # longer than a message may be
    b'{"model": "tiny"}',
    b"GET / HTTP/1.1\r\n\r\n",
]


class Door:
    """A provider's end of a path, and the stranger's carrier to it."""

    def __init__(self) -> None:
        self.stranger, ours = MemoryCarrier.pair()
        self.streams: list[Stream] = []
        self.sessions = Sessions(lambda stream, who: self.streams.append(stream))
        path = Path(f.Hello(2, bytes(32), bytes(64)), believe, is_client=False)
        self.wire = Wire(ours, path, silent_s=30)

    def attach(self) -> None:
        """As the introducer does once HELLO is verified."""
        self.sessions.on_path(Introduced(self.wire, GUEST, bytes(16)))

    def say(self, *messages: bytes) -> None:
        for message in messages:
            self.stranger.send(message)

    async def shut(self) -> None:
        while not self.wire.is_closed:
            await asyncio.sleep(0)
        await self.wire.closed()
        await self.sessions.close()


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_before_hello_anything_else_closes_the_path(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    door = Door()
    door.say(garbage)
    with pytest.raises(MeshError):
        await door.wire.said_hello()
    await door.shut()
    assert "path closed: " in caplog.text


@pytest.mark.parametrize(
    "early", [OPEN, f.encode(f.Data(1, 0, True, b"x")), f.encode(f.Ping(1))]
)
async def test_a_frame_that_is_right_later_is_wrong_before_hello(early: bytes) -> None:
    door = Door()
    door.say(early, HELLO, OPEN)
    with pytest.raises(MeshError):
        await door.wire.said_hello()
    await door.shut()
    assert door.streams == []


@pytest.mark.parametrize(
    "first",
    [
        f.encode(f.Data(1, 0, True, b"x")),
        f.encode(f.Ready(1, ())),
        f.encode(f.Info(1, b"{}")),
        *GARBAGE[1:5],
    ],
    ids=range(7),
)
async def test_after_hello_only_open_begins_a_session(first: bytes) -> None:
    door = Door()
    door.say(HELLO)
    await door.wire.said_hello()
    door.attach()
    door.say(first)
    await door.shut()
    assert (door.streams, door.sessions.guests) == ([], [])


async def test_one_that_opens_and_then_breaks_the_rules_loses_its_path_alone() -> None:
    good, bad = Door(), Door()
    for door in (good, bad):
        door.say(HELLO)
        await door.wire.said_hello()
        door.attach()
        door.say(OPEN)
    bad.say(b"\xff" * 100)
    await bad.shut()
    good.say(f.encode(f.Data(1, 0, True, b"hello")))
    while not good.streams:
        await asyncio.sleep(0)
    assert await good.streams[0].read() == b"hello"
    good.wire.close("the test is over")
    await good.shut()


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=64), frames(session=st.just(SESSION)).map(f.encode)
        ),
        max_size=8,
    )
)
def test_whatever_comes_nobody_is_harmed(messages: list[bytes]) -> None:
    """No exception escapes into the loop, whose handler would be told."""

    async def scene() -> None:
        escaped: list[dict[str, object]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: escaped.append(context))
        door = Door()
        door.say(HELLO)
        await door.wire.said_hello()
        door.attach()
        door.say(OPEN, *messages)
        for _ in range(len(messages) + 4):
            await asyncio.sleep(0)
        door.wire.close("the test is over")
        await door.shut()
        assert escaped == []

    asyncio.run(scene())
