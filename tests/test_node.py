"""Nodes with each other: real signaling, real WebRTC, a scripted model server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from meshllm.errors import Code, ConfigError, NotAllowed
from meshllm.membership import Membership
from meshllm.node import Node
from meshllm.protocol.signals import Welcome
from meshllm.routing.seam import Answer, Ask, Load, NoRoute
from meshllm.transport import network, signaling
from meshllm.trust.grants import Role
from tests.fakes.backend import Script
from tests.fakes.mesh import Village, village
from tests.fakes.wall import wall


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Village]:
    async with village(tmp_path) as town:
        yield town


def chat(model: str | None = "tiny:1b", provider: str | None = None) -> Ask:
    body = orjson.dumps(
        {"model": model, "messages": [{"role": "user", "content": "x"}]}
    )
    return Ask(
        secrets.token_hex(8),
        "POST",
        "/api/chat",
        model,
        provider,
        "application/json",
        body,
    )


async def text(answer: Answer) -> bytes:
    return b"".join([chunk async for chunk in answer])


async def start(town: Village, node: Node, ask: Ask) -> tuple[Answer, Script]:
    """A question whose answer has begun, and the script that gives it."""
    asking = asyncio.create_task(node.mesh.ask(ask))
    script = await town.backend.asked.get()
    script.say(b"first\n")
    return await asking, script


async def member(node: Node) -> None:
    while node.membership.is_provisional:
        await asyncio.sleep(0.01)


async def listed(node: Node) -> None:
    while not node.mesh.models():
        await asyncio.sleep(0.01)


async def test_a_guest_asks_the_owners_machine(town: Village) -> None:
    await town.provider()
    home = await town.join(town.invite("gustav"), "gustav")
    guest = await town.node(home)
    answer, script = await start(town, guest, chat())
    script.say(b"second\n")
    script.end()
    assert await text(answer) == b"first\nsecond\n"
    assert (answer.status, answer.path) == (200, "host")
    assert {"queue", "connect"} <= answer.timing.keys()


async def test_share_and_gateway_of_one_home_meet_like_strangers(town: Village) -> None:
    provider = await town.provider()
    gateway = await town.node(town.owner)
    answer, script = await start(town, gateway, chat())
    script.end()
    assert await text(answer) == b"first\n"
    assert answer.provider == provider.identity.id
    assert [row["direction"] for row in provider.peers()] == ["provider", "client"]


async def test_the_membership_comes_by_itself_and_outlives_the_ticket(
    town: Village,
) -> None:
    await town.provider()
    home = await town.join(town.invite("mia", Role.MEMBER), "mia")
    node = await town.node(home)
    await member(node)
    assert node.status()["role"] == "member"
    answer, script = await start(town, node, chat())
    script.end()
    assert await text(answer) == b"first\n"


async def test_an_owner_who_comes_later_finds_the_card(town: Village) -> None:
    home = await town.join(town.invite("mia", Role.MEMBER), "mia")
    node = await town.node(home)
    assert node.membership.is_provisional
    await town.node(town.owner)
    await member(node)


async def test_an_owner_that_shares_is_warned_of_a_link_that_two_used(
    town: Village, caplog: pytest.LogCaptureFixture
) -> None:
    await town.provider()
    invitation = town.invite("gustav")
    await town.join(invitation, "gustav")
    with pytest.raises(NotAllowed, match="already used by another node"):
        await town.join(invitation, "thief")
    while "a ticket of ours was used by a second node" not in caplog.text:
        await asyncio.sleep(0.01)
    assert [r.levelname for r in caplog.records if "ticket" in r.message] == ["WARNING"]


async def test_a_second_share_of_one_node_is_refused(town: Village) -> None:
    await town.provider()
    with pytest.raises(NotAllowed):
        await town.provider()


async def test_a_guest_may_not_share(town: Village) -> None:
    home = await town.join(town.invite("gustav"), "gustav")
    with pytest.raises(NotAllowed, match="--role member"):
        await town.provider(home)  # nor while its membership is on the way
    await town.node(town.owner)
    node = await town.node(home)
    await member(node)
    with pytest.raises(NotAllowed, match="--role member"):
        await town.provider(home)


async def test_a_member_shares_once_its_membership_has_come(town: Village) -> None:
    home = await town.join(town.invite("mia", Role.MEMBER), "mia")
    node = await town.node(home)
    with pytest.raises(NotAllowed, match="once its membership has come"):
        node.check_may_share()
    await town.node(town.owner)
    await member(node)
    node.check_may_share()


async def test_a_question_nobody_can_answer_says_why(town: Village) -> None:
    node = await town.node(town.owner)
    with pytest.raises(NoRoute, match="No provider") as away:
        await node.mesh.ask(chat())
    assert away.value.status == 503
    await town.provider()
    await listed(node)
    for ask, status in ((chat("other"), 404), (chat(provider="nobody"), 404)):
        with pytest.raises(NoRoute) as refused:
            await node.mesh.ask(ask)
        assert refused.value.status == status


async def test_whom_to_trust_is_a_role_or_a_whole_id(town: Village) -> None:
    with pytest.raises(ConfigError, match="neither"):
        await town.node(town.owner, trust=("member",))


async def test_a_caller_that_trusts_only_the_owner_asks_nobody_else(
    town: Village,
) -> None:
    await town.node(town.owner)
    home = await town.join(town.invite("mia", Role.MEMBER), "mia")
    node = await town.node(home)
    await member(node)
    await town.provider(home)
    careful = await town.node(town.owner, trust=("owner",))
    careless = await town.node(town.owner)
    await listed(careless)
    assert careful.mesh.models() == []


async def test_hanging_up_frees_the_slot_at_the_provider(town: Village) -> None:
    provider = await town.provider(parallel=1)
    gateway = await town.node(town.owner)
    answer, script = await start(town, gateway, chat())
    await answer.aclose()
    await script.closed.wait()
    assert provider.host is not None
    while provider.host.slots.running:
        await asyncio.sleep(0.01)


async def test_who_waits_in_line_hears_its_place(town: Village) -> None:
    await town.provider(parallel=1)
    gateway = await town.node(town.owner)
    first, script = await start(town, gateway, chat())
    places: asyncio.Queue[int] = asyncio.Queue()
    waiting = replace(chat(), request_id="r2", on_queue=places.put_nowait)
    asking = asyncio.create_task(start(town, gateway, waiting))
    assert await places.get() == 1
    script.end()
    await text(first)
    answer, script = await asking
    script.end()
    assert await text(answer) == b"first\n"


async def test_who_looks_hears_how_busy_the_provider_is(town: Village) -> None:
    await town.provider(parallel=1)
    gateway = await town.node(town.owner)
    first, script = await start(town, gateway, chat())
    places: asyncio.Queue[int] = asyncio.Queue()
    waiting = replace(chat(), request_id="r2", on_queue=places.put_nowait)
    asking = asyncio.create_task(gateway.mesh.ask(waiting))
    await places.get()
    loads: list[Load] = []
    look = replace(
        chat(),
        request_id="r3",
        method="GET",
        path="/api/ps",
        model=None,
        body=b"",
        on_load=loads.append,
    )
    looked, looking = await start(town, gateway, look)
    looking.end()
    await text(looked)
    assert loads == [Load(running=1, waiting=1)]
    script.end()
    await text(first)
    (await town.backend.asked.get()).end()
    await text(await asking)


async def test_many_questions_share_one_path(town: Village) -> None:
    await town.provider(parallel=20)
    gateway = await town.node(town.owner)
    await listed(gateway)
    pairs = await asyncio.gather(*(start(town, gateway, chat()) for _ in range(20)))
    for _, script in pairs:
        script.end()
    for answer, _ in pairs:
        assert await text(answer) == b"first\n"
    assert gateway.links.warmth(pairs[0][0].provider).is_warm  # type: ignore[arg-type]


async def test_a_restart_of_the_signaling_server_does_not_touch_answers(
    town: Village,
) -> None:
    await town.provider()
    gateway = await town.node(town.owner)
    answer, script = await start(town, gateway, chat())
    await town.hub.stop()
    script.say(b"second\n")
    script.end()
    assert await text(answer) == b"first\nsecond\n"


async def test_a_server_that_forgot_a_provider_does_not_hide_it(town: Village) -> None:
    provider = await town.provider()
    gateway = await town.node(town.owner)
    answer, script = await start(town, gateway, chat())
    gateway._hub._on_welcome(Welcome(b"", (), (), None, None))  # of a restarted server
    script.end()
    await text(answer)
    answer, script = await start(town, gateway, replace(chat(), request_id="again"))
    script.end()
    assert await text(answer) == b"first\n"
    link = gateway.links.peek(provider.identity.id)
    assert link is not None
    await link.close(Code.CANCELLED, "the test ends the session")
    assert gateway.mesh.models() == []


async def test_an_answer_survives_its_path(town: Village) -> None:
    provider = await town.provider()
    gateway = await town.node(town.owner)
    answer, script = await start(town, gateway, chat())
    chunks = answer.__aiter__()
    assert await anext(chunks) == b"first\n"
    link = gateway.links.peek(provider.identity.id)
    assert link is not None
    assert link.wire is not None
    link.wire.close("cut by the test")
    script.say(b"second\n")
    script.end()
    assert b"".join([chunk async for chunk in chunks]) == b"second\n"


async def test_an_idle_node_that_moved_hears_of_others_again_at_once(
    town: Village, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is dead, and nothing is sent that would show it."""
    here = ["192.0.2.7"]
    monkeypatch.setattr(network, "read_ways_out", lambda: tuple(here))
    monkeypatch.setattr(network, "LOOK_S", 0.05)
    monkeypatch.setattr(signaling, "PROBE_S", 0.2)
    async with wall(town.hub.url) as (url, block):
        known = Membership.load(town.owner)
        assert known is not None
        known.attach(url, town.hub.id)
        known.close()
        node = await town.node(town.owner)
        block()
        here[:] = ["198.51.100.7"]
        async with asyncio.timeout(5):
            await town.provider()
            await listed(node)
