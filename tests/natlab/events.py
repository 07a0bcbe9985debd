"""What happens to a connection in mid-answer: a NAT forgets, an address changes, a line
or a relay is gone for a while or for good.

A program reads a numbered stream meanwhile. What counts is that each number comes once,
and how long after the network was well again the numbers went on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.fakes.counting import Plan
from tests.natlab import net
from tests.natlab.cells import World, world
from tests.natlab.nat import Kind
from tests.natlab.sites import INTERNET, Site
from tests.natlab.vps import Servers

EVERY_S = 0.05  # as fast as people read
BEFORE = 40  # numbers that have come when it happens
OUTAGE_S = 10.0
AFTER_S = 6.0  # it must still run when that it broke off is noticed
# struct nlmsghdr, struct nfgenmsg (linux/netlink.h, linux/netfilter/nfnetlink.h)
DELETE = struct.Struct("=IHHII BBH")
CTNETLINK_DELETE = 1 << 8 | 2
REQUEST_ACK = 1 | 4


@dataclass(frozen=True, slots=True)
class Event:
    """`act` returns when the network is well again, though it may not be as it was."""

    name: str
    asker: Kind
    provider: Kind
    act: Callable[[World], Awaitable[None]]
    lasts_s: float = 0.0

    @property
    def plan(self) -> Plan:
        seconds = BEFORE * EVERY_S + self.lasts_s + AFTER_S
        return Plan(lines=round(seconds / EVERY_S), every_ms=EVERY_S * 1000)


@dataclass(slots=True)
class Ran:
    """`back_s`: from the network's being well again until the numbers went on."""

    event: Event
    before: str = ""
    after: str = ""
    came: list[float] = field(default_factory=list)
    well_at: float = 0.0
    error: str | None = None

    @property
    def back_s(self) -> float:
        began, ended = max(pairwise(self.came), key=lambda pair: pair[1] - pair[0])
        return max(0.0, ended - max(began, self.well_at))


async def run(event: Event, made: World) -> Ran:
    """Ask, let it happen, and read to the end."""
    ran = Ran(event)
    enough = asyncio.Event()

    def on_number(number: int) -> None:
        ran.came.append(time.monotonic())
        if number == BEFORE:
            enough.set()

    async def happen() -> None:
        await enough.wait()
        ran.before = await made.candidates(event.asker, event.provider)
        await event.act(made)
        ran.well_at = time.monotonic()

    happening = asyncio.create_task(happen())
    try:
        outcome = await made.ask(event.asker, event.provider, event.plan, on_number)
        await happening
    finally:
        happening.cancel()
    ran.after = await made.candidates(event.asker, event.provider)
    if not outcome.is_all_of(event.plan):
        ran.error = outcome.error or f"cut after {len(outcome.numbers)} numbers"
        if not outcome.is_in_order:
            ran.error += ", which are not in order"
    return ran


async def _asker_rebinds(made: World) -> None:
    rebind(made.askers[ASKER_REBINDS.asker].site)


async def _provider_rebinds(made: World) -> None:
    rebind(made.providers[PROVIDER_REBINDS.provider].site)


async def _asker_moves(made: World) -> None:
    move(made.askers[ASKER_MOVES.asker].site)


async def _asker_is_cut_off(made: World) -> None:
    site = made.askers[OUTAGE.asker].site
    net.nft(INTERNET, CUT.replace("DEVICE", site.line))
    await asyncio.sleep(OUTAGE_S)
    net.nft(INTERNET, f"delete table inet cut-{site.line}")


async def _relay_dies(made: World) -> None:
    os.kill(made.relay.pid, signal.SIGKILL)


def rebind(site: Site) -> None:
    """Its NAT forgets all connections, and gives new ones other ports."""
    for router in site.routers:
        net.nft(router, OTHER_PORTS)
        flush_conntrack(router)


def move(site: Site) -> None:
    """The host gets another address on its LAN."""
    prefix = f"10.{site.number}.0"
    net.ip(
        site.host(),
        f"addr del {prefix}.2/24 dev eth0",
        f"addr add {prefix}.77/24 dev eth0",
        f"route add default via {prefix}.1",
    )


def flush_conntrack(name: str) -> None:
    """What `conntrack -F` does."""
    with net.inside(name):
        asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    with closing(asking):
        asking.send(
            DELETE.pack(DELETE.size, CTNETLINK_DELETE, REQUEST_ACK, 1, 0, 0, 0, 0)
        )
        (error,) = struct.unpack_from("=i", asking.recv(4096), 16)
    if error:
        raise OSError(-error, "conntrack was not flushed")


NETLINK_NETFILTER = 12  # linux/netlink.h; the socket module does not name it
OTHER_PORTS = """
flush chain ip nat postrouting
add rule ip nat postrouting oifname "wan0" meta l4proto tcp masquerade to :10000-19999
add rule ip nat postrouting oifname "wan0" meta l4proto udp masquerade to :10000-19999
add rule ip nat postrouting oifname "wan0" masquerade
"""
CUT = """
table inet cut-DEVICE {
  chain forward {
    type filter hook forward priority -10
    iifname "DEVICE" drop
    oifname "DEVICE" drop
  }
}
"""

ASKER_REBINDS = Event(
    "the asker's NAT forgets",
    Kind.PORT_RESTRICTED,
    Kind.PORT_RESTRICTED,
    _asker_rebinds,
)
ASKER_MOVES = Event(
    "the asker's address changes", Kind.FULL_CONE, Kind.CGNAT, _asker_moves
)
OUTAGE = Event(
    f"the asker is cut off for {OUTAGE_S:.0f} s",
    Kind.ADDRESS_RESTRICTED,
    Kind.FULL_CONE,
    _asker_is_cut_off,
    lasts_s=OUTAGE_S,
)
PROVIDER_REBINDS = Event(
    "the provider's NAT forgets",
    Kind.CGNAT,
    Kind.ADDRESS_RESTRICTED,
    _provider_rebinds,
)
RELAY_DIES = Event("the relay is killed", Kind.SYMMETRIC, Kind.SYMMETRIC, _relay_dies)
DIRECT = (ASKER_REBINDS, ASKER_MOVES, OUTAGE, PROVIDER_REBINDS)
EVENTS = (*DIRECT, RELAY_DIES)


async def run_all(root: Path) -> list[Ran]:
    """Those of direct paths at once; the relay, theirs too, dies afterwards."""
    pairs = [(event.asker, event.provider) for event in EVENTS]
    async with world(root, pairs, servers=Servers(has_spare=True)) as made:
        ran = await asyncio.gather(*(run(event, made) for event in DIRECT))
        return [*ran, await run(RELAY_DIES, made)]
