"""Servers are asked ahead of offers: once from each place, whatever else is dialled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meshllm.transport import watch
from meshllm.transport.addresses import LOOPBACK, Machine
from meshllm.transport.health import Health
from meshllm.transport.ice import IceConnection
from meshllm.transport.policy import Policy
from meshllm.transport.servers import IceServer
from meshllm.transport.watch import ServerWatch
from tests.fakes.turn import TurnServer

ELSEWHERE = "127.0.0.2"


def at(host: str) -> Machine:
    return Machine((host,), frozenset({host}), is_alone=False)


@asynccontextmanager
async def watched(
    policy: Policy, health: Health, relay: TurnServer
) -> AsyncIterator[ServerWatch]:
    server = IceServer((relay.url,), "user", "secret")
    watching = ServerWatch(lambda: (server,), health, policy)
    running = asyncio.create_task(watching.run())
    try:
        await asked(relay, 1)
        yield watching
    finally:
        running.cancel()
        await asyncio.wait([running])


async def asked(relay: TurnServer, times: int) -> None:
    """Until it was asked for a relay so often, and given it back."""
    async with asyncio.timeout(5):
        while relay.released < times:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("policy", ["all", "relay"])
async def test_who_answered_is_asked_again_only_from_elsewhere(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "read_machine", lambda: at(LOOPBACK))
    health = Health()
    async with (
        TurnServer.running("user", "secret") as relay,
        watched(policy, health, relay) as watching,
    ):
        watching.wake()
        on_lan = IceConnection(
            (), [ELSEWHERE], controlling=True, policy=policy, health=health
        )
        await on_lan.gather()
        await on_lan.close()
        watching.wake()
        await asyncio.sleep(0.2)  # an answer takes a hundredth of it
        (row,) = watching.describe()
        assert row["answers"]
        assert relay.released == 1

        monkeypatch.setattr(watch, "read_machine", lambda: at(ELSEWHERE))
        watching.wake()
        await asked(relay, 2)
