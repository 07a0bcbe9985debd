"""A machine of a cloud: it has a private address, and a 1:1 NAT has its public one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.natlab import net
from tests.natlab.nat import Kind
from tests.natlab.sites import Site

MACHINE = "cloud"
OWN, ROUTER = "10.99.0.5", "10.99.0.1"
# All ports, both ways, and no way out and in again.
ONE_TO_ONE = """
table ip nat {
  chain prerouting {
    type nat hook prerouting priority dstnat
    iifname "wan0" dnat to OWN
  }
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname "wan0" snat to PUBLIC
  }
}
"""


@contextmanager
def cloud(site: Site) -> Iterator[None]:
    """Behind a public site, which becomes the NAT."""
    assert site.kind is Kind.PUBLIC
    router = site.host()
    with net.namespaces(MACHINE):
        net.veth(MACHINE, "eth0", router, "lan0")
        net.ip(router, f"addr add {ROUTER}/24 dev lan0", "link set lan0 up")
        net.ip(
            MACHINE,
            f"addr add {OWN}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {ROUTER}",
        )
        net.sysctl(router, ipv4__ip_forward=1)
        net.nft(router, ONE_TO_ONE.replace("OWN", OWN).replace("PUBLIC", site.address))
        yield
