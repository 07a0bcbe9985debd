"""A machine that moves, loses its route, or sleeps; addresses and clock are scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import ifaddr
import pytest

from meshllm.transport import network
from meshllm.transport.addresses import LanAddress
from meshllm.transport.network import LOOK_S, Look, Network, NetworkWatch, read_network

HOME = Network(
    (LanAddress("192.168.1.7", 24, "eth0"),),
    frozenset({"192.168.1.7"}),
    ("192.168.1.7",),
)
CAFE = Network(
    (LanAddress("10.4.0.9", 16, "wlan0"),), frozenset({"10.4.0.9"}), ("10.4.0.9",)
)
NOWHERE = Network((), frozenset(), ())


@dataclass
class Machine:
    network: Network = HOME
    now: float = 1_700_000_000.0
    looks: list[Look] = field(default_factory=list)

    def watch(self) -> NetworkWatch:
        return NetworkWatch(
            self.looks.append, read=lambda: self.network, clock=lambda: self.now
        )


def test_the_first_look_is_no_news() -> None:
    assert Machine().watch().look() == Look(HOME)


@pytest.mark.parametrize(
    "now",
    [CAFE, NOWHERE, replace(HOME, ways_out=()), replace(HOME, usable=frozenset())],
    ids=["moved", "unplugged", "no route", "no address"],
)
def test_a_machine_that_moved_is_seen_once_and_when_it_comes_back(now: Network) -> None:
    machine = Machine()
    watch = machine.watch()
    told = []
    for there in (HOME, now, now, HOME):
        machine.network = there
        told.append(watch.look())
        machine.now += LOOK_S
    assert [look.is_news for look in told] == [False, True, False, True]
    assert [look.is_other for look in told] == [False, True, False, True]
    assert told[1].network == now


@pytest.mark.parametrize("late_s", [3_600.0, 6.0, -3_600.0])
def test_a_jump_of_the_clock_is_a_sleep(late_s: float) -> None:
    machine = Machine()
    watch = machine.watch()
    watch.look()
    machine.now += LOOK_S + late_s
    assert watch.look() == Look(HOME, has_slept=True)
    machine.now += LOOK_S
    assert not watch.look().is_news


def test_a_busy_machine_has_not_slept() -> None:
    machine = Machine()
    watch = machine.watch()
    watch.look()
    machine.now += LOOK_S + 4.0
    assert not watch.look().is_news


async def test_it_looks_at_once_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "LOOK_S", 0.0)
    machine, seen = Machine(), asyncio.Event()

    def tell(look: Look) -> None:
        machine.looks.append(look)
        if len(machine.looks) == 1:
            machine.network = CAFE
        elif len(machine.looks) == 3:
            seen.set()

    watch = NetworkWatch(tell, read=lambda: machine.network, clock=lambda: machine.now)
    running = asyncio.create_task(watch.run())
    await seen.wait()
    running.cancel()
    assert [look.is_news for look in machine.looks[:3]] == [False, True, False]


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ifaddr.Adapter]]:
    found: list[ifaddr.Adapter] = []
    monkeypatch.delenv("MESHLLM_LOOPBACK", raising=False)
    monkeypatch.delenv("MESHLLM_INTERFACES", raising=False)
    monkeypatch.setattr("ifaddr.get_adapters", lambda: found)
    monkeypatch.setattr(
        "meshllm.transport.network.read_ways_out", lambda: ("10.4.0.9",)
    )
    yield found


def adapter(
    name: str, address: str | tuple[str, int, int], bits: int
) -> ifaddr.Adapter:
    return ifaddr.Adapter(name, name, [ifaddr.IP(address, bits, name)])


def test_containers_that_come_and_go_are_no_move(
    adapters: list[ifaddr.Adapter],
) -> None:
    adapters += [adapter("lo", "127.0.0.1", 8), adapter("wlan0", "10.4.0.9", 16)]
    before = read_network()
    assert before == CAFE
    adapters.append(adapter("docker0", "172.17.0.1", 16))
    adapters.append(adapter("veth1", ("fe80::7", 0, 9), 64))
    assert read_network() == before
