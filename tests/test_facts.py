"""What a node tells of itself on /metrics, with real signaling and real WebRTC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshllm.errors import BackendError, PeerUnreachable
from meshllm.facts import measure, of_node
from meshllm.gateway.meter import Meter
from meshllm.metrics import Metrics
from meshllm.node import Node
from meshllm.routing.seam import Ask
from signaling.server import ServeOptions, SignalingServer
from tests.fakes.mesh import Village, village
from tests.fakes.scraped import scraped

BODY = b'{"model":"tiny:1b","messages":[]}'


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Village]:
    async with village(tmp_path) as town:
        yield town


def facts(node: Node) -> dict[str, float]:
    body = Metrics(lambda: of_node(node)).page().body
    assert isinstance(body, bytes)
    return scraped(body.decode())


def chat(id: str) -> Ask:
    kind = "application/json"
    return Ask(id, "POST", "/api/chat", "tiny:1b", None, kind, BODY)


async def test_who_asks_and_who_answers_see_the_session_from_both_sides(
    town: Village,
) -> None:
    provider = await town.provider(parallel=1)
    assert provider.host is not None
    metrics = Metrics(lambda: of_node(provider))
    measure(provider.host, metrics)
    gateway = await town.node(town.owner)
    before = facts(gateway)
    assert before["meshllm_providers"] == before["meshllm_models"] == 1
    assert before["meshllm_signaling_connected"] == 1
    assert before["meshllm_dials_total"] == 0
    assert "meshllm_slots" not in before  # it shares nothing

    asking = [asyncio.create_task(gateway.mesh.ask(chat(f"{n}"))) for n in range(2)]
    script = await town.backend.asked.get()
    while facts(provider)["meshllm_queue_waiting"] != 1:
        await asyncio.sleep(0)
    during = facts(provider)
    assert during["meshllm_slots"] == during["meshllm_slots_running"] == 1
    assert during["meshllm_queue_limit"] == 8
    assert during["meshllm_sessions{path=host,peer=client}"] == 1
    assert facts(gateway)["meshllm_sessions{path=host,peer=provider}"] == 1
    assert facts(gateway)["meshllm_dials_total"] == 1

    script.end()
    (await town.backend.asked.get()).end()
    for answer in await asyncio.gather(*asking):
        assert [chunk async for chunk in answer] == []
    while facts(provider)["meshllm_slots_running"]:
        await asyncio.sleep(0)
    body = metrics.page().body
    assert isinstance(body, bytes)
    times = scraped(body.decode())
    assert times["meshllm_queue_seconds_count"] == 2
    assert times["meshllm_slot_seconds_count"] == 2


async def test_a_model_server_that_is_off_and_a_server_that_was_away_show(
    town: Village,
) -> None:
    node = await town.provider()
    assert node.host is not None
    assert facts(node)["meshllm_backend_up"] == 1
    town.backend.error = BackendError("off")
    await node.host.look()
    assert facts(node)["meshllm_backend_up"] == 0

    assert facts(node)["meshllm_signaling_reconnects_total"] == 0
    port = int(town.hub.url.rpartition(":")[2])
    await town.hub.stop()
    while node.is_connected:
        await asyncio.sleep(0.01)
    assert facts(node)["meshllm_signaling_connected"] == 0
    again = SignalingServer(ServeOptions(town.root / "hub", port=port))
    await town.stack.enter_async_context(again)
    while not node.is_connected:
        await asyncio.sleep(0.01)
    assert facts(node)["meshllm_signaling_reconnects_total"] == 1


async def test_a_dial_that_fails_is_counted(town: Village) -> None:
    await town.provider()
    gateway = await town.node(town.owner)
    [provider] = gateway.mesh.providers
    await town.hub.stop()
    while gateway.is_connected:
        await asyncio.sleep(0.01)
    with pytest.raises(PeerUnreachable):
        await gateway.links.get(provider)
    found = facts(gateway)
    assert found["meshllm_dials_total"] == found["meshllm_dial_failures_total"] == 1


async def test_every_metric_is_in_the_docs_and_the_docs_name_no_other(
    town: Village,
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()
    told = set(re.findall(r"`(meshllm_\w+)`", page))
    node = await town.provider()
    assert node.host is not None
    share = Metrics(lambda: of_node(node))
    measure(node.host, share)
    pages = [share.page(), Meter(tuple).page(), town.hub._metrics.page()]
    # Which only a gateway that serves has, and a server with a coturn.
    found = {"meshllm_requests_running", "meshllm_hub_coturn_up"}
    for one in pages:
        assert isinstance(one.body, bytes)
        found |= set(re.findall(r"^# TYPE (meshllm_\w+) ", one.body.decode(), re.M))
    assert told == found
