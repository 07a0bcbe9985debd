"""Sessions kept warm: dialled once, given another path, given up when all is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from meshllm.dialects import Model
from meshllm.errors import Code, MeshError, PeerGone, PeerUnreachable, StreamReset
from meshllm.protocol import path
from meshllm.protocol.path import SILENT_S
from meshllm.provider.sessions import Sessions
from meshllm.routing import links, revival
from meshllm.routing.choose import Warmth
from meshllm.routing.links import Links
from meshllm.routing.roster import Provider
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link, Stream
from meshllm.transport.memory import MemoryCarrier
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement
from meshllm.trust.grants import Caps, Role
from meshllm.trust.keys import PeerId, peer_id
from tests.fakes.links import wires

ID = peer_id(bytes(32))
MEMBER = Admission(ID, ID, "mia", Role.MEMBER, Caps(), None, None, ID)
CARD = Announcement(ID, ID, bytes(16), bytes(32), (1, 1), "scripted", 1, (), (), 1)
MIA = Provider(CARD, MEMBER, (Model("tiny:1b"),))
MIA_ANEW = replace(MIA, announcement=replace(CARD, conn=bytes([1]) * 16))


class Street:
    """One provider, its roster entry, and links to it, joined in memory."""

    def __init__(self) -> None:
        self.listed: Provider | None = MIA
        self.dialled: list[Provider] = []
        self.error: MeshError | None = None
        self.hold: asyncio.Event | None = None
        self.has_dialled = asyncio.Event()
        self.called_off = asyncio.Event()
        self.opened: asyncio.Queue[Stream] = asyncio.Queue()
        self.sessions = Sessions(lambda stream, who: self.opened.put_nowait(stream))
        self.has_lan = False
        self.links = Links(self._dial, self._find, lambda provider: self.has_lan)

    def _find(self, id: PeerId) -> Provider | None:
        return self.listed

    async def _dial(self, provider: Provider) -> Introduced:
        self.dialled.append(provider)
        self.has_dialled.set()
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.called_off.set()
                raise
        if self.error is not None:
            raise self.error
        near, far = wires()
        await asyncio.gather(near.said_hello(), far.said_hello())
        self.sessions.on_path(Introduced(far, MEMBER, bytes(16)))
        return Introduced(near, MEMBER, bytes(16), is_lan=self.has_lan)

    async def ask(self) -> tuple[Link, Stream, Stream]:
        """A link and a stream's both ends."""
        link = await self.links.get(MIA)
        asked = await link.open_stream()
        asked.finish()
        return link, asked, await self.opened.get()

    def silence(self, link: Link, is_cut: bool = True) -> None:
        """Nothing comes from the provider any more, as when it was killed."""
        for one in (link, *(guest.link for guest in self.sessions.guests)):
            assert one.wire is not None
            assert isinstance(one.wire.carrier, MemoryCarrier)
            one.wire.carrier.is_cut = is_cut


@pytest.fixture
async def street(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Street]:
    monkeypatch.setattr(revival, "REDIAL_PAUSE_S", 0.0)
    street = Street()
    yield street
    await street.links.close()
    await street.sessions.close()


def cut(link: Link) -> None:
    assert link.wire is not None
    link.wire.close("cut by the test")


async def test_however_many_ask_it_is_dialled_once(street: Street) -> None:
    found = await asyncio.gather(*(street.links.get(MIA) for _ in range(5)))
    assert len(set(map(id, found))) == 1
    assert len(street.dialled) == 1


async def test_an_attempt_that_takes_too_long_is_given_up(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ATTEMPT_S", 0.01)
    street.hold = asyncio.Event()
    with pytest.raises(PeerUnreachable, match="may be overloaded"):
        await street.links.get(MIA)
    assert street.links.warmth(ID).failed_lately


async def test_a_lost_path_is_replaced_while_somebody_waits(street: Street) -> None:
    link, asked, answering = await street.ask()
    answering.write(b"one ")
    assert await asked.read() == b"one "
    cut(link)
    answering.write(b"two")
    answering.finish()
    assert await asked.read() == b"two"
    assert len(street.dialled) == 2


async def test_a_session_nobody_waits_for_is_not_looked_for(street: Street) -> None:
    link = await street.links.get(MIA)
    cut(link)
    assert street.links.peek(ID) is None
    assert len(street.dialled) == 1


async def test_a_provider_that_left_and_is_silent_is_not_waited_for(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "DOUBT_S", 0.05)
    link, asked, _ = await street.ask()
    street.silence(link)
    street.listed = None
    street.links.on_roster([ID])
    with pytest.raises(StreamReset, match="mia was lost") as told:
        await asked.read()
    assert told.value.code is Code.GONE
    assert street.links.peek(ID) is None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence shows after 0.2 s, not 4."""
    monkeypatch.setattr(path, "PING_S", 0.05)
    monkeypatch.setattr(links, "SILENT_S", 0.2)
    monkeypatch.setattr(links, "LOOK_S", 0.02)
    monkeypatch.setattr(revival, "SILENT_S", 0.2)
    monkeypatch.setattr(revival, "LOOK_S", 0.02)


@pytest.mark.usefixtures("quick")
async def test_a_silent_path_is_replaced_before_it_is_lost(street: Street) -> None:
    link, asked, answering = await street.ask()
    former = link.wire
    street.silence(link)
    answering.write(b"late")
    answering.finish()
    assert await asked.read() == b"late"
    assert link.wire is not former
    assert len(street.dialled) == 2


async def test_a_stalled_path_is_replaced_at_once(street: Street) -> None:
    link, asked, answering = await street.ask()
    former = link.wire
    street.silence(link)
    assert former is not None
    assert isinstance(former.carrier, MemoryCarrier)
    former.carrier.is_stalled = True
    former.carrier.on_stall()
    answering.write(b"late")
    async with asyncio.timeout(SILENT_S / 2):
        assert await asked.read() == b"late"
    assert link.wire is not former


async def test_a_stalled_path_that_nobody_waits_for_is_let_be(street: Street) -> None:
    link = await street.links.get(MIA)
    assert link.wire is not None
    assert isinstance(link.wire.carrier, MemoryCarrier)
    link.wire.carrier.is_stalled = True
    link.wire.carrier.on_stall()
    await asyncio.sleep(0)
    assert len(street.dialled) == 1


@pytest.mark.usefixtures("quick")
async def test_a_path_that_is_heard_again_wins(street: Street) -> None:
    link, asked, answering = await street.ask()
    former = link.wire
    street.hold, street.has_dialled = asyncio.Event(), asyncio.Event()
    street.silence(link)
    await street.has_dialled.wait()
    street.silence(link, is_cut=False)
    answering.write(b"late")
    assert await asked.read() == b"late"
    assert link.wire is former
    await street.called_off.wait()
    await asyncio.sleep(0.3)
    assert len(street.dialled) == 2  # nor is it dialled again


@pytest.mark.usefixtures("quick")
async def test_whoever_may_ask_elsewhere_is_told_as_soon_as_it_is_silent(
    street: Street,
) -> None:
    link, _, _ = await street.ask()
    street.hold = asyncio.Event()
    left = asyncio.Event()
    with street.links.impatient(link, left.set):
        assert not street.links.warmth(ID).failed_lately
        street.silence(link)
        await left.wait()
        assert link.is_active
        assert street.links.warmth(ID) == Warmth(False, 1, failed_lately=True)


@pytest.mark.usefixtures("quick")
async def test_slow_is_not_silent(street: Street) -> None:
    link, _, _ = await street.ask()
    left = asyncio.Event()
    with street.links.impatient(link, left.set):
        await asyncio.sleep(0.5)  # nothing but PONGs
        assert not left.is_set()
    assert len(street.dialled) == 1


@pytest.mark.usefixtures("quick")
async def test_a_silent_path_that_nobody_waits_for_is_let_be(street: Street) -> None:
    link = await street.links.get(MIA)
    street.silence(link)
    await asyncio.sleep(0.4)
    assert len(street.dialled) == 1


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a move broke shows after 0.2 s, not 2."""
    monkeypatch.setattr(revival, "MOVED_S", 0.2)


@pytest.mark.usefixtures("moved")
async def test_after_a_move_a_path_that_does_not_answer_is_soon_replaced(
    street: Street,
) -> None:
    link, asked, answering = await street.ask()
    former = link.wire
    street.silence(link)
    street.links.on_network()
    answering.write(b"late")
    async with asyncio.timeout(SILENT_S / 2):
        assert await asked.read() == b"late"
    assert link.wire is not former
    assert len(street.dialled) == 2


@pytest.mark.usefixtures("moved")
async def test_after_a_move_the_next_question_does_not_meet_a_dead_path(
    street: Street,
) -> None:
    link = await street.links.get(MIA)
    street.silence(link)
    street.links.on_network()
    async with asyncio.timeout(SILENT_S / 2):
        while not link.is_closed:
            await asyncio.sleep(0.01)
    assert street.links.peek(ID) is None
    assert await street.links.get(MIA) is not link


@pytest.mark.usefixtures("moved")
async def test_after_a_move_a_path_that_answers_is_let_be(street: Street) -> None:
    link, asked, answering = await street.ask()
    idle = await street.links.get(MIA)
    former = link.wire
    street.links.on_network()
    street.links.on_network()
    await asyncio.sleep(0.3)  # longer than an answer may take
    street.silence(link)  # which is no doubt of the move any more
    await asyncio.sleep(0.3)
    assert not street.links.warmth(ID).failed_lately
    street.silence(link, is_cut=False)
    answering.write(b"late")
    assert await asked.read() == b"late"
    assert idle is link and link.wire is former
    assert len(street.dialled) == 1


async def test_one_that_left_and_is_heard_finishes(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "DOUBT_S", 0.05)
    _, asked, answering = await street.ask()
    street.listed = None  # it drains
    street.links.on_roster([ID])
    for _ in range(10):
        answering.write(b".")
        assert await asked.read() == b"."
        await asyncio.sleep(0.01)
    answering.finish()
    assert await asked.read() == b""


async def test_one_that_came_back_in_time_is_not_doubted(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The roster is empty for a moment when the signaling server was restarted."""
    monkeypatch.setattr(links, "DOUBT_S", 0.05)
    link, asked, _ = await street.ask()
    street.silence(link)
    street.listed = None
    street.links.on_roster()
    street.listed = MIA
    reading = asyncio.create_task(asked.read())
    await asyncio.sleep(0.1)  # longer than the doubt lasts
    assert not reading.done()
    reading.cancel()


async def test_a_dial_to_one_that_left_ends_at_once(street: Street) -> None:
    street.hold = asyncio.Event()
    asking = asyncio.create_task(street.links.get(MIA))
    await street.has_dialled.wait()
    street.listed = None
    street.links.on_roster([ID])
    with pytest.raises(PeerUnreachable, match="has left"):
        await asking


async def test_one_that_was_started_anew_knows_no_session(street: Street) -> None:
    link, asked, _ = await street.ask()
    street.listed = MIA_ANEW
    cut(link)
    with pytest.raises(StreamReset, match="started anew"):
        await asked.read()
    assert street.dialled == [MIA]
    assert await street.links.get(MIA_ANEW) is not link
    assert street.dialled == [MIA, MIA_ANEW]


async def test_new_questions_go_to_the_new_process_while_the_old_one_finishes(
    street: Street,
) -> None:
    link, asked, answering = await street.ask()
    street.listed = MIA_ANEW
    street.links.on_roster()
    assert await street.links.get(MIA_ANEW) is not link
    answering.write(b"late")
    answering.finish()
    assert await asked.read() == b"late"


async def test_one_that_is_not_at_the_server_is_looked_for_briefly(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revival, "MISSING_S", 0.05)
    link, asked, _ = await street.ask()
    street.error = PeerGone("mia is not connected.")
    cut(link)
    with pytest.raises(StreamReset, match="not connected"):
        await asked.read()
    assert len(street.dialled) > 2


async def test_whoever_need_not_wait_is_told_when_a_path_is_not_soon_found(
    street: Street,
) -> None:
    link, asked, _ = await street.ask()
    street.error = PeerUnreachable("frozen")
    left = asyncio.Event()
    with street.links.impatient(link, left.set):
        cut(link)
        await left.wait()
    assert street.dialled == [MIA, MIA]
    street.error = None  # it thaws: whoever stayed has its answer
    reading = asyncio.create_task(asked.read())
    while not link.is_active:
        await asyncio.sleep(0)
    reading.cancel()
    assert asked.is_open


async def test_a_session_moves_to_the_lan_with_what_runs_in_it(street: Street) -> None:
    link, asked, answers = await street.ask()
    before = link.wire
    street.has_lan = True
    assert await street.links.get(MIA) is link
    while link.wire is before or not link.is_active:
        await asyncio.sleep(0)
    answers.write(b"answer")
    answers.finish()
    assert await asked.read() == b"answer"
    assert len(street.dialled) == 2


async def test_a_move_that_fails_is_not_tried_at_each_question(street: Street) -> None:
    link, _, _ = await street.ask()
    before = link.wire
    street.has_lan = True
    street.error = PeerUnreachable("Not on the LAN after all.")
    for _ in range(5):
        assert await street.links.get(MIA) is link
        await asyncio.sleep(0)
    assert len(street.dialled) == 2
    assert link.wire is before


async def test_a_way_that_is_no_better_is_not_moved_to(street: Street) -> None:
    link, _, _ = await street.ask()
    before = link.wire
    street.has_lan, street.hold = True, asyncio.Event()
    await street.links.get(MIA)
    await asyncio.sleep(0)
    street.has_lan = False  # by then the server had to introduce us
    street.hold.set()
    while street.links._tasks - {street.links._held[ID].watch}:
        await asyncio.sleep(0)
    assert link.wire is before
