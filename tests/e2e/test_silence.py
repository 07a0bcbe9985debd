"""Slow is not silent, and silent is not dead: who is waited for, and how long.

Real processes that are frozen. Time limits are promises of docs/protocol.md §6.2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.counting import Plan
from tests.fakes.program import OLLAMA, OPENAI, ask
from tests.fakes.town import Town, freeze, has, thaw, town

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

SHORT = Plan(lines=20)
OTHER_S = 6.0  # from the freeze until another provider has answered
ROOM_S = 1.0  # for a busy machine


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as here:
        yield here


async def test_a_slow_provider_is_waited_for_and_a_frozen_one_is_not(
    here: Town,
) -> None:
    backends = [await here.backend(), await here.backend()]
    first = await here.share(backends[0], "anna", "--parallel", "2")
    await here.joins("ben")
    gateway = await here.gateway()
    await has(gateway, 1)
    freeze(backends[0].child)  # a prompt that takes for ever
    asking = [
        asyncio.create_task(ask(gateway.url, SHORT, api))
        for api in (OLLAMA, OPENAI, OLLAMA, OPENAI)
    ]
    await here.slots(running=2, waiting=2)
    await here.share(backends[1], "ben", "--parallel", "4")
    await has(gateway, 2)
    done, _ = await asyncio.wait(asking, timeout=OTHER_S + ROOM_S)
    assert not done
    assert (await backends[1].counts())["begun"] == 0
    freeze(first.child)
    frozen_at = time.monotonic()
    for outcome in await asyncio.gather(*asking):
        assert outcome.is_all_of(SHORT)
    assert time.monotonic() - frozen_at < OTHER_S + ROOM_S
    assert (await ask(gateway.url, SHORT)).is_all_of(SHORT)  # nor asked first again
    assert (await backends[1].counts())["begun"] == 5
    thaw(first.child)
    await here.slots(running=0)  # what was asked elsewhere is cancelled
    thaw(backends[0].child)
    await backends[0].idle()


async def test_one_that_is_frozen_while_it_is_dialled_is_soon_passed_over(
    here: Town,
) -> None:
    backends = [await here.backend(), await here.backend()]
    shares = {}
    for home, backend in zip(("anna", "ben"), backends, strict=True):
        if home != "anna":
            await here.joins(home)
        serving = await here.share(backend, home)
        shares[(await here.told("share", "/status", home))["id"]] = serving
    gateway = await here.gateway()
    await has(gateway, 2)
    frozen = shares[min(shares)]  # of two that nobody is connected with, the first
    freeze(frozen.child)
    began = time.monotonic()
    assert (await ask(gateway.url, SHORT)).is_all_of(SHORT)
    took_s = time.monotonic() - began
    assert 3 < took_s < OTHER_S
    began = time.monotonic()
    assert (await ask(gateway.url, SHORT)).is_all_of(SHORT)
    assert time.monotonic() - began < 1
    thaw(frozen.child)


async def test_frozen_in_mid_answer_and_alone_it_goes_on(here: Town) -> None:
    backend = await here.backend()
    provider = await here.share(backend, "anna", "--parallel", "2")
    gateway = await here.gateway()
    plan = Plan(lines=400, every_ms=10)
    asking = [
        asyncio.create_task(ask(gateway.url, plan, api)) for api in (OLLAMA, OPENAI)
    ]
    await backend.runs(2)
    freeze(provider.child)
    await asyncio.sleep(6)  # long enough for another path to be looked for
    thaw(provider.child)
    for outcome in await asyncio.gather(*asking):
        assert outcome.is_all_of(plan)
    assert (await backend.counts())["begun"] == 2
