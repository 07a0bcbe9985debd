"""`meshllm pair` on a LAN: two hosts and a cable, no server, no route out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.commands import Commands, commands
from tests.fakes.pairing import pairing
from tests.natlab import net

MISSING = net.missing()
pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(120),
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
]
ANNA, BEN = "anna", "ben"


@pytest.fixture
def cable() -> Iterator[None]:
    """Between two hosts, which have nothing else."""
    with net.namespaces(ANNA, BEN):
        net.veth(ANNA, "eth9", BEN, "eth9")
        for index, host in enumerate((ANNA, BEN), 1):
            net.ip(host, f"addr add 10.78.0.{index}/24 dev eth9", "link set eth9 up")
        yield


async def init(meshllm: Commands) -> None:
    meshllm.env["MESHLLM_LOOPBACK"] = ""
    await meshllm.run("anna", "init")


async def test_two_machines_on_one_network_find_each_other(
    cable: None, tmp_path: Path
) -> None:
    async with commands(tmp_path) as meshllm:
        await init(meshllm)
        async with (
            pairing(meshllm, "ben", at=net.entered(BEN)) as ben,
            pairing(meshllm, "anna", "--name", "ben", at=net.entered(ANNA)) as anna,
        ):
            assert (await anna.until("waiting"))["lan"] is True
            code = (await ben.until("code"))["code"]
            anna.type(code)
            ben.type((await anna.until("receipt"))["receipt"])
            ours, theirs = await anna.until("paired"), await ben.until("paired")
            assert (await anna.ends(), await ben.ends()) == (0, 0)
        assert (ours["name"], ours["sure"]) == ("ben", True)
        assert ours["mesh"] == theirs["mesh"]
        status = (await meshllm.run("ben", "status", "--json")).json
        assert (status["role"], status["provisional"]) == ("guest", False)


async def test_a_wrong_code_and_then_the_right_one(cable: None, tmp_path: Path) -> None:
    async with commands(tmp_path) as meshllm:
        await init(meshllm)
        async with (
            pairing(meshllm, "anna", at=net.entered(ANNA)) as anna,
            pairing(meshllm, "ben", at=net.entered(BEN)) as ben,
        ):
            code = (await ben.until("code"))["code"]
            anna.type(f"{(int(code) + 1) % 1_000_000:06}")
            assert "again with `meshllm pair` on both" in await anna.fails()
            assert "typed on the other machine are wrong" in await ben.fails()
        async with (
            pairing(meshllm, "anna", at=net.entered(ANNA)) as anna,
            pairing(meshllm, "ben", at=net.entered(BEN)) as ben,
        ):
            anna.type((await ben.until("code"))["code"])
            ben.type((await anna.until("receipt"))["receipt"])
            assert (await anna.ends(), await ben.ends()) == (0, 0)


async def test_a_cable_that_is_pulled_ends_it_on_both(
    cable: None, tmp_path: Path
) -> None:
    async with commands(tmp_path) as meshllm:
        await init(meshllm)
        async with (
            pairing(meshllm, "anna", at=net.entered(ANNA)) as anna,
            pairing(meshllm, "ben", at=net.entered(BEN)) as ben,
        ):
            await ben.until("code")
            await anna.until("ask")
            net.ip(ANNA, "link set eth9 down")
            ends = await asyncio.gather(anna.fails(), ben.fails())
            assert all("has gone away" in said for said in ends), ends
