"""Nodes that meet on a LAN: real multicast, HTTP and WebRTC over loopback."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from meshllm.dialects import Model
from meshllm.errors import MeshError
from meshllm.membership import Membership
from meshllm.nearby import lan_report, neighbours
from meshllm.node import Node
from meshllm.routing.seam import Ask
from meshllm.transport.lan import Multicast
from meshllm.trust.keys import peer_id
from tests.fakes.hamlet import Hamlet, hamlet, until

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHLLM_LOOPBACK", "1")
    monkeypatch.setattr(neighbours, "VISIT_S", 0.5)
    monkeypatch.setattr(neighbours, "DIAL_S", 0.5)
    monkeypatch.setattr(neighbours, "RETRY_S", 0.1)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Hamlet]:
    async with hamlet(tmp_path) as here:
        yield here


@pytest.fixture
def no_multicast(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(*_: object) -> None:
        raise MeshError("Multicast DNS cannot be used here: a firewall.")

    monkeypatch.setattr(Multicast, "start", start)


async def asked(here: Hamlet, node: Node) -> tuple[bytes, str]:
    """The answer, and the way it came."""
    body = orjson.dumps({"model": "tiny:1b", "messages": []})
    ask = Ask(
        *(secrets.token_hex(8), "POST", "/api/chat", "tiny:1b", None),
        *("application/json", body),
    )

    async def answer() -> None:
        script = await here.backend.asked.get()
        script.say(b"an answer\n")
        script.end()

    answering = asyncio.create_task(answer())
    try:
        found = await node.mesh.ask(ask)
    finally:
        answering.cancel()
    return b"".join([chunk async for chunk in found]), found.path


async def test_without_a_server_a_member_joins_and_asks(here: Hamlet) -> None:
    await here.provider()
    await here.join("ben")
    ben = await here.node("ben")
    assert ben.status()["role"] == "member"
    assert await asked(here, ben) == (b"an answer\n", "lan")
    (row,) = ben.peers()
    assert list(row["found"]) == ["lan"]


async def test_an_owner_who_shares_nothing_makes_members_too(here: Hamlet) -> None:
    await here.node("olga", serves_lan=None)
    await here.join("ben")
    ben = await here.provider("ben")
    assert ben.status()["role"] == "member"
    olga = await here.node("olga")
    await until(olga.mesh.models)
    assert (await asked(here, olga))[1] == "lan"


async def test_without_an_owner_nearby_a_card_is_all_there_is(here: Hamlet) -> None:
    await here.node("olga")  # it serves nobody
    from meshllm import joining

    invited = await joining.invite(here.home("olga"), name="ben", role="member")
    joined = await joining.join(here.home("ben"), invited.link, wait_s=0.2)
    assert joined.is_provisional


async def test_models_come_and_go_with_their_provider(here: Hamlet) -> None:
    olga = await here.provider()
    gateway = await here.node("olga")
    await until(gateway.mesh.models)
    here.backend.list.append(Model("new:1b"))
    assert olga.host is not None
    await olga.host.look()
    olga.host.on_models()
    await until(lambda: len(gateway.mesh.models()) == 2)
    await olga.drain()
    await until(lambda: gateway.mesh.models() == [])


async def test_a_revocation_spreads_from_node_to_node(here: Hamlet) -> None:
    olga = await here.provider()
    await here.join("ben")
    await here.join("carl")
    carl = await here.node("carl")
    here.revoke("ben")
    await until(lambda: carl.membership.is_revoked(here.id("ben")))
    assert olga.host is not None
    ben = await here.node("ben")
    assert ben.mesh.models() == []
    (row,) = ben.peers()
    assert row["direction"] == "stranger"
    assert "revoked by an owner" in row["problem"]


async def test_a_server_that_is_attached_later_is_learned(here: Hamlet) -> None:
    await here.provider()
    await here.join("ben")
    ben = await here.node("ben")
    known = Membership.load(here.home("olga"))
    assert known is not None
    key = peer_id(secrets.token_bytes(32))
    known.attach("http://127.0.0.1:9", key)
    known.close()
    await until(lambda: ben.membership.hub == "http://127.0.0.1:9")
    assert ben.membership.hub_key == key


async def test_a_known_name_with_another_key_is_a_hard_stop(here: Hamlet) -> None:
    await here.node("olga", serves_lan=None)
    await here.join("first", as_="ben")
    gateway = await here.node("olga")
    first = await here.provider("first")
    await until(gateway.mesh.models)
    await first.drain()
    await until(lambda: gateway.mesh.models() == [])

    await here.join("second", as_="ben")
    await here.provider("second")
    await until(lambda: any(row.get("problem") for row in gateway.peers()))
    (row,) = [row for row in gateway.peers() if row.get("problem")]
    assert row["id"] == here.id("second")
    assert "The key of ben has changed" in row["problem"]
    assert gateway.mesh.models() == []

    assert gateway.known.forget("ben")
    assert not gateway.known.forget("ben")
    await until(gateway.mesh.models)
    assert (await asked(here, gateway))[1] == "lan"


async def test_a_revoked_keys_name_is_free_again(here: Hamlet) -> None:
    await here.node("olga", serves_lan=None)
    await here.join("first", as_="ben")
    gateway = await here.node("olga")
    await here.provider("first")
    await until(gateway.mesh.models)
    here.revoke("first")
    await here.join("second", as_="ben")
    await here.provider("second")
    await until(
        lambda: (
            [row["id"] for row in gateway.peers() if row["models"]]
            == [here.id("second")]
        )
    )


@pytest.mark.usefixtures("no_multicast")
async def test_a_peer_by_hand_needs_no_multicast(here: Hamlet) -> None:
    olga = await here.provider()
    assert olga.nearby is not None
    (address,) = olga.nearby.describe()["addresses"]
    port = int(address.rpartition(":")[2])
    gateway = await here.node("olga", peers=(("localhost", port), ("127.0.0.1", 9)))
    await until(gateway.mesh.models)
    assert await asked(here, gateway) == (b"an answer\n", "lan")
    (wrong,) = [row for row in gateway.peers() if row.get("problem")]
    assert wrong["name"] == "127.0.0.1:9"
    assert "Nobody answers at 127.0.0.1:9" in wrong["problem"]
    assert gateway.status()["lan"]["problem"].startswith("Multicast DNS cannot")


async def test_without_the_lan_a_node_is_silent(here: Hamlet) -> None:
    await here.provider()
    known = Membership.load(here.home("olga"))
    assert known is not None
    known.attach("http://127.0.0.1:9", peer_id(secrets.token_bytes(32)))
    known.close()
    from meshllm.errors import PeerUnreachable
    from meshllm.node import NodeOptions

    for options in ({"lan": False}, {"policy": "relay"}):
        async with Node(NodeOptions(here.home("olga"), **options)) as node:
            with pytest.raises(PeerUnreachable):
                await node.joined(0.3)
            assert node.status()["lan"] is None


async def test_a_server_that_is_away_matters_not_on_the_lan(here: Hamlet) -> None:
    await here.provider()
    known = Membership.load(here.home("olga"))
    assert known is not None
    known.attach("http://127.0.0.1:9", peer_id(secrets.token_bytes(32)))
    known.close()
    began = time.monotonic()
    gateway = await here.node("olga")
    assert time.monotonic() - began < 5
    assert (await asked(here, gateway))[1] == "lan"


async def test_the_report_for_the_doctor(here: Hamlet) -> None:
    alone = await lan_report(0.2)
    assert alone.works
    assert alone.addresses == ("127.0.0.1",)
    await here.provider()
    assert (await lan_report(0.3)).heard >= 1


@pytest.mark.usefixtures("no_multicast")
async def test_the_report_says_what_to_do_without_multicast() -> None:
    report = await lan_report(0.1)
    assert not report.works
    assert "--peer ADDRESS" in (report.advice or "")
