"""Finds the addresses that a relay on this machine has, inside and to the outside."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence
from typing import Final

from meshllm.errors import ConfigError
from signaling import stun
from signaling.coturn_config import DENIED, PORT, Address

log = logging.getLogger(__name__)

# Documentation addresses (RFC 5737, RFC 3849): to ask for the way there sends nothing.
ELSEWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def own_addresses() -> list[Address]:
    """What this machine sends from by default: IPv4 first, then IPv6, as far as it has
    them. ConfigError: it has no network."""
    found = [address for family in ELSEWHERE if (address := _source(family))]
    if not found:
        raise ConfigError(
            "This machine has no way to other networks, so coturn has no address."
            " Name one with --turn-ip IP."
        )
    return found


def _source(family: socket.AddressFamily) -> Address | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((ELSEWHERE[family], 9))
            address = ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
    except OSError:
        return None
    return None if address.is_loopback or address.is_link_local else address


def is_inside(address: Address) -> bool:
    """Whether the outside cannot reach it."""
    return any(address in network for network in DENIED)


async def external_address(
    relay: Address, stun_urls: Sequence[str], public_host: str | None
) -> Address | None:
    """None when the relay's own address is what the outside sees. ConfigError when it
    is not, and nobody can say what it is."""
    if not is_inside(relay):
        return None
    if isinstance(relay, ipaddress.IPv4Address):
        for url in stun_urls:
            found = await _ask(url, relay)
            if found is not None and not is_inside(found):
                log.info("coturn: %s is %s to the outside, says %s", relay, found, url)
                return found
        for found in await _resolve(public_host, PORT):
            if not is_inside(found):
                log.info("coturn: %s is %s, as %s has it", relay, found, public_host)
                return found
    raise ConfigError(
        f"Others cannot reach {relay}, this machine's own address, and nothing says"
        " what it is to the outside: add --external-ip IP."
    )


async def _ask(url: str, relay: ipaddress.IPv4Address) -> Address | None:
    host, _, port = url.partition(":")[2].partition(":")
    for address in await _resolve(host, int(port or PORT)):
        if (
            found := await stun.ask((str(address), int(port or PORT)), relay)
        ) is not None:
            return found
    log.warning("coturn: %s does not say what %s is to the outside", url, relay)
    return None


async def _resolve(host: str | None, port: int) -> list[ipaddress.IPv4Address]:
    if not host:
        return []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM
        )
    except OSError:
        return []
    return [ipaddress.IPv4Address(where[0]) for *_, where in found]
