"""Who is asked when: the first is not reached, or not soon, or cannot answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import pytest

from meshllm.dialects import Model
from meshllm.errors import MeshError, PeerUnreachable
from meshllm.protocol.exchange import ResponseHead, encode_head
from meshllm.provider.sessions import Sessions
from meshllm.routing import mesh
from meshllm.routing.links import Links
from meshllm.routing.mesh import MeshRouter
from meshllm.routing.roster import Provider, Roster, Trust
from meshllm.routing.seam import Ask, NoRoute
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Stream
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement
from meshllm.trust.grants import Caps, Role
from meshllm.trust.keys import PeerId, peer_id
from tests.fakes.links import wires

ASK = Ask("id", "POST", "/api/chat", "tiny:1b", None, "application/json", b"{}")


def provider(number: int) -> Provider:
    """Of two that nobody is connected with, the lower number is asked first."""
    id = peer_id(bytes([number]) * 32)
    admission = Admission(id, id, f"p{number}", Role.MEMBER, Caps(), None, None, id)
    card = Announcement(id, id, bytes(16), bytes(32), (1, 1), "scripted", 1, (), (), 1)
    return Provider(card, admission, (Model("tiny:1b"),))


ONE, TWO = provider(0), provider(1)


class Listing(Roster):
    """Who is there, as the test says."""

    def __init__(self) -> None:
        super().__init__(_admit_nobody, lambda id: True)
        self._providers = {ONE.id: ONE, TWO.id: TWO}


def _admit_nobody(chain: Sequence[str], id: PeerId) -> Admission:
    raise MeshError("nobody is announced here")


class Fork:
    """Two providers. Each is dialled once its gate is open, or with its error."""

    def __init__(self) -> None:
        self.gates = {id: asyncio.Event() for id in (ONE.id, TWO.id)}
        self.errors: dict[PeerId, MeshError] = {}
        self.dialled: list[PeerId] = []
        self.answered: list[PeerId] = []
        self.sessions = {
            id: Sessions(partial(self._answer, id)) for id in (ONE.id, TWO.id)
        }
        roster = Listing()
        self.links = Links(self._dial, roster.get)
        trust = Trust.parse(["members"], ONE.id)
        self.router = MeshRouter(roster, self.links, trust, state=dict)

    async def _dial(self, target: Provider) -> Introduced:
        self.dialled.append(target.id)
        await self.gates[target.id].wait()
        if target.id in self.errors:
            raise self.errors[target.id]
        near, far = wires()
        await asyncio.gather(near.said_hello(), far.said_hello())
        self.sessions[target.id].on_path(Introduced(far, ONE.admission, bytes(16)))
        return Introduced(near, target.admission, bytes(16))

    def _answer(self, id: PeerId, stream: Stream, who: Admission) -> None:
        self.answered.append(id)
        stream.write(encode_head(ResponseHead(200, "application/json", {})))
        stream.finish()

    async def ask(self) -> PeerId:
        """Who answers."""
        answer = await self.router.ask(replace(ASK))
        await answer.aclose()
        return next(id for id in self.gates if str(id) == answer.provider)


@pytest.fixture
async def fork(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fork]:
    monkeypatch.setattr(mesh, "PATIENCE_S", 0.05)
    monkeypatch.setattr(mesh, "LOOK_S", 0.05)
    fork = Fork()
    yield fork
    await fork.links.close()
    for sessions in fork.sessions.values():
        await sessions.close()


async def test_one_that_is_not_reached_soon_is_passed_over_and_dialled_on(
    fork: Fork,
) -> None:
    fork.gates[TWO.id].set()
    assert await fork.ask() == TWO.id
    fork.gates[ONE.id].set()
    while fork.links.peek(ONE.id) is None:
        await asyncio.sleep(0)
    assert fork.dialled == [ONE.id, TWO.id]
    assert fork.answered == [TWO.id]


async def test_it_is_waited_for_when_the_other_cannot_be_reached(fork: Fork) -> None:
    fork.errors[TWO.id] = PeerUnreachable("gone fishing")
    fork.gates[TWO.id].set()
    asking = asyncio.create_task(fork.ask())
    while fork.links.warmth(TWO.id).failed_lately is False:
        await asyncio.sleep(0)
    fork.gates[ONE.id].set()
    assert await asking == ONE.id
    assert fork.dialled == [ONE.id, TWO.id]  # one dialling, waited for twice


async def test_one_that_failed_lately_is_not_at_hand(fork: Fork) -> None:
    fork.links.note_failure(TWO.id)
    asking = asyncio.create_task(fork.ask())
    await asyncio.wait([asking], timeout=0.2)  # four times our patience
    assert fork.dialled == [ONE.id]
    fork.gates[ONE.id].set()
    assert await asking == ONE.id


async def test_when_neither_is_reached_the_first_failure_is_told(fork: Fork) -> None:
    for id in fork.gates:
        fork.errors[id] = PeerUnreachable("gone fishing")
        fork.gates[id].set()
    with pytest.raises(NoRoute, match="p0: gone fishing") as told:
        await fork.ask()
    assert told.value.status == 502
    assert fork.dialled == [ONE.id, TWO.id]


async def test_a_program_that_leaves_does_not_end_the_dialling(fork: Fork) -> None:
    asking = asyncio.create_task(fork.ask())
    while not fork.dialled:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    for gate in fork.gates.values():
        gate.set()
    assert await fork.ask() == ONE.id
    assert fork.dialled == [ONE.id]
