"""`python -m tests.e2e.soak --minutes 10`: kills and freezes, again and again.

Two providers, two gateways, one signaling server, two model servers, and programs that
ask all the time. One gateway and one provider are never touched: their memory, tasks
and file descriptors must not grow from round to round. An answer may fail while
something is dead, but may not be wrong, nor fail in silence. At the end no process,
lock or file is left. Exit code 1 when any of that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.commands import Serving
from tests.fakes.counting import Plan
from tests.fakes.program import OLLAMA, OPENAI, Outcome, ask
from tests.fakes.town import Backend, Town, freeze, has, kill, memory_kib, thaw, town

PROGRAMS = 6
PLANS = (
    Plan(lines=100, every_ms=10),
    Plan(lines=20, every_ms=100, head_ms=500),
    Plan(lines=400, pad=4_000),
    Plan(lines=1, head_ms=1_500),
)
RECOVERS_S = 30.0  # what happens takes up to 12 s of it
MEMORY_KIB = 16 << 10  # what an untouched process may grow after the first round
SPARE = 4  # tasks or descriptors that happen to be there at one moment


@dataclass
class Ledger:
    """What came of the questions."""

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: dict[str, float] = field(default_factory=dict)  # until all is well again

    def enter(self, plan: Plan, outcome: Outcome) -> None:
        if outcome.is_all_of(plan):
            self.ends["whole"] += 1
        elif outcome.is_failure_that_shows and outcome.status in (
            0,
            200,
            502,
            503,
            504,
        ):
            why = (outcome.error or "the connection was cut")[:60]
            self.ends[f"failed, {outcome.status or 'before its head'}: {why}"] += 1
        else:
            self.wrong.append(f"{plan}: {outcome}")


@dataclass
class Stage:
    """Who is there. `anna` and the first gateway suffer; `ben` and the other do not."""

    here: Town
    backends: list[Backend]
    victim: Serving
    witness: Serving
    gateways: list[Serving]
    ledger: Ledger = field(default_factory=Ledger)
    may_ask: asyncio.Event = field(default_factory=asyncio.Event)
    asking: int = 0

    async def program(self, number: int) -> None:
        """Asks one question after the other."""
        for turn in itertools.count(number):
            await self.may_ask.wait()
            plan = PLANS[turn % len(PLANS)]
            api = (OLLAMA, OPENAI)[turn % 2]
            gateway = self.gateways[number % 2]
            self.asking += 1
            try:
                outcome = await ask(gateway.url, plan, api)
            finally:
                self.asking -= 1
            self.ledger.enter(plan, outcome)
            if outcome.status == 0:
                await asyncio.sleep(0.2)  # nobody listens: as programs do, wait a bit

    async def well(self) -> None:
        """Until both providers are there and both gateways answer."""
        plan = Plan(lines=5)
        for gateway in self.gateways:
            while not (await ask(gateway.url, plan)).is_all_of(plan):
                await asyncio.sleep(0.1)
            await has(gateway, 2)

    async def quiet(self) -> None:
        """Until nothing is asked nor run."""
        self.may_ask.clear()
        while self.asking:
            await asyncio.sleep(0.1)
        for backend in self.backends:
            await backend.idle()
        for home in ("anna", "ben"):
            await self.here.slots(home, running=0)
        await asyncio.sleep(1.0)  # what ends with the next tick ends


# What happens. Each returns when the dead are replaced.


async def kill_provider(stage: Stage) -> None:
    await kill(stage.victim.child)
    stage.victim = await stage.here.share(stage.backends[0], "anna", "--parallel", "4")


async def end_provider(stage: Stage) -> None:
    os.kill(stage.victim.child.pid, signal.SIGTERM)
    await stage.victim.child.wait()
    stage.victim = await stage.here.share(stage.backends[0], "anna", "--parallel", "4")


async def freeze_provider(stage: Stage, seconds: float = 2.0) -> None:
    freeze(stage.victim.child)
    await asyncio.sleep(seconds)
    thaw(stage.victim.child)


async def freeze_provider_long(stage: Stage) -> None:
    await freeze_provider(stage, 12.0)


async def kill_gateway(stage: Stage) -> None:
    old = stage.gateways[0]
    await kill(old.child)
    port = old.url.rpartition(":")[2]
    stage.gateways[0] = await stage.here.gateway("anna", port)


async def freeze_gateway(stage: Stage) -> None:
    freeze(stage.gateways[0].child)
    await asyncio.sleep(2.0)
    thaw(stage.gateways[0].child)


async def kill_backend(stage: Stage) -> None:
    old = stage.backends[0]
    await kill(old.child)
    stage.backends[0] = await stage.here.backend(old.port)


async def freeze_backend(stage: Stage) -> None:
    freeze(stage.backends[0].child)
    await asyncio.sleep(2.0)
    thaw(stage.backends[0].child)


async def kill_signaling(stage: Stage) -> None:
    old = stage.here.hub
    await kill(old.child)
    port = old.url.rpartition(":")[2]
    stage.here.hub = await stage.here.meshllm.start("hub", "signal", "--port", port)


async def freeze_signaling(stage: Stage) -> None:
    freeze(stage.here.hub.child)
    await asyncio.sleep(2.0)
    thaw(stage.here.hub.child)


DISASTERS: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    freeze_provider,
    kill_backend,
    kill_provider,
    freeze_gateway,
    kill_signaling,
    end_provider,
    freeze_backend,
    kill_gateway,
    freeze_signaling,
    freeze_provider_long,
)


@dataclass(frozen=True)
class Size:
    """Of a process at rest."""

    memory_kib: int
    tasks: int
    descriptors: int


async def sizes(stage: Stage) -> list[Size]:
    """Of the provider and the gateway that nobody touches."""
    found = []
    for role, serving in (("share", stage.witness), ("gateway", stage.gateways[1])):
        pid = serving.child.pid
        status = await stage.here.told(role, "/status", "ben")
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        found.append(Size(memory_kib(serving.child), status["tasks"], descriptors))
    return found


async def strike(stage: Stage, disaster: Callable[[Stage], Awaitable[None]]) -> None:
    name = disaster.__name__
    began = time.monotonic()
    await disaster(stage)
    try:
        async with asyncio.timeout(RECOVERS_S):
            await stage.well()
    except TimeoutError:
        stage.ledger.wrong.append(f"{name}: not well after {RECOVERS_S:.0f} s")
    took = time.monotonic() - began
    slowest = stage.ledger.slowest_s
    slowest[name] = max(took, slowest.get(name, 0.0))


async def soak(minutes: float) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        async with town(Path(folder)) as here:
            backends = [await here.backend(), await here.backend()]
            victim = await here.share(backends[0], "anna", "--parallel", "4")
            await here.joins("ben")
            witness = await here.share(backends[1], "ben", "--parallel", "4")
            gateways = [await here.gateway("anna"), await here.gateway("ben")]
            stage = Stage(here, backends, victim, witness, gateways)
            measured: list[list[Size]] = []
            programs = [
                asyncio.create_task(stage.program(number)) for number in range(PROGRAMS)
            ]
            until = time.monotonic() + minutes * 60
            try:
                while time.monotonic() < until or len(measured) < 2:
                    stage.may_ask.set()
                    for disaster in DISASTERS:
                        await strike(stage, disaster)
                    await stage.quiet()
                    measured.append(await sizes(stage))
                    say(f"round {len(measured)}: {measured[-1]}")
            finally:
                for program in programs:
                    program.cancel()
                await asyncio.wait(programs)
            for program in programs:
                if not program.cancelled() and (error := program.exception()):
                    raise error
        stage.ledger.wrong += left_over(Path(folder))
    return judge(stage.ledger, measured)


def left_over(folder: Path) -> list[str]:
    """Sockets and temporary files of processes that were all told to end."""
    left = [*folder.glob("tmp/*"), *folder.glob("*/run/*")]
    return [f"left over: {path}" for path in left if path.suffix != ".lock"]


def judge(ledger: Ledger, measured: list[list[Size]]) -> bool:
    """Says how it went; False when something was wrong or has grown."""
    is_good = not ledger.wrong and ledger.ends["whole"] > 0
    for end, count in sorted(ledger.ends.items()):
        say(f"{count:6} answers {end}")
    for name, seconds in ledger.slowest_s.items():
        say(f"{seconds:6.1f} s at most until all was well after {name}")
    for text in ledger.wrong[:20]:
        say(f"WRONG {text}")
    pairs = zip(("provider", "gateway"), measured[0], measured[-1], strict=True)
    for name, first, last in pairs:
        say(f"untouched {name}: {first} -> {last}")
        is_flat = (
            last.memory_kib - first.memory_kib <= MEMORY_KIB
            and last.tasks - first.tasks <= SPARE
            and last.descriptors - first.descriptors <= SPARE
        )
        is_good = is_good and is_flat
    say("well" if is_good else "NOT WELL")
    return is_good


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    sys.exit(0 if asyncio.run(soak(parser.parse_args().minutes)) else 1)
