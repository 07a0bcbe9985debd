"""A guest on the LAN who means no good: nobody dials for him, nobody is harmed."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshllm.nearby.neighbours import NEW_PER_S
from meshllm.trust.keys import PEER_ID_CHARS
from tests.fakes.commands import commands
from tests.fakes.town import memory_kib
from tests.natlab import net
from tests.natlab.lan import address, lan
from tests.natlab.test_lan import ANNA, BEN, Home, processes

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

HOSTS = {ANNA: "lan-anna", BEN: "lan-ben"}
GUEST = "lan-guest"
CROWD = 10_000
OFFERS = 400
GROWTH_KIB = 48 * 1024
POLL_S = 0.05


class Guest:
    """Orders for tests/natlab/hostile.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, what: str, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **order}).encode() + b"\n")
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return said


@asynccontextmanager
async def guest(host: str, at: str) -> AsyncIterator[Guest]:
    argv = (sys.executable, "-m", "tests.natlab.hostile", at)
    process = await asyncio.create_subprocess_exec(
        *net.entered(host, *argv),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        here = Guest(process)
        await here.hear()
        yield here
    finally:
        process.kill()
        await process.wait()


async def test_a_hostile_guest_is_seen_and_harms_nobody(tmp_path: Path) -> None:
    with lan([*HOSTS.values(), GUEST]):
        async with (
            commands(tmp_path) as meshllm,
            processes(meshllm, HOSTS) as home,
            guest(GUEST, address(2)) as mallory,
        ):
            assert await home.asks() == (200, "lan", "Hello wörld")
            before = [memory_kib(one.child) for one in (home.share, home.gateway)]
            anna = (await home.provider())["id"]
            lookalike = anna[:8] + "a" * (PEER_ID_CHARS - 8)

            await mallory.do("claim", id=anna, name="meshllm-false")
            await mallory.do("claim", id=lookalike, name="meshllm-alike")
            await mallory.do("claim", id=anna, name="meshllm-bomb", padding=60_000)
            await mallory.do("claim", id=anna, name="meshllm-fat", padding=8_000)
            await mallory.do("claim", id=anna, name="a bell \x07")
            shown = await impostors(home, 2)
            assert {row["id"] for row in shown} == {anna, lookalike}
            assert all(row["problem"] and row["path"] is None for row in shown)

            crowding = asyncio.create_task(mallory.do("crowd", count=CROWD))
            while not crowding.done():
                assert await home.asks() == (200, "lan", "Hello wörld")
                await asyncio.sleep(POLL_S)

            (place,) = [
                one for one in home.share.said["lan"] if one.startswith(address(0))
            ]
            flooding = asyncio.create_task(
                mallory.do("offers", place=place, count=OFFERS)
            )
            while not flooding.done():
                assert await home.asks() == (200, "lan", "Hello wörld")
                await asyncio.sleep(POLL_S)
            statuses = await flooding
            assert statuses["429"] > OFFERS - 30  # 10 a minute are heard

            assert (await home.provider())["path"] == "lan"
            clients = await home.peers(ANNA, "share")
            assert {row["name"] for row in clients if row["direction"] == "client"} == {
                BEN
            }
            after = [memory_kib(one.child) for one in (home.share, home.gateway)]
            growth = [now - then for then, now in zip(before, after, strict=True)]
            sys.stdout.write(f"\nmemory of share and gateway: {growth} KiB more\n")
            assert max(growth) < GROWTH_KIB
            came = (await mallory.do("came"))["came"]
            # Who is there was asked; nothing was told, and nobody was called.
            assert {line for _, line in came} <= {"GET /v1/card HTTP/1.1"}
            times = [at for at, _ in came]
            most = NEW_PER_S * (times[-1] - times[0] + 1)
            assert len(came) < 2 * most  # of the share and of the gateway


async def impostors(home: Home, count: int) -> list[dict[str, Any]]:
    """Until so many are shown, and no real peer is among them."""
    for _ in itertools.count():
        rows = await home.peers(BEN, "gateway")
        found = [row for row in rows if row["direction"] == "stranger"]
        if len(found) == count:
            return found
        await asyncio.sleep(POLL_S)
    raise AssertionError
