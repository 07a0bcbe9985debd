"""Programs that stop reading, leave, come in crowds, and what ends under them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
import pytest

from meshllm.processes import Child
from tests.fakes.commands import MESHLLM, Serving
from tests.fakes.counting import MODEL, Plan, digest
from tests.fakes.program import OLLAMA, OPENAI, Outcome, ask
from tests.fakes.raw_http import connected, post
from tests.fakes.town import Backend, Mark, Town, freeze, memory_kib, thaw, town

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

SLOW = Plan(lines=2000, every_ms=20)
NEVER = Plan(lines=1, head_ms=600_000)
SHORT = Plan(lines=20)
# A slot is free within 1 s of its program's leaving; the rest is for a busy machine.
FREE_S = 2.0


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as here:
        yield here


async def served(here: Town, parallel: int) -> tuple[Backend, Serving, Serving]:
    backend = await here.backend()
    share = await here.share(backend, "anna", "--parallel", str(parallel))
    return backend, share, await here.gateway()


async def begun(url: str, plan: Plan) -> asyncio.Task[Outcome]:
    mark = Mark(3)
    asking = asyncio.create_task(ask(url, plan, on_number=mark))
    await mark.reached.wait()
    return asking


async def left(*asking: asyncio.Task[Outcome]) -> None:
    """The programs close their sockets."""
    for one in asking:
        one.cancel()
    await asyncio.wait(asking)


async def test_programs_that_leave_free_the_slot_whatever_they_asked(
    here: Town,
) -> None:
    backend, _, gateway = await served(here, 8)
    kinds = [(api, stream) for api in (OLLAMA, OPENAI) for stream in (True, False)]
    for plan in (NEVER, SLOW):  # during the prompt, and in mid-answer
        asking = [
            asyncio.create_task(ask(gateway.url, plan, api, stream=stream))
            for api, stream in kinds
        ]
        await backend.runs(len(kinds))
        await left(*asking)
        async with asyncio.timeout(FREE_S):
            await backend.idle()
            await here.slots(running=0)


async def test_one_that_leaves_the_queue_never_runs(here: Town) -> None:
    backend, _, gateway = await served(here, 1)
    first = await begun(gateway.url, SLOW)
    queued = asyncio.create_task(ask(gateway.url, SHORT))
    await here.slots(running=1, waiting=1)
    await left(queued)
    async with asyncio.timeout(FREE_S):
        await here.slots(running=1, waiting=0)
    await left(first)
    await backend.idle()
    assert (await backend.counts())["begun"] == 1


async def test_ctrl_c_in_chat_frees_the_slot(here: Town) -> None:
    backend, _, _ = await served(here, 1)
    for plan in (NEVER, SLOW):
        words = ("--home", str(here.meshllm.home("anna")), "chat", MODEL, plan.prompt)
        child = await Child.start((*MESHLLM, *words), here.meshllm.env, name="chat")
        try:
            await backend.runs(1)
            os.kill(child.pid, signal.SIGINT)
            async with asyncio.timeout(FREE_S):
                await backend.idle()
            assert await child.wait() == 130
        finally:
            await child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_program_that_stops_reading_stops_the_model_server(here: Town) -> None:
    backend, share, gateway = await served(here, 8)
    plan = Plan(lines=60, pad=1_000_000)  # a chunk of 1 MB a line
    warm = replace(plan, lines=20)
    assert (await ask(gateway.url, warm)).is_all_of(warm)  # and memory is as it will be
    before = [memory_kib(one.child) for one in (share, gateway)]
    sent = (await backend.counts())["sent"]
    body = {"model": MODEL, "messages": [{"role": "user", "content": plan.prompt}]}
    async with connected(gateway.url) as (reader, writer):
        writer.write(post("/api/chat", orjson.dumps(body), "Connection: close"))
        await reader.readuntil(b"\r\n\r\n")
        stalled = await stall(backend)
        assert stalled - sent < 40 << 20  # most of the rest: sockets of the system
        others = [asyncio.create_task(ask(gateway.url, SHORT)) for _ in range(20)]
        for other in others:
            assert (await other).is_all_of(SHORT)
        grown = [
            memory_kib(one.child) - kib
            for one, kib in zip((share, gateway), before, strict=True)
        ]
        assert max(grown) < 8 << 10, grown
        assert (await backend.counts())["running"] == 1
        rest = await reader.read(-1)  # it reads again, and misses nothing
        assert rest.count(b"\xc3\xa4") > 29_000_000  # chunk sizes cut some characters
        assert rest.endswith(b'"done_reason": "stop", "eval_count": 1}\n\r\n0\r\n\r\n')
    await backend.idle()


async def stall(backend: Backend) -> int:
    """Until the model server's socket takes no more; what it took."""
    sent = -1
    while (now := int((await backend.counts())["sent"])) != sent:
        sent = now
        await asyncio.sleep(0.5)
    return sent


async def test_a_prompt_of_twenty_megabytes_arrives_whole(here: Town) -> None:
    backend, _, gateway = await served(here, 2)
    more = "wörd " * 3_400_000
    steady = asyncio.create_task(ask(gateway.url, Plan(lines=200, every_ms=10)))
    assert (await ask(gateway.url, SHORT, more=more)).is_all_of(SHORT)
    assert (await backend.counts())["heard"] == digest(more)
    assert (await steady).is_all_of(Plan(lines=200, every_ms=10))


async def test_a_hundred_and_fifty_programs_at_once_are_all_served(here: Town) -> None:
    backend, _, gateway = await served(here, 100)
    plan = Plan(lines=40, every_ms=5, pad=30)
    apis = [OLLAMA, OPENAI] * 75
    outcomes = await asyncio.gather(*(ask(gateway.url, plan, api) for api in apis))
    assert all(outcome.is_all_of(plan) for outcome in outcomes)
    assert (await backend.counts())["begun"] == 150


class TestSigterm:
    async def test_a_gateway_finishes_what_runs_and_refuses_new(
        self, here: Town
    ) -> None:
        _, _, gateway = await served(here, 4)
        plan = Plan(lines=100, every_ms=10)
        running = await begun(gateway.url, plan)
        os.kill(gateway.child.pid, signal.SIGTERM)
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{gateway.url}/ready") as response:
                    if response.status == 503:
                        break
        for api in (OLLAMA, OPENAI):
            refused = await ask(gateway.url, SHORT, api)
            assert refused.status == 503
            assert "shutting down" in (refused.error or "")
            assert int(refused.headers["Retry-After"]) > 0
        assert (await running).is_all_of(plan)
        assert await gateway.child.wait() == 0

    async def test_a_second_signal_ends_it_at_once(self, here: Town) -> None:
        backend, _, gateway = await served(here, 4)
        running = await begun(gateway.url, SLOW)
        os.kill(gateway.child.pid, signal.SIGTERM)
        while (await ask(gateway.url, SHORT)).status != 503:
            pass
        os.kill(gateway.child.pid, signal.SIGTERM)
        assert await gateway.child.wait() == 130
        assert (await running).is_failure_that_shows
        async with asyncio.timeout(FREE_S):
            await backend.idle()

    async def test_a_provider_finishes_what_runs_and_says_so(self, here: Town) -> None:
        _, share, gateway = await served(here, 1)
        plan = Plan(lines=100, every_ms=10)
        running = await begun(gateway.url, plan)
        queued = asyncio.create_task(ask(gateway.url, SHORT))
        await here.slots(running=1, waiting=1)
        os.kill(share.child.pid, signal.SIGTERM)
        while (refused := await ask(gateway.url, Plan(lines=1))).status == 200:
            pass
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert (await running).is_all_of(plan)
        assert (await queued).is_all_of(SHORT)
        assert await share.child.wait() == 0

    async def test_a_signaling_server_leaves_answers_alone(self, here: Town) -> None:
        _, _, gateway = await served(here, 1)
        plan = Plan(lines=100, every_ms=10)
        running = await begun(gateway.url, plan)
        os.kill(here.hub.child.pid, signal.SIGTERM)
        assert await here.hub.child.wait() == 0
        assert (await running).is_all_of(plan)

    @pytest.mark.parametrize("pause_s", [0.0, 0.5])
    async def test_a_second_signal_ends_a_signaling_server_that_says_goodbye(
        self, here: Town, pause_s: float
    ) -> None:
        _, _, gateway = await served(here, 1)
        freeze(gateway.child)  # answers no goodbye: it would be waited for
        began = time.monotonic()
        os.kill(here.hub.child.pid, signal.SIGTERM)
        await asyncio.sleep(pause_s)
        os.kill(here.hub.child.pid, signal.SIGINT)
        assert await here.hub.child.wait() == 130
        assert time.monotonic() - began < pause_s + 1
        thaw(gateway.child)
        url = here.hub.url
        hub = await here.meshllm.start("hub", "signal", "--port", url.split(":")[-1])
        assert hub.url == url  # it left no lock, and all that it knew
        while not (await ask(gateway.url, SHORT)).is_all_of(SHORT):
            await asyncio.sleep(0.1)  # until everybody came back to it
