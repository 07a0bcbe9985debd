"""Candidates that come after the offer or the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from meshllm.errors import PeerUnreachable
from meshllm.protocol.description import CANDIDATES_MAX, Candidate
from meshllm.protocol.envelope import Candidates
from meshllm.transport.peer import IceServer, Peer
from meshllm.transport.trickle import EARLY_MAX, Inflows
from tests.fakes.people import id_of
from tests.fakes.turn import TurnServer

ANN, EVE = id_of("ann"), id_of("eve")
PATH, PREV = bytes(16), bytes(32)


@pytest.fixture(autouse=True)
def _on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHLLM_LOOPBACK", "1")


def more(
    *candidates: Candidate, sender: str = "ann", is_all: bool = False
) -> Candidates:
    return Candidates(PATH, id_of(sender), EVE, 0, PREV, candidates, is_all)


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Peer, Peer]]:
    """Of whose addresses neither knows any yet."""
    one = await Peer.offer([])
    bare = replace(one.local, candidates=(), is_complete=False)
    other = await Peer.answer(bare, [])
    try:
        await one.accept(replace(other.local, candidates=(), is_complete=False))
        yield one, other
    finally:
        await asyncio.gather(one.close(), other.close())


async def test_the_servers_answers_come_after_the_first_addresses() -> None:
    async with TurnServer.running("user", "secret") as relay:
        peer = await Peer.offer([IceServer((relay.url,), "user", "secret")])
        try:
            assert [c.kind for c in peer.local.candidates] == ["host"]
            assert not peer.local.is_complete
            told = [batch async for batch in peer.trickle()]
        finally:
            await peer.close()
    assert [c.kind for batch, _ in told for c in batch] == ["relay"]
    assert [is_complete for _, is_complete in told][-1] is True


async def test_where_nobody_is_asked_nothing_comes_after() -> None:
    peer = await Peer.offer([])
    try:
        assert peer.local.is_complete
        assert [batch async for batch in peer.trickle()] == []
    finally:
        await peer.close()


async def test_what_comes_later_connects() -> None:
    async with two() as (one, other):
        inflow = Inflows().open(PATH, ANN, PREV)
        inflow.take(
            more(*one.local.candidates, is_all=True)
        )  # before its peer is there
        inflow.flow(other)
        await asyncio.gather(one.opened(5), other.opened(5))


async def test_others_and_other_offers_candidates_are_dropped() -> None:
    async with two() as (one, other):
        inflows = Inflows()
        inflow = inflows.open(PATH, ANN, PREV)
        inflow.flow(other)
        for wrong in (
            more(*one.local.candidates, sender="eve"),
            replace(more(*one.local.candidates), prev=bytes([1]) * 32),
            replace(more(*one.local.candidates), path=bytes([1]) * 16),
        ):
            inflows.take(wrong)
        with pytest.raises(PeerUnreachable):
            await other.opened(0.2)


async def test_a_repeated_offer_takes_nothing_over() -> None:
    inflows = Inflows()
    first = inflows.open(PATH, ANN, PREV)
    assert inflows.open(PATH, EVE, PREV) is first
    inflows.close(PATH, first)
    assert inflows.open(PATH, EVE, PREV) is not first


async def test_more_than_an_honest_peer_has_is_dropped() -> None:
    async with two() as (one, other):
        inflow = Inflows().open(PATH, ANN, PREV)
        many = [replace(one.local.candidates[0], port=n + 1) for n in range(60)]
        for start in range(0, 60, 4):
            inflow.take(more(*many[start : start + 4]))
        inflow.flow(other)
        await asyncio.sleep(0)
        assert len(other._connection._remote_candidates) <= 4 * EARLY_MAX
        inflow.take(more(*many))
        inflow.take(more(*many))
        await asyncio.sleep(0)
        assert len(other._connection._remote_candidates) <= CANDIDATES_MAX
