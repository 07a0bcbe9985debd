"""What is said of this node and of this machine's addresses."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from meshllm.doctor.check import Check, State
from meshllm.doctor.here import check_node, check_running, global_ipv6, judge_addresses
from meshllm.errors import ConfigError
from meshllm.transport.addresses import choose
from meshllm.trust.grants import Role
from tests.fakes.mesh import village

LO = ("lo", "127.0.0.1")
LAN = ("eth0", "192.168.1.7")
DOCKER = ("docker0", "172.17.0.1")
SIX = ("eth0", "2001:db8::7")
DAY_S = 86_400


def judged(*found: tuple[str, str], is_forced: bool = False) -> Check:
    machine = choose(found, is_forced=is_forced)
    return judge_addresses(found, machine, is_forced=is_forced)


def test_what_is_left_out_has_a_reason() -> None:
    check = judged(LO, LAN, DOCKER)
    assert check.text == (
        "offers 192.168.1.7 (eth0); leaves out 172.17.0.1 (docker0, virtual or of a"
        " VPN)"
    )
    assert check.facts["offered"] == ["192.168.1.7"]
    assert [one["interface"] for one in check.facts["left_out"]] == ["docker0"]


def test_more_than_eight_are_too_many() -> None:
    check = judged(LAN, *(("eth0", f"2001:db8::{n}") for n in range(9)))
    assert {one["why"] for one in check.facts["left_out"]} == {"8 are enough"}
    assert len(check.facts["left_out"]) == 2


def test_a_machine_without_a_network_is_warned_of() -> None:
    check = judged(LO)
    assert (check.state, check.facts["offered"]) == (State.WARNING, ["127.0.0.1"])


def test_loopback_by_wish_is_no_fault() -> None:
    check = judged(LO, LAN, is_forced=True)
    assert check.state is State.OK
    assert "leaves out 192.168.1.7 (eth0, MESHLLM_LOOPBACK=1)" in check.text


def test_ipv6_counts_when_the_world_could_reach_it() -> None:
    hosts = ["192.168.1.7", "::1", "fd00::7", "fe80::7", SIX[1]]
    assert global_ipv6(hosts) == [SIX[1]]


def test_a_home_in_no_mesh_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in no mesh"):
        check_node(tmp_path, int(time.time()))


async def test_a_node_says_who_it_is_and_until_when(tmp_path: Path) -> None:
    now = int(time.time())
    async with village(tmp_path) as town:
        owner = check_node(town.owner, now)
        assert (owner.state, owner.facts["role"]) == (State.OK, "owner")
        assert "olga" in owner.text
        assert str(town.owner) in owner.text

        await town.node(town.owner)  # it confirms whoever comes
        home = await town.join(town.invite("mia", Role.MEMBER), "mia")
        early = check_node(home, now)
        assert (early.state, early.facts["provisional"]) == (State.WARNING, True)
        assert "an owner's node must be online" in (early.do or "")

        node = await town.node(home)
        while node.membership.is_provisional:
            await asyncio.sleep(0.01)
        until = check_node(home, now).facts["until"]
        assert check_node(home, now).state is State.OK
        assert check_node(home, until - DAY_S).state is State.WARNING
        ended = check_node(home, until + DAY_S)
        assert (ended.state, ended.facts["role"]) == (State.ERROR, None)
        assert "new link" in (ended.do or "")


async def test_nothing_runs_and_says_what_could(tmp_path: Path) -> None:
    check = await check_running(tmp_path)
    assert (check.state, check.facts["processes"]) == (State.OK, [])
    assert "`meshllm share`" in check.text
