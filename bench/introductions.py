"""The hub at work: a real `meshllm signal` and 500 members over real WebSockets."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Final

from bench.load import percentile
from bench.member import Member
from bench.rig import cpu_s, rss_kib, start
from meshllm.protocol import signals
from tests.fakes.hubs import Mesh

FIRST: Final = (
    50  # are there before memory is looked at: what is made once is not theirs
)
MEMBERS: Final = 500
AT_ONCE: Final = 50
RATE: Final = 1_000  # introductions a second, while their delay is measured
PACED_S: Final = 4
EACH: Final = 40  # one after another; the hub lets a key send 100 at once
TIMEOUT_S: Final = 20


async def hub_at_work() -> dict[str, float]:
    """What an idle login costs; how late introductions come, and how many can."""
    with ExitStack() as stack:
        home = stack.enter_context(TemporaryDirectory(prefix="meshllm-"))
        argv = ["-m", "meshllm", "--json", "--home", home, "signal", "--port", "0"]
        # Members come from an address each: its limits are meant for a household.
        argv += ["--admit", "open", "--trusted-proxy", "127.0.0.1/32"]
        hub = start(stack, argv, "ready")
        async with asyncio.timeout(TIMEOUT_S):
            return await _measure(hub["url"], hub["pid"])


async def _measure(url: str, pid: int) -> dict[str, float]:
    mesh = Mesh()
    owner = await Member.enter(url, "owner", "10.0.0.0", ())
    owner.ask(signals.Register(1, None, mesh.statement))
    await owner.done()
    first = await _enter(url, mesh, 1, FIRST)
    before = rss_kib(pid)
    members = await _enter(url, mesh, 1 + FIRST, MEMBERS)
    login_kib = (rss_kib(pid) - before) / MEMBERS
    for member, other in zip(members, [*members[1:], members[0]], strict=True):
        member.target(other)
    late_ms = await _paced(members)
    busy, begun = cpu_s(pid), time.perf_counter()
    await asyncio.gather(*(member.repeat(EACH) for member in members))
    seconds, busy = time.perf_counter() - begun, cpu_s(pid) - busy
    for member in (owner, *first, *members):
        member.leave()
    return {
        "KiB per idle login": login_kib,
        f"forward p50 ms, {RATE}/s": statistics.median(late_ms),
        f"forward p99 ms, {RATE}/s": percentile(late_ms, 99),
        "messages/s": MEMBERS * EACH / seconds,
        "hub cpu us/message": busy / (MEMBERS * EACH) * 1e6,
    }


async def _enter(url: str, mesh: Mesh, first: int, count: int) -> list[Member]:
    names = [(n, f"node {n}") for n in range(first, first + count)]
    members: list[Member] = []
    for at in range(0, count, AT_ONCE):
        members += await asyncio.gather(
            *(
                Member.enter(url, name, f"10.0.{n >> 8}.{n & 255}", mesh.chain(name))
                for n, name in names[at : at + AT_ONCE]
            )
        )
    return members


async def _paced(members: list[Member]) -> list[float]:
    """RATE a second from all of them in turn: milliseconds until each has come."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for count in range(RATE * PACED_S):
        if (wait := begun + count / RATE - loop.time()) > 0:
            await asyncio.sleep(wait)
        members[count % len(members)].introduce()
    await asyncio.gather(*(member.done() for member in members))
    return [late for member in members for late in member.late_ms]
