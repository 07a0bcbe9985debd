"""A LAN: hosts on one switch, with cables that can be pulled, and no way out."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp

from tests.natlab import net

SWITCH = "switch"
NETWORK = "10.77.0"


def address(index: int) -> str:
    """Of the host with this place in the list, from 0."""
    return f"{NETWORK}.{index + 1}"


@contextmanager
def lan(hosts: Sequence[str]) -> Iterator[None]:
    """Namespaces of their own, that have nothing but this LAN."""
    with net.namespaces(*hosts), segment(hosts):
        yield


@contextmanager
def segment(hosts: Sequence[str]) -> Iterator[None]:
    """A LAN between namespaces that exist, on a device `eth9` of each."""
    with net.namespaces(SWITCH):
        net.ip(SWITCH, "link add name lan0 type bridge", "link set lan0 up")
        for index, host in enumerate(hosts):
            cable = f"port{index}"
            net.veth(host, "eth9", SWITCH, cable)
            net.ip(SWITCH, f"link set {cable} master lan0", f"link set {cable} up")
            net.ip(
                host,
                f"addr add {address(index)}/24 dev eth9",
                f"addr add fd77::{index + 1}/64 dev eth9 nodad",
                "link set eth9 up",
            )
        yield


def pull(index: int) -> None:
    """The cable of this host, at the switch."""
    net.ip(SWITCH, f"link set port{index} down")


def plug(index: int) -> None:
    net.ip(SWITCH, f"link set port{index} up")


def beside(host: str, url: str, **options: Any) -> aiohttp.ClientSession:
    """A program on that host, which asks this address of it."""

    def inside(info: tuple[Any, ...]) -> socket.socket:
        with net.inside(host):
            return socket.socket(*info[:3])

    connector = aiohttp.TCPConnector(socket_factory=inside)
    return aiohttp.ClientSession(url, connector=connector, **options)
