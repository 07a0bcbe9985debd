"""The addresses of this machine: which are offered to a peer, which of its are dialled.

Left out are interfaces that no peer is behind, and VPNs: a path through one ends with
it, and is often longer. MESHLLM_INTERFACES names those to use all the same. Loopback is
for two peers on one machine (docs/architecture.md), never for offers from elsewhere.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import ifaddr

from meshllm.protocol.description import Candidate

LOOPBACK = "127.0.0.1"
LOOPBACK_ENV = "MESHLLM_LOOPBACK"
INTERFACES_ENV = "MESHLLM_INTERFACES"
VIRTUAL = (
    *("docker", "br-", "veth", "virbr"),
    *("tun", "tap", "utun", "wg", "ppp", "ipsec", "tailscale", "zt", "nordlynx"),
)
# Of documentation (RFC 5737, RFC 3849): nothing is sent there, it is only looked up.
FAR_AWAY = ("192.0.2.1", "2001:db8::1")
HOSTS_MAX = 8
# Where a LAN, a VPN or a container network lives; not what the Internet routes to.
LAN_NETWORKS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("100.64.0.0/10", "fc00::/7", "fe80::/10"),
    )
)


@dataclass(frozen=True, slots=True)
class Machine:
    """The addresses of this machine: `usable` are offered, `own` are all there are."""

    usable: tuple[str, ...]
    own: frozenset[str]
    is_alone: bool
    """Loopback is used: there is nothing else, or MESHLLM_LOOPBACK=1 says so."""

    def hosts(self, remote: Sequence[Candidate] | None) -> list[str]:
        """What to offer: to anybody (None), or to the peer that has these addresses.

        One that names none yet may be here: a busy browser finds its own later.
        """
        if self.is_alone and (remote is None or self.is_here(remote)):
            return [LOOPBACK]
        here = [LOOPBACK] if self.is_alone and not remote else []
        return [*here, *self.usable][:HOSTS_MAX]

    def lan_hosts(self, remote: Sequence[Candidate] | None) -> list[str]:
        """The same for a peer that the LAN introduced. What the Internet routes to is
        left out, so that the path stays on the LAN, unless there is nothing else."""
        hosts = self.hosts(remote)
        return [host for host in hosts if is_lan(host)] or hosts

    def is_here(self, remote: Sequence[Candidate]) -> bool:
        """Whether the peer claims no address but ours."""
        return bool(remote) and all(
            is_loopback(c.host)
            or c.host in self.own
            or (c.is_named and not self.usable)  # no LAN that it could be on
            for c in remote
        )

    def reachable(self, remote: Sequence[Candidate]) -> list[Candidate]:
        """Those worth trying. A peer elsewhere shall not aim us at our own loopback."""
        has_own = any(c.host in self.own and not is_loopback(c.host) for c in remote)
        wants_loopback = self.is_here(remote) and (self.is_alone or has_own)
        return [
            c
            for c in remote
            if c.transport == "udp" and (wants_loopback or not is_loopback(c.host))
        ]


def read_machine() -> Machine:
    """The addresses there are now."""
    return machine_of(read_adapters(), read_ways_out())


def machine_of(found: Iterable[LanAddress], ways_out: Collection[str]) -> Machine:
    """With these adapters and routes, as the environment says."""
    return choose(
        interfaces_of(found),
        is_forced=is_forced(),
        named=_named(),
        ways_out=ways_out,
    )


def interfaces_of(found: Iterable[LanAddress]) -> list[tuple[str, str]]:
    """Interface and address, without fe80::1%eth0, which means nothing to others."""
    return [(one.interface, one.host) for one in found if not one.scope]


def read_adapters() -> list[LanAddress]:
    """All addresses, whether a peer could be behind them or not. Some 0.5 ms."""
    return [
        LanAddress(ip.ip, ip.network_prefix, adapter.name)
        if isinstance(ip.ip, str)
        else LanAddress(ip.ip[0], ip.network_prefix, adapter.name, ip.ip[2])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]


def read_ways_out() -> tuple[str, ...]:
    """The addresses from which packets to the Internet leave, none without a route."""
    return tuple(way for host in FAR_AWAY if (way := _source(host)) is not None)


def _named() -> list[str]:
    return os.environ.get(INTERFACES_ENV, "").replace(" ", "").split(",")


def is_forced() -> bool:
    """Somebody told us to stay on this machine."""
    return os.environ.get(LOOPBACK_ENV) == "1"


def choose(
    found: Iterable[tuple[str, str]],
    *,
    is_forced: bool,
    named: Collection[str] = (),
    ways_out: Collection[str] = (),
) -> Machine:
    """`found`: interface and address. Virtual interfaces count as our own only, unless
    they are `named`, or the machine's way to the Internet (`ways_out`: its addresses
    there), or there are no others, as in a container or on a router."""
    pairs = list(found)
    outside = [(name, address) for name, address in pairs if not is_loopback(address)]
    real = [
        address
        for name, address in outside
        if name in named or address in ways_out or not name.startswith(VIRTUAL)
    ]
    usable = real or [address for _, address in outside]
    usable.sort(key=is_ipv4, reverse=True)  # many temporary IPv6 ones leave room
    own = frozenset(address for _, address in pairs)
    return Machine(tuple(usable), own, is_alone=is_forced or not usable)


@dataclass(frozen=True, slots=True)
class LanAddress:
    """An address of this machine on a LAN. `scope` is the interface's number, which an
    IPv6 link-local address (fe80::) needs; else 0."""

    host: str
    prefix: int
    interface: str
    scope: int = 0

    def covers(self, host: str) -> bool:
        """Whether another address is on the same segment."""
        network = ipaddress.ip_network(f"{self.host}/{self.prefix}", strict=False)
        return ipaddress.ip_address(host.partition("%")[0]) in network


def read_lan() -> tuple[LanAddress, ...]:
    """Where the LAN endpoint listens and announces now."""
    return lan_of(read_adapters())


def lan_of(found: Iterable[LanAddress]) -> tuple[LanAddress, ...]:
    """With these interfaces, as the environment says."""
    return choose_lan(found, is_forced=is_forced(), named=_named())


def choose_lan(
    found: Iterable[LanAddress], *, is_forced: bool, named: Collection[str] = ()
) -> tuple[LanAddress, ...]:
    """Private and link-local addresses, those of VPNs and containers only when `named`
    or when there are no others; only 127.0.0.1 when loopback `is_forced`."""
    if is_forced:
        return tuple(one for one in found if one.host == LOOPBACK)
    usable = [one for one in found if is_lan(one.host)]
    real = [
        one
        for one in usable
        if one.interface in named or not one.interface.startswith(VIRTUAL)
    ]
    return tuple(sorted(real or usable, key=lambda one: (one.interface, one.host)))


def is_lan(host: str) -> bool:
    """Whether nobody on the Internet has this address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in LAN_NETWORKS)


def _source(host: str) -> str | None:
    """The address from which packets to this host would leave; None without a route."""
    family = socket.AF_INET if is_ipv4(host) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((host, 9))
            return str(asking.getsockname()[0])
    except OSError:
        return None


def is_loopback(host: str) -> bool:
    """Names are not: who holds one is known only once it is resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_ipv4(host: str) -> bool:
    return ipaddress.ip_address(host).version == 4
