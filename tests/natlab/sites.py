"""An Internet of sites: hosts behind their NATs, and a VPS with two addresses.

The Internet is one namespace that routes. Each site hangs on a line of its own, point
to point: no ARP, so that the first packet takes no longer than the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.natlab import net
from tests.natlab.link import ALL_PASS, End, Line, lines, percent
from tests.natlab.nat import Kind, rules

INTERNET, VPS = "internet", "vps"
VPS_HOSTS = ("198.51.100.10", "198.51.100.11")
VPS_HOSTS6 = ("2001:db8:ffff::10", "2001:db8:ffff::11")
DEAD = "198.51.100.66"  # whatever is sent there is lost
LEG_MS = 10.0  # from anywhere to the Internet: 40 ms there and back between any two


@dataclass(frozen=True, slots=True)
class Site:
    """`number` is its own; `hosts` are on one LAN behind its NAT."""

    kind: Kind
    number: int
    hosts: int = 1

    @property
    def address(self) -> str:
        """As others see it."""
        return f"203.0.113.{self.number}"

    @property
    def network6(self) -> str:
        return f"2001:db8:{self.number}::"

    @property
    def has_nat(self) -> bool:
        return self.kind.routers > 0

    @property
    def line(self) -> str:
        """The device at the Internet's end."""
        return f"site{self.number}"

    def host(self, index: int = 0) -> str:
        """The namespace of a host."""
        return f"{self.kind}-{self.number}-{index}"

    @property
    def routers(self) -> list[str]:
        """Their namespaces, the one of the LAN first."""
        return [f"{self.kind}-{self.number}-nat{n}" for n in range(self.kind.routers)]

    @property
    def namespaces(self) -> list[str]:
        return [*self.routers, *(self.host(index) for index in range(self.hosts))]

    @property
    def outermost(self) -> str:
        """Who has the line to the Internet."""
        return self.routers[-1] if self.has_nat else self.host()


@dataclass(frozen=True, slots=True)
class Seat:
    """The machine of a node."""

    site: Site
    index: int = 0

    @property
    def name(self) -> str:
        """Its namespace, its home, and its name in the mesh."""
        return self.site.host(self.index)


@contextmanager
def internet(
    sites: Sequence[Site], *, leg_ms: float = LEG_MS, lost: float = 0.0
) -> Iterator[None]:
    """All of them, connected and without a process, while this lasts. `lost` per cent
    between two sites, either way: the VPS is on a good line."""
    names = [INTERNET, VPS, *(name for site in sites for name in site.namespaces)]
    legs = [_leg(VPS, VPS, leg_ms, ALL_PASS)]
    legs += [
        _leg(site.outermost, site.line, leg_ms, percent(lost / 2, site.number))
        for site in sites
    ]
    with net.namespaces(*names), lines(*legs):
        _route(INTERNET)
        net.ip(INTERNET, f"route add blackhole {DEAD}/32")
        _place_vps()
        for site in sites:
            _place(site)
        yield


def _leg(namespace: str, port: str, leg_ms: float, loss: str) -> Line:
    return Line(End(namespace, "wan0"), End(INTERNET, port), leg_ms, loss)


def _route(name: str) -> None:
    net.sysctl(name, ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)


def _place_vps() -> None:
    first, second = VPS_HOSTS
    first6, second6 = VPS_HOSTS6
    net.ip(
        VPS,
        f"addr add {first}/32 dev wan0",
        f"addr add {second}/32 dev wan0",
        f"addr add {first6}/128 dev wan0 nodad",
        f"addr add {second6}/128 dev wan0 nodad",
        f"route add default dev wan0 src {first}",
        f"route add ::/0 dev wan0 src {first6}",
    )
    net.ip(
        INTERNET,
        *(f"route add {host}/32 dev {VPS}" for host in VPS_HOSTS),
        *(f"route add {host}/128 dev {VPS}" for host in VPS_HOSTS6),
    )


def _place(site: Site) -> None:
    net.ip(INTERNET, f"route add {site.address}/32 dev {site.line}")
    net.ip(
        site.outermost,
        f"addr add {site.address}/32 dev wan0",
        "route add default dev wan0",
    )
    if not site.has_nat:
        return
    for inner, outer in zip(site.routers, site.routers[1:], strict=False):
        _chain(inner, outer)
    for router in site.routers:
        _route(router)
        net.nft(router, rules(site.kind))
    _lay_lan(site)


def _chain(inner: str, outer: str) -> None:
    """A NAT behind a carrier's, with a shared address (RFC 6598)."""
    net.veth(inner, "wan0", outer, "lan0")
    net.ip(outer, "addr add 100.64.0.1/24 dev lan0", "link set lan0 up")
    net.ip(
        inner,
        "addr add 100.64.0.2/24 dev wan0",
        "link set wan0 up",
        "route add default via 100.64.0.1",
    )


def _lay_lan(site: Site) -> None:
    """One segment with the router on it; hosts are 10.N.0.2 and so on."""
    router, network = site.routers[0], f"10.{site.number}.0"
    net.ip(
        router,
        "link add name lan0 type bridge",
        f"addr add {network}.1/24 dev lan0",
        "link set lan0 up",
    )
    if site.kind.has_ipv6:
        net.ip(INTERNET, f"route add {site.network6}/64 dev {site.line}")
        net.ip(
            router,
            f"addr add {site.network6}1/64 dev lan0 nodad",
            "route add ::/0 dev wan0",
        )
    for index in range(site.hosts):
        host, cable = site.host(index), f"host{index}"
        net.veth(host, "eth0", router, cable)
        net.ip(router, f"link set {cable} master lan0", f"link set {cable} up")
        net.ip(
            host,
            f"addr add {network}.{index + 2}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {network}.1",
        )
        if site.kind.has_ipv6:
            net.ip(
                host,
                f"addr add {site.network6}{index + 2}/64 dev eth0 nodad",
                f"route add ::/0 via {site.network6}1",
            )
