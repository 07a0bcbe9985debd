"""Pure: who the caller is when proxies of ours stand before the server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 7239 §4; a quoted value holds no quotes when it is an address.
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*"?([^";]*)"?\s*(?:;|$)', re.IGNORECASE)
# Some proxies add the port.
_PORT: Final = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[\d.]+):\d+")
_LONGEST: Final = 64  # of what a proxy says; nothing longer is an address


def caller(
    remote: str,
    forwarded_for: Sequence[str],
    forwarded: Sequence[str],
    trusted: Sequence[Network],
) -> str:
    """`remote` is who is connected. If that is a proxy of ours, the nearest address
    beyond our proxies; what stands farther left is said by strangers.

    The lists are the values of the headers X-Forwarded-For and Forwarded. A proxy
    writes one and may pass on a stranger's other: when they disagree it is the proxy
    that counts.
    """
    if not _is_ours(remote, trusted):
        return remote
    claims = [
        _beyond(remote, hops, trusted)
        for hops in (_split(forwarded_for), _standard(forwarded))
        if hops
    ]
    return claims[0] if len(set(claims)) == 1 else remote


def _beyond(remote: str, hops: list[str], trusted: Sequence[Network]) -> str:
    address = remote
    while hops and _is_ours(address, trusted):
        address = _bare(hops.pop())
    return address


def _split(values: Sequence[str]) -> list[str]:
    hops = [hop.strip() for value in values for hop in value.split(",")]
    return [hop for hop in hops if hop]


def _standard(values: Sequence[str]) -> list[str]:
    found = [_FOR.search(hop) for hop in _split(values)]
    return [match[1].strip() for match in found if match]


def _bare(hop: str) -> str:
    match = _PORT.fullmatch(hop)
    return (match["v6"] or match["v4"] if match else hop)[:_LONGEST]


def _is_ours(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if parsed.version == 6 else None
    return any((mapped or parsed) in network for network in trusted)
