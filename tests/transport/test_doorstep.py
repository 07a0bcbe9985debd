"""Pairing's letters over HTTP on loopback; who hears of whom is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from meshllm.errors import PeerUnreachable
from meshllm.protocol.pairing_messages import LETTER_MAX
from meshllm.transport import doorstep
from meshllm.transport.addresses import read_lan
from meshllm.transport.doorstep import LETTERS, Doorstep, Visitor, knock
from meshllm.transport.lan import Hint
from meshllm.transport.lan_server import LanServer
from tests.fakes.air import Air
from tests.fakes.pairs import newcomer
from tests.fakes.people import id_of

WAIT_S = 5
OFFER = newcomer(mailbox=None).offer()


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    monkeypatch.setenv("MESHLLM_LOOPBACK", "1")
    air = Air()
    monkeypatch.setattr(doorstep, "Multicast", air)
    return air


@asynccontextmanager
async def met() -> AsyncIterator[tuple[Doorstep, Visitor]]:
    async with (
        asyncio.timeout(WAIT_S),
        Doorstep.opened(id_of("ann")) as door,
        knock(OFFER) as visitor,
    ):
        assert await door.receive() == OFFER
        yield door, visitor


@asynccontextmanager
async def knocking() -> AsyncIterator[asyncio.Future[Visitor]]:
    """Done when a door has opened."""
    async with AsyncExitStack() as stack:
        found = asyncio.ensure_future(stack.enter_async_context(knock(OFFER)))
        try:
            yield found
        finally:
            found.cancel()
            await asyncio.gather(found, return_exceptions=True)


def url(door: Doorstep, path: str = "/v1/pair") -> str:
    return f"http://127.0.0.1:{door._server.port}{path}"


async def status(method: str, where: str, body: bytes = b"") -> int:
    async with (
        aiohttp.ClientSession(headers={"Host": "meshllm"}) as session,
        session.request(method, where, data=body) as response,
    ):
        return response.status


async def test_letters_of_any_bytes_arrive_whole_and_in_order(air: Air) -> None:
    letters = [b"\0", bytes(range(256)), b"x" * LETTER_MAX]
    async with met() as (door, visitor):
        for letter in letters:
            await visitor.send(letter)
            sending = asyncio.ensure_future(door.send(letter[::-1]))
            assert await door.receive() == letter
            assert await visitor.receive() == letter[::-1]
            await sending


async def test_a_letter_that_nobody_waited_for_to_the_end_is_given_again(
    air: Air,
) -> None:
    async with met() as (door, visitor):
        waiting = asyncio.ensure_future(visitor.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        sending = asyncio.ensure_future(door.send(b"letter"))
        assert await visitor.receive() == b"letter"
        await sending


async def test_a_letter_that_is_slow_to_come_is_asked_for_again(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorstep, "POLL_S", 0.05)
    async with met() as (door, visitor):
        receiving = asyncio.ensure_future(visitor.receive())
        await asyncio.wait([receiving], timeout=0.2)
        assert not receiving.done()
        await door.send(b"letter")
        assert await receiving == b"letter"


async def test_who_knocks_later_is_told_so_and_disturbs_nobody(air: Air) -> None:
    async with met() as (door, visitor):
        assert (
            await status("POST", url(door), newcomer("eve", mailbox=None).offer())
            == 409
        )
        await visitor.send(b"letter")
        assert await door.receive() == b"letter"


async def test_what_is_no_offer_does_not_open_the_door(air: Air) -> None:
    async with Doorstep.opened(id_of("ann")) as door:
        for body in (b"", b"x" * 100, newcomer(mailbox=412).offer()):
            assert await status("POST", url(door), body) == 400
        assert await status("POST", url(door), b"x" * (LETTER_MAX + 1)) == 413
        assert await status("POST", url(door), OFFER) == 200


async def test_nobody_else_reads_or_writes_in_it(air: Air) -> None:
    async with Doorstep.opened(id_of("ann")) as door:
        assert await status("POST", url(door, "/v1/pair/x"), b"letter") == 404
        async with (
            aiohttp.ClientSession(headers={"Host": "meshllm"}) as session,
            session.post(url(door), data=OFFER) as response,
        ):
            talk = await response.text()
        for path in ("/v1/pair/x/1", "/v1/pair/x", f"/v1/pair/{talk[:-1]}/1"):
            method = "GET" if path.endswith("1") else "POST"
            assert await status(method, url(door, path), b"letter") == 404
        for number in ("0", "9", "x", "-1", "²"):
            assert await status("GET", url(door, f"/v1/pair/{talk}/{number}")) == 404


async def test_eight_letters_are_enough(air: Air) -> None:
    async with met() as (_, visitor):
        for _ in range(LETTERS):
            await visitor.send(b"letter")
        with pytest.raises(PeerUnreachable):
            await visitor.send(b"one more")


async def test_a_newcomer_that_is_silent_is_gone(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorstep, "QUIET_S", 0.2)
    monkeypatch.setattr(doorstep, "LOOK_S", 0.02)
    async with met() as (door, visitor):
        receiving = asyncio.ensure_future(visitor.receive())
        while not door._asking:
            await asyncio.sleep(0)
        typing = asyncio.ensure_future(door.receive())
        await asyncio.wait([typing], timeout=0.3)
        assert not typing.done()  # it asks for letters, so it is there
        receiving.cancel()
        with pytest.raises(PeerUnreachable, match="has gone away"):
            await typing
        with pytest.raises(PeerUnreachable, match="has gone away"):
            await door.send(b"letter")


async def test_an_owner_that_closes_is_gone(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorstep, "RETRY_S", 0.01)
    async with asyncio.timeout(WAIT_S), knocking() as found:
        async with Doorstep.opened(id_of("ann")) as door:
            await door.receive()
            visitor = await found
            receiving = asyncio.ensure_future(visitor.receive())
            await asyncio.sleep(0)
        with pytest.raises(PeerUnreachable, match="has gone away"):
            await receiving
        with pytest.raises(PeerUnreachable, match="has gone away"):
            await visitor.send(b"letter")


# Finding it


async def test_a_door_that_opens_later_is_found(air: Air) -> None:
    async with asyncio.timeout(WAIT_S), knocking() as found:
        while not air.asked:
            await asyncio.sleep(0)
        async with Doorstep.opened(id_of("ann")) as door:
            assert await door.receive() == OFFER
            await found


async def test_what_was_missed_is_asked_for(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its announcement is lost, and so is the answer to the first question."""
    monkeypatch.setattr(doorstep, "ASK_S", 0.05)
    async with asyncio.timeout(WAIT_S), Doorstep.opened(id_of("ann")) as door:
        lost, air.said = air.said, []
        async with knocking() as found:
            while not air.asked:
                await asyncio.sleep(0)
            air.said = lost
            assert await door.receive() == OFFER
            await found


async def test_the_endpoint_of_a_share_is_passed_by_and_not_bothered_again(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorstep, "ASK_S", 0.02)
    share = LanServer({})
    await share.listen(read_lan())
    try:
        air.say(Hint("share", id_of("carl"), ("127.0.0.1",), share.port, "salt"))
        async with asyncio.timeout(WAIT_S), knocking() as found:
            while air.asked < 5:
                await asyncio.sleep(0.01)
            async with Doorstep.opened(id_of("ann")) as door:
                assert await door.receive() == OFFER
                await found
        bucket = share.allowances._buckets["127.0.0.1"]
        assert bucket.left >= 9  # of ten a minute
    finally:
        await share.stop()


async def test_a_busy_door_is_tried_again(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorstep, "ASK_S", 0.02)
    async with met() as (door, _), knocking() as found:
        asked = air.asked
        while air.asked < asked + 3:
            await asyncio.sleep(0.01)
        assert not found.done()
        door._talk = ""
        assert await door.receive() == OFFER
        await found


async def test_only_the_lan_is_asked(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is on the LAN can say that a door is anywhere."""
    monkeypatch.setattr(doorstep, "ASK_S", 0.02)
    asked = []

    async def fetch(session: object, method: str, url: object, body: object) -> object:
        asked.append(str(url))
        return 200, b"talk"

    monkeypatch.setattr(doorstep, "_fetch", fetch)
    air.say(Hint("far", id_of("eve"), ("198.51.100.7", "example.org"), 80, "salt"))
    air.say(Hint("near", id_of("eve"), ("192.168.7.7",), 80, "salt"))
    async with asyncio.timeout(WAIT_S), knock(OFFER):
        pass
    assert asked == ["http://192.168.7.7/v1/pair"]


async def test_without_a_lan_it_says_so(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    air.is_deaf = True
    for opening in (Doorstep.opened(id_of("ann")), knock(OFFER)):
        with pytest.raises(PeerUnreachable, match="Multicast DNS cannot"):
            async with opening:
                pass
    monkeypatch.setattr(doorstep, "read_lan", tuple)
    for opening in (Doorstep.opened(id_of("ann")), knock(OFFER)):
        with pytest.raises(PeerUnreachable, match="on no local network"):
            async with opening:
                pass
