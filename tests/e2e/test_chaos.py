"""Death of anything at any moment: what the program sees of it.

Real processes, killed (`kill -9`) or frozen (SIGSTOP) at scripted moments. Time limits
here are promises of docs/protocol.md §7, with room for a slow machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.fakes.counting import Plan
from tests.fakes.gate import gate
from tests.fakes.program import OLLAMA, OPENAI, Outcome, ask
from tests.fakes.town import Backend, Mark, Town, freeze, has, kill, thaw, town

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

APIS = (OLLAMA, OPENAI)
SLOW = Plan(lines=2000, every_ms=20)  # runs until something ends it
NEVER = Plan(lines=1, head_ms=600_000)  # a prompt that takes for ever
SHORT = Plan(lines=20)
MIDDLE = Plan(lines=300, every_ms=10, pad=2000)
PROMPT = Plan(lines=20, head_ms=1_500)
Asked: TypeAlias = list[tuple[Plan, asyncio.Task[Outcome]]]
# A gateway's slot is free within 1 s of its death; the rest is for a busy machine.
FREE_S = 2.0
GONE_S = 10.0  # a provider that was killed is known to be gone: 6 s, and room


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as here:
        yield here


async def begun(url: str, plan: Plan, api: str = OLLAMA) -> asyncio.Task[Outcome]:
    """A question whose answer is under way."""
    mark = Mark(3)
    asking = asyncio.create_task(ask(url, plan, api, on_number=mark))
    await mark.reached.wait()
    return asking


async def at_every_moment(here: Town, url: str, backend: Backend) -> Asked:
    """Three questions of each API to a provider of four slots: one is answered just
    now, one has its prompt read, one waits in line."""
    asked: Asked = [(MIDDLE, await begun(url, MIDDLE, api)) for api in APIS]
    asked += [(PROMPT, asyncio.create_task(ask(url, PROMPT, api))) for api in APIS]
    await backend.runs(4)
    asked += [(SHORT, asyncio.create_task(ask(url, SHORT, api))) for api in APIS]
    await here.slots(running=4, waiting=2)
    return asked


async def all_whole(asked: Asked, backend: Backend) -> None:
    """And nothing was asked twice."""
    for plan, asking in asked:
        assert (await asking).is_all_of(plan)
    assert (await backend.counts())["begun"] == len(asked)


@pytest.mark.parametrize("victim", ["provider", "gateway", "backend", "signaling"])
async def test_who_is_frozen_for_a_moment_loses_nothing(
    here: Town, victim: str
) -> None:
    backend = await here.backend()
    provider = await here.share(backend, "anna", "--parallel", "4")
    gateway = await here.gateway()
    child = {
        "provider": provider.child,
        "gateway": gateway.child,
        "backend": backend.child,
        "signaling": here.hub.child,
    }[victim]
    asked = await at_every_moment(here, gateway.url, backend)
    freeze(child)
    await asyncio.sleep(2)  # the moment is what is tested, not an event
    thaw(child)
    await all_whole(asked, backend)


class TestProvider:
    async def test_killed_alone_every_program_is_told_in_its_own_way(
        self, here: Town
    ) -> None:
        backend = await here.backend()
        provider = await here.share(backend, "anna", "--parallel", "6")
        gateway = await here.gateway()
        url = gateway.url
        torn = [await begun(url, SLOW, api) for api in APIS]
        waiting = [
            asyncio.create_task(ask(url, NEVER, api, stream=stream))
            for api in APIS
            for stream in (True, False)
        ]
        await backend.runs(6)
        waiting += [asyncio.create_task(ask(url, SHORT, api)) for api in APIS]
        await here.slots(running=6, waiting=2)
        await kill(provider.child)
        async with asyncio.timeout(GONE_S):
            for asking in torn:
                outcome = await asking
                assert outcome.status == 200
                assert outcome.is_failure_that_shows
                assert outcome.error is not None
                assert "was lost" in outcome.error
            for asking in waiting:
                outcome = await asking
                assert outcome.status == 502
                assert outcome.error is not None
        await backend.idle()
        assert (await backend.counts())["begun"] == 6
        # The home is not locked, and the same gateway goes on with the new process.
        await here.share(backend, "anna", "--parallel", "8")
        await has(gateway, 1)
        assert (await ask(url, SHORT)).is_all_of(SHORT)

    async def test_killed_before_the_first_byte_another_answers(
        self, here: Town
    ) -> None:
        """In the prompt, and in the queue."""
        backends = [await here.backend(), await here.backend()]
        first = await here.share(backends[0])
        gateway = await here.gateway()
        await has(gateway, 1)
        freeze(backends[0].child)  # a prompt that takes for ever
        asking = [asyncio.create_task(ask(gateway.url, SHORT, api)) for api in APIS]
        await here.slots(running=1, waiting=1)
        await here.joins("ben")
        await here.share(backends[1], "ben")
        await has(gateway, 2)
        await kill(first.child)
        async with asyncio.timeout(GONE_S):
            for outcome in await asyncio.gather(*asking):
                assert outcome.is_all_of(SHORT)
        assert (await backends[1].counts())["begun"] == 2
        thaw(backends[0].child)
        await backends[0].idle()

    async def test_killed_while_it_is_dialled_another_answers(self, here: Town) -> None:
        backends = [await here.backend(), await here.backend()]
        first = await here.share(backends[0])
        await here.joins("ben")
        gateway = await here.gateway("ben")
        await has(gateway, 1)
        freeze(first.child)  # takes the offer, and answers nothing
        asking = asyncio.create_task(ask(gateway.url, SHORT))
        await here.share(backends[1], "ben")
        await has(gateway, 2)
        assert not asking.done()
        await kill(first.child)
        async with asyncio.timeout(GONE_S):
            assert (await asking).is_all_of(SHORT)

    async def test_frozen_for_longer_than_its_path_lives_the_answer_goes_on(
        self, here: Town
    ) -> None:
        backend = await here.backend()
        provider = await here.share(backend)
        gateway = await here.gateway()
        plan = Plan(lines=1200, every_ms=10)
        asking = await begun(gateway.url, plan)
        freeze(provider.child)
        while await here.path() is not None:  # the gateway gives it up after 10 s
            await asyncio.sleep(0.1)
        thaw(provider.child)
        assert (await asking).is_all_of(plan)
        assert (await backend.counts())["begun"] == 1


class TestGateway:
    async def test_killed_the_provider_stops_what_it_asked(self, here: Town) -> None:
        backend = await here.backend()
        await here.share(backend, "anna", "--parallel", "3")
        gateway = await here.gateway()
        asking = [await begun(gateway.url, SLOW) for _ in range(2)]
        asking.append(asyncio.create_task(ask(gateway.url, NEVER)))
        await backend.runs(3)
        asking.append(asyncio.create_task(ask(gateway.url, SHORT)))
        await here.slots(waiting=1)
        await kill(gateway.child)
        async with asyncio.timeout(FREE_S):
            await backend.idle()
            await here.slots(running=0)
        for outcome in await asyncio.gather(*asking):
            assert outcome.is_cut
            assert not outcome.is_whole
        assert (await backend.counts())["begun"] == 3
        again = await here.gateway()  # over what the killed one left in its home
        assert (await ask(again.url, SHORT)).is_all_of(SHORT)

    async def test_one_that_lost_only_the_signaling_server_is_left_alone(
        self, here: Town
    ) -> None:
        backend = await here.backend()
        await here.share(backend, "anna", "--parallel", "2")
        async with gate(here.hub.url) as way:
            await here.joins("ben", way.through)
            gateway = await here.gateway("ben")
            plan = Plan(lines=20, head_ms=3_000)
            waiting = asyncio.create_task(ask(gateway.url, plan))
            running = await begun(gateway.url, Plan(lines=300, every_ms=10))
            await backend.runs(2)
            await way.shut()
            assert (await running).is_all_of(Plan(lines=300, every_ms=10))
            assert (await waiting).is_all_of(plan)
            status = await here.told("gateway", "/status", "ben")
            assert not status["signaling"]["connected"]


class TestBackend:
    async def test_killed_every_program_is_told_and_a_new_one_is_used(
        self, here: Town
    ) -> None:
        backend = await here.backend()
        await here.share(backend, "anna", "--parallel", "4")
        gateway = await here.gateway()
        torn = [await begun(gateway.url, SLOW, api) for api in APIS]
        waiting = [asyncio.create_task(ask(gateway.url, NEVER, api)) for api in APIS]
        await backend.runs(4)
        waiting += [asyncio.create_task(ask(gateway.url, SHORT, api)) for api in APIS]
        await here.slots(running=4, waiting=2)
        await kill(backend.child)
        for asking in torn:
            outcome = await asking
            assert outcome.is_failure_that_shows
            assert outcome.error is not None
        for asking in waiting:
            outcome = await asking
            assert outcome.status == 502
            assert outcome.error is not None
        away = await ask(gateway.url, SHORT)
        assert away.status in (502, 503)  # not 404: the model is known
        again = await here.backend(backend.port)
        while (await ask(gateway.url, SHORT)).status != 200:
            await asyncio.sleep(0.2)
        assert (await again.counts())["begun"] >= 1

    async def test_killed_before_the_first_byte_another_provider_answers(
        self, here: Town
    ) -> None:
        backends = [await here.backend(), await here.backend()]
        await here.share(backends[0])
        gateway = await here.gateway()
        await has(gateway, 1)
        assert (await ask(gateway.url, SHORT)).is_all_of(SHORT)  # warm: it comes first
        await here.joins("ben")
        await here.share(backends[1], "ben")
        await has(gateway, 2)
        await kill(backends[0].child)
        for _ in range(20):  # whoever fails quickly must not draw the questions
            assert (await ask(gateway.url, SHORT)).is_all_of(SHORT)
        assert (await backends[1].counts())["begun"] == 20

    async def test_frozen_an_answer_waits_and_a_program_may_still_leave(
        self, here: Town
    ) -> None:
        backend = await here.backend()
        await here.share(backend, "anna", "--parallel", "2")
        gateway = await here.gateway()
        plan = Plan(lines=100, every_ms=10)
        staying, leaving = (
            await begun(gateway.url, plan),
            await begun(gateway.url, SLOW),
        )
        freeze(backend.child)
        leaving.cancel()
        await asyncio.wait([leaving])
        await here.slots(running=1)  # the slot is free though nothing moves
        thaw(backend.child)
        assert (await staying).is_all_of(plan)
        await backend.idle()


class TestSignaling:
    @pytest.mark.parametrize("how", ["killed", "frozen"])
    async def test_answers_go_on_and_new_questions_too(
        self, here: Town, how: str
    ) -> None:
        backend = await here.backend()
        await here.share(backend, "anna", "--parallel", "4")
        gateway = await here.gateway()
        asked = await at_every_moment(here, gateway.url, backend)
        if how == "killed":
            await kill(here.hub.child)
        else:
            freeze(here.hub.child)
        asked.append((SHORT, asyncio.create_task(ask(gateway.url, SHORT))))
        await all_whole(asked, backend)
        port = here.hub.url.rpartition(":")[2]
        if how == "killed":
            await here.meshllm.start("hub", "signal", "--port", port)
        else:
            thaw(here.hub.child)
        newcomer = await here.gateway()  # everybody came back to it by themselves
        await has(newcomer, 1)
        assert (await ask(newcomer.url, SHORT)).is_all_of(SHORT)
