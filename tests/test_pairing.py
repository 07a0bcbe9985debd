"""Pairing at work, against a real server on loopback; what people type is scripted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from meshllm import founding, joining, pairing
from meshllm.errors import (
    Code,
    ConfigError,
    MeshError,
    NotAllowed,
    PeerUnreachable,
    TrustError,
)
from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.pairing import Admitted, Paired
from meshllm.protocol.pairing import NewcomerSide
from meshllm.transport import doorstep
from meshllm.transport.mailbox import Mailbox
from meshllm.trust.grants import Role
from signaling.limits import DEFAULT_LIMITS
from signaling.server import ServeOptions, SignalingServer
from tests.fakes.air import Air
from tests.fakes.signaling import WAIT_S

T = TypeVar("T")


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[SignalingServer]:
    async with SignalingServer(ServeOptions(tmp_path / "hub", port=0)) as server:
        yield server


async def found(home: Path, hub: SignalingServer) -> Path:
    assert hub.setup_link is not None
    await founding.init(home, hub.setup_link, name="anna")
    return home


@pytest.fixture
async def anna(tmp_path: Path, hub: SignalingServer) -> Path:
    """The home of the owner of a mesh on the hub."""
    return await found(tmp_path / "anna", hub)


@dataclass
class Desk:
    """Two screens in front of one person, who reads from one and types into the other.

    Each thing shown may be awaited; `types` says whether the person types it over.
    """

    types: bool = True
    number: asyncio.Future[int] = field(default_factory=lambda: _future(int))
    code: asyncio.Future[str] = field(default_factory=lambda: _future(str))
    receipt: asyncio.Future[str] = field(default_factory=lambda: _future(str))
    typed: list[str] = field(default_factory=list)  # instead of the code
    mistakes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_on_lan: bool = False

    def waiting(
        self, mailbox: int | None, hub: str | None, is_on_lan: bool, until: float
    ) -> None:
        self.is_on_lan = is_on_lan
        self.number.set_result(mailbox or 0)

    def looking(self, until: float) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def arrived(self) -> None:
        pass

    async def ask_code(self) -> str:
        return self.typed.pop(0) if self.typed else await self._type(self.code)

    def show_receipt(self, receipt: str) -> None:
        self.receipt.set_result(receipt)

    def show_code(self, code: str, until: float) -> None:
        self.code.set_result(code)

    async def ask_receipt(self) -> str:
        return await self._type(self.receipt)

    def mistyped(self, why: str) -> None:
        self.mistakes.append(why)

    async def _type(self, shown: asyncio.Future[str]) -> str:
        if not self.types:
            await asyncio.Event().wait()
        return await asyncio.shield(shown)


def _future(kind: type[T]) -> asyncio.Future[T]:
    return asyncio.get_running_loop().create_future()


async def both(
    anna: Path, ben: Path, hub: SignalingServer, desk: Desk, *, life_s: float = 60
) -> tuple[Admitted | BaseException, Paired | BaseException]:
    """What comes of it on either machine."""

    async def comes() -> Paired:
        number = await desk.number
        return await pairing.come_in(ben, desk, number, hub.url, life_s=life_s)

    coming = asyncio.ensure_future(comes())
    try:
        async with asyncio.timeout(WAIT_S):
            return await asyncio.gather(
                pairing.let_in(anna, desk, name="ben", lan=False, life_s=life_s),
                coming,
                return_exceptions=True,
            )
    finally:
        coming.cancel()


def is_untouched(home: Path) -> bool:
    return not (home / "mesh.json").exists()


async def test_both_know_who_was_let_in(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    ben = tmp_path / "ben"
    admitted, paired = await both(anna, ben, hub, Desk())
    assert isinstance(admitted, Admitted)
    assert isinstance(paired, Paired)
    assert admitted.id == Identity.load(ben).id
    assert (admitted.role, paired.admission.role) == (Role.GUEST, Role.GUEST)
    assert (admitted.mesh, admitted.is_sure) == (paired.mesh, True)
    place = joining.describe(ben, int(time.time()))
    assert (place["hub"], place["provisional"]) == (hub.url, False)


async def test_it_is_in_the_owners_books_like_any_invitation(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    await both(anna, tmp_path / "ben", hub, Desk())
    known = Membership.load(tmp_path / "ben")
    assert known is not None
    granted = known.chain[1]
    known.close()
    owner = Membership.load(anna)
    assert owner is not None
    rows = owner._tickets._run(
        "SELECT invited.name, node, membership FROM issued JOIN invited USING (ticket)"
    )
    owner.close()
    assert rows == [("ben", Identity.load(tmp_path / "ben").id, granted)]


async def test_what_cannot_be_meant_is_no_guess(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    desk = Desk(typed=["", "12345"])
    admitted, _ = await both(anna, tmp_path / "ben", hub, desk)
    assert isinstance(admitted, Admitted)
    assert len(desk.mistakes) == 2


async def test_a_wrong_code_lets_nobody_in(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    """(It is the right one once in a million runs.)"""
    desk = Desk(typed=["271828"])
    ours, theirs = await both(anna, tmp_path / "ben", hub, desk)
    assert isinstance(ours, NotAllowed)
    assert isinstance(theirs, NotAllowed)
    assert (ours.code, theirs.code) == (Code.AUTH, Code.AUTH)
    assert is_untouched(tmp_path / "ben")


async def test_a_wrong_receipt_takes_the_newcomer_nowhere(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    desk = Desk()

    class Careless(Desk):
        async def ask_receipt(self) -> str:
            return f"{(int(await asyncio.shield(desk.receipt)) + 1) % 100:02}"

    reads = Careless(code=desk.code)
    coming = asyncio.ensure_future(_come(tmp_path / "ben", hub, desk, reads))
    with pytest.raises(NotAllowed, match="typed on the other machine are wrong"):
        await pairing.let_in(anna, desk, lan=False)
    with pytest.raises(NotAllowed, match="not the digits"):
        await coming
    assert is_untouched(tmp_path / "ben")


async def _come(home: Path, hub: SignalingServer, owner: Desk, own: Desk) -> Paired:
    return await pairing.come_in(home, own, await owner.number, hub.url)


async def test_ten_minutes_by_their_own_clocks(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    """Ten minutes are 0.3 s here. Nobody types."""
    ours, theirs = await both(
        anna, tmp_path / "ben", hub, Desk(types=False), life_s=0.3
    )
    for error in (ours, theirs):
        assert isinstance(error, MeshError)
        assert "again with `meshllm pair` on both" in str(error)
    assert isinstance(ours, NotAllowed)
    assert ours.code is Code.TIMEOUT
    assert is_untouched(tmp_path / "ben")


async def test_the_newcomer_waits_no_longer_than_ten_minutes(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    desk = Desk(types=False)
    owner = asyncio.ensure_future(pairing.let_in(anna, desk, lan=False))
    with pytest.raises(NotAllowed, match="ten minutes"):
        await pairing.come_in(
            tmp_path / "ben", desk, await desk.number, hub.url, life_s=0.2
        )
    with pytest.raises(NotAllowed, match="ten minutes") as caught:
        await owner
    assert caught.value.code is Code.TIMEOUT


async def test_ten_minutes_by_the_servers_clock(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, mailbox_s=0)
    options = ServeOptions(tmp_path / "hub", port=0, limits=limits)
    async with SignalingServer(options) as hub:
        anna = await found(tmp_path / "anna", hub)
        ours, theirs = await both(anna, tmp_path / "ben", hub, Desk(types=False))
    for error in (ours, theirs):
        assert isinstance(error, NotAllowed)
        assert error.code is Code.TIMEOUT


async def test_a_newcomer_whose_last_word_is_lost_is_in_all_the_same(
    anna: Path, hub: SignalingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mute(self: NewcomerSide) -> bytes:
        raise PeerUnreachable("the line is cut")

    monkeypatch.setattr(NewcomerSide, "accept", mute)
    ours, theirs = await both(anna, tmp_path / "ben", hub, Desk())
    assert isinstance(ours, Admitted)
    assert isinstance(theirs, Paired)
    assert not ours.is_sure


@asynccontextmanager
async def other_hub(
    home: Path, hub: SignalingServer, anna: Desk, *, same_number: bool
) -> AsyncIterator[tuple[SignalingServer, asyncio.Future[int]]]:
    """A server of somebody else's, who carries every letter faithfully between anna's
    mailbox and one there, whose number comes when it is open."""
    async with SignalingServer(ServeOptions(home / "other", port=0)) as other:
        eve = await found(home / "eve", other)
        there: asyncio.Future[int] = _future(int)

        async def carry(source: Mailbox, to: Mailbox) -> None:
            while True:
                await to.send(await source.receive())

        async def bridge() -> None:
            thief, chain = Identity.load(eve), chain_of(eve)
            met_at = await anna.number
            number = met_at if same_number else 100 + (met_at + 1) % 900
            other._hub._mailboxes._free = lambda start: number  # type: ignore[method-assign]
            async with (
                Mailbox.opened(other.url, other.id, thief, chain) as near,
                Mailbox.joined(hub.url, met_at, thief) as far,
                asyncio.TaskGroup() as tasks,
            ):
                there.set_result(near.number)
                tasks.create_task(carry(near, far))
                tasks.create_task(carry(far, near))

        bridging = asyncio.ensure_future(bridge())
        yield other, there
        bridging.cancel()
        await asyncio.gather(bridging, return_exceptions=True)


def chain_of(home: Path) -> tuple[str, ...]:
    known = Membership.load(home)
    assert known is not None
    chain = known.chain
    known.close()
    return chain


@pytest.mark.parametrize(
    ("same_number", "why"),
    [(False, "another mailbox"), (True, "not the one that this mesh meets at")],
)
async def test_a_server_that_is_not_the_meshs_own_is_noticed(
    anna: Path, hub: SignalingServer, tmp_path: Path, same_number: bool, why: str
) -> None:
    desk = Desk()

    async def comes() -> Paired:
        return await pairing.come_in(tmp_path / "ben", desk, await there, other.url)

    async with (
        asyncio.timeout(WAIT_S),
        other_hub(tmp_path, hub, desk, same_number=same_number) as (other, there),
    ):
        results = await asyncio.gather(
            pairing.let_in(anna, desk, lan=False), comes(), return_exceptions=True
        )
    assert any(isinstance(one, TrustError) and why in str(one) for one in results)
    assert is_untouched(tmp_path / "ben")


async def test_only_an_owner_lets_in(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    await both(anna, tmp_path / "ben", hub, Desk())
    with pytest.raises(NotAllowed, match=r"Only an owner .*--home DIR"):
        await pairing.let_in(tmp_path / "ben", Desk(), lan=False)


async def test_one_home_is_in_one_mesh(anna: Path, hub: SignalingServer) -> None:
    with pytest.raises(ConfigError, match="--home"):
        await pairing.come_in(anna, Desk(), 412, hub.url)


async def test_with_neither_server_nor_lan_there_is_no_way(tmp_path: Path) -> None:
    await founding.init(tmp_path / "anna")
    with pytest.raises(ConfigError, match="no other way"):
        await pairing.let_in(tmp_path / "anna", Desk(), lan=False)


@pytest.mark.parametrize("hub", ["ftp://x", "https://", "https://[", "a b://"])
async def test_what_is_no_address_is_said_to_be_none(tmp_path: Path, hub: str) -> None:
    with pytest.raises(ConfigError, match="not an address of a signaling server"):
        await pairing.come_in(tmp_path / "ben", Desk(), 412, hub)


def test_which_side_a_home_is_on(tmp_path: Path) -> None:
    assert not pairing.is_member(tmp_path)


async def test_an_owner_is_on_the_inside(anna: Path) -> None:
    assert pairing.is_member(anna)


# On a LAN, whose multicast is scripted (tests/natlab has the real one)


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    monkeypatch.setenv("MESHLLM_LOOPBACK", "1")
    air = Air()
    monkeypatch.setattr(doorstep, "Multicast", air)
    return air


async def nearby(
    anna: Path, ben: Path, desk: Desk
) -> tuple[Admitted | BaseException, Paired | BaseException]:
    async with asyncio.timeout(WAIT_S):
        return await asyncio.gather(
            pairing.let_in(anna, desk, name="ben", role="member"),
            pairing.come_in(ben, desk),
            return_exceptions=True,
        )


async def test_on_a_lan_no_server_is_needed(air: Air, tmp_path: Path) -> None:
    await founding.init(tmp_path / "anna")
    desk = Desk()
    admitted, paired = await nearby(tmp_path / "anna", tmp_path / "ben", desk)
    assert isinstance(admitted, Admitted)
    assert isinstance(paired, Paired)
    assert admitted.is_sure
    place = joining.describe(tmp_path / "ben", int(time.time()))
    assert (place["role"], place["hub"]) == ("member", None)
    assert (desk.number.result(), desk.is_on_lan) == (0, True)
    assert air.heard_by == []  # nobody is there any more


async def test_who_pairs_on_a_lan_learns_of_the_server(
    air: Air, anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    desk = Desk()
    admitted, _ = await nearby(anna, tmp_path / "ben", desk)
    assert isinstance(admitted, Admitted)
    assert joining.describe(tmp_path / "ben", int(time.time()))["hub"] == hub.url
    assert desk.number.result() >= 100
    assert len(hub._hub._mailboxes) == 0


async def test_a_wrong_code_on_a_lan_ends_it_on_both(air: Air, tmp_path: Path) -> None:
    await founding.init(tmp_path / "anna")
    desk = Desk(typed=["271828"])
    ours, theirs = await nearby(tmp_path / "anna", tmp_path / "ben", desk)
    assert "not the digits" in str(ours)
    assert "typed on the other machine are wrong" in str(theirs)
    assert is_untouched(tmp_path / "ben")


@pytest.mark.parametrize("by", ["hub", "lan"])
async def test_whoever_comes_first_closes_the_other_way(
    air: Air, anna: Path, hub: SignalingServer, tmp_path: Path, by: str
) -> None:
    desk = Desk(types=False)
    letting = asyncio.ensure_future(pairing.let_in(anna, desk))
    number = await desk.number
    where = (number, hub.url) if by == "hub" else (None, None)
    first = asyncio.ensure_future(pairing.come_in(tmp_path / "ben", desk, *where))
    async with asyncio.timeout(WAIT_S):
        await desk.code
        if by == "hub":
            while air.heard_by:
                await asyncio.sleep(0.01)
        else:
            with pytest.raises(PeerUnreachable, match="no mailbox"):
                await pairing.come_in(tmp_path / "carl", Desk(), number, hub.url)
    for task in (letting, first):
        task.cancel()
    await asyncio.gather(letting, first, return_exceptions=True)


async def test_a_server_that_is_away_leaves_the_lan(
    air: Air, anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    await hub.stop()
    desk = Desk()
    admitted, _ = await nearby(anna, tmp_path / "ben", desk)
    assert isinstance(admitted, Admitted)
    assert desk.number.result() == 0
    assert "cannot be reached" in desk.notes[0]
    await hub.start()


async def test_without_a_lan_there_is_the_server(
    air: Air, anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    air.is_deaf = True
    desk = Desk(types=False)
    letting = asyncio.ensure_future(pairing.let_in(anna, desk))
    assert await desk.number >= 100
    assert not desk.is_on_lan
    letting.cancel()
    with pytest.raises(PeerUnreachable, match="Multicast DNS"):
        await pairing.come_in(tmp_path / "ben", Desk())
    await founding.init(tmp_path / "carl")
    with pytest.raises(PeerUnreachable, match="Multicast DNS"):
        await pairing.let_in(tmp_path / "carl", Desk())
    await asyncio.gather(letting, return_exceptions=True)
