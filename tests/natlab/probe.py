"""What a site really is, found out from within it (after RFC 5780).

A laboratory has to prove itself: a wrong rule makes a NAT that no household has, and
every cell measured through it a lie. The words are those of RFC 4787: mapping is
endpoint-independent (EIM) or depends on address (ADM) or address and port (APDM) of the
destination; so does filtering (EIF, ADF, APDF).

One request may ask for several replies, from sockets it names, in that order. Nothing
overtakes on a line: when the last has come, what has not come is filtered.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from itertools import product
from typing import Any

from tests.natlab import net
from tests.natlab.nat import Kind
from tests.natlab.sites import VPS, VPS_HOSTS, VPS_HOSTS6

PORTS = (7001, 7002)
TCP_PORTS = (443, 7001)
SILENCE_S = 1.0  # a reply takes 40 ms
TTL = 64
IP_RECVTTL = 12  # linux/in.h; the socket module does not name it
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Udp:
    """How UDP leaves and enters. `hops`: routers on the way to the server.

    `is_punchable`: a peer's packet that came too early, and was dropped, did not change
    the port that the peer then sees.
    """

    mapping: str
    filtering: str
    hops: int
    is_punchable: bool
    is_translated: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """None: nothing passes."""

    udp: Udp | None
    udp6: Udp | None
    tcp: frozenset[int]


CLOSED = frozenset[int]()
ALL_TCP = frozenset(TCP_PORTS)
# The Internet is a hop of its own.
EXPECTED = {
    Kind.PUBLIC: Found(Udp("EIM", "EIF", 1, True, False), None, ALL_TCP),
    Kind.FULL_CONE: Found(Udp("EIM", "EIF", 2, True), None, ALL_TCP),
    Kind.ADDRESS_RESTRICTED: Found(Udp("EIM", "ADF", 2, True), None, ALL_TCP),
    Kind.PORT_RESTRICTED: Found(Udp("EIM", "APDF", 2, True), None, ALL_TCP),
    Kind.CGNAT: Found(Udp("EIM", "APDF", 3, True), None, ALL_TCP),
    Kind.SYMMETRIC: Found(Udp("APDM", "APDF", 2, False), None, ALL_TCP),
    Kind.V6_SYMMETRIC: Found(
        Udp("APDM", "APDF", 2, False), Udp("EIM", "APDF", 2, True, False), ALL_TCP
    ),
    Kind.UDP_BLOCKED: Found(None, None, ALL_TCP),
    Kind.TCP443: Found(None, None, frozenset({443})),
}


@asynccontextmanager
async def probe_server() -> AsyncIterator[None]:
    """On both addresses and both ports of the VPS, IPv4 and IPv6; and TCP."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        for hosts in (VPS_HOSTS, VPS_HOSTS6):
            group = [
                stack.enter_context(closing(_udp(VPS, *where)))
                for where in product(hosts, PORTS)
            ]
            for one in group:
                loop.add_reader(one, _answer, one, group)
                stack.callback(loop.remove_reader, one)
        for port in TCP_PORTS:
            listening = net.bound(VPS, socket.SOCK_STREAM, VPS_HOSTS[0], port)
            stack.enter_context(closing(listening)).listen()
        yield


def _udp(name: str, host: str, port: int = 0) -> socket.socket:
    made = net.bound(name, socket.SOCK_DGRAM, host, port)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    return made


def _answer(here: socket.socket, group: Sequence[socket.socket]) -> None:
    data, told, _, source = here.recvmsg(2048, 128)
    left = int.from_bytes(told[0][2][:1])  # the only thing we asked to be told
    for index in json.loads(data):
        reply = {"seen": source[:2], "hops": TTL - left, "from": index}
        group[index].sendto(json.dumps(reply).encode(), source)


async def classify(name: str) -> Found:
    """The site that this host is in."""
    udp, udp6, tcp = await asyncio.gather(
        _classify_udp(name, "0.0.0.0", VPS_HOSTS),
        _classify_udp(name, "::", VPS_HOSTS6),
        asyncio.gather(*(_connects(name, port) for port in TCP_PORTS)),
    )
    open_ports = zip(TCP_PORTS, tcp, strict=True)
    return Found(udp, udp6, frozenset(port for port, is_open in open_ports if is_open))


async def _classify_udp(name: str, host: str, to: Sequence[str]) -> Udp | None:
    destinations = list(product(to, PORTS))
    with closing(_udp(name, host)) as here:
        replies = []
        for index, destination in enumerate(destinations):
            replies += await _ask(here, destination, [index])
            if not replies:
                return None
    seen = [tuple(reply["seen"]) for reply in replies]
    with closing(_udp(name, host)) as here:
        same_address, unseen = 1, 3
        heard = await _ask(here, destinations[0], [unseen, same_address, 0])
    with closing(_udp(name, host)) as here:
        before = await _ask(here, destinations[0], [3, 0])
        after = await _ask(here, destinations[3], [3])
    return Udp(
        _mapping(seen),
        _filtering({reply["from"] for reply in heard}),
        replies[0]["hops"],
        is_punchable=before[-1]["seen"] == after[-1]["seen"],
        is_translated=seen[0][0] not in net.addresses(name),
    )


def _mapping(seen: Sequence[Address]) -> str:
    """`seen` by both ports of the first address, then by those of the second."""
    if len(set(seen)) == 1:
        return "EIM"
    return "ADM" if seen[0] == seen[1] and seen[2] == seen[3] else "APDM"


def _filtering(heard: Iterable[int]) -> str:
    return {frozenset({0, 1, 3}): "EIF", frozenset({0, 1}): "ADF"}.get(
        frozenset(heard), "APDF"
    )


async def _ask(
    here: socket.socket, to: Address, replies: Sequence[int]
) -> list[dict[str, Any]]:
    """What came until the last of the replies did; nothing when that did not."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendto(here, json.dumps(replies).encode(), to)
        heard: list[dict[str, Any]] = []
        async with asyncio.timeout(SILENCE_S):
            while not heard or heard[-1]["from"] != replies[-1]:
                heard.append(json.loads(await loop.sock_recv(here, 2048)))
    except (TimeoutError, OSError):
        return []
    return heard


async def _connects(name: str, port: int) -> bool:
    with closing(net.bound(name, socket.SOCK_STREAM, "0.0.0.0")) as here:
        try:
            async with asyncio.timeout(SILENCE_S):
                await asyncio.get_running_loop().sock_connect(
                    here, (VPS_HOSTS[0], port)
                )
        except (TimeoutError, OSError):
            return False
    return True
