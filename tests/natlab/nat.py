"""Pure: the kinds of sites, the rules that make them, and what theory says of pairs.

The outer device of a router is `wan0`, the one of its LAN `lan0`.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    PUBLIC = "public"
    FULL_CONE = "full-cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    CGNAT = "cgnat"
    SYMMETRIC = "symmetric"
    V6_SYMMETRIC = "v6-symmetric"
    UDP_BLOCKED = "udp-blocked"
    TCP443 = "tcp443"

    @property
    def has_udp(self) -> bool:
        return self not in (Kind.UDP_BLOCKED, Kind.TCP443)

    @property
    def has_ipv6(self) -> bool:
        return self is Kind.V6_SYMMETRIC

    @property
    def routers(self) -> int:
        match self:
            case Kind.PUBLIC:
                return 0
            case Kind.CGNAT:
                return 2
            case _:
                return 1


SYMMETRIC = (Kind.SYMMETRIC, Kind.V6_SYMMETRIC)
# What these let in depends on the sender's port, which a symmetric peer's NAT changes.
NARROW = (Kind.PORT_RESTRICTED, Kind.CGNAT, *SYMMETRIC)


def can_be_direct(one: Kind, other: Kind) -> bool:
    """Whether theory allows a path without a relay; 38 of the 81 ordered pairs."""
    if not (one.has_udp and other.has_udp):
        return False
    if one.has_ipv6 and other.has_ipv6:
        return True
    return not (
        (one in SYMMETRIC and other in NARROW) or (other in SYMMETRIC and one in NARROW)
    )


# Unsolicited packets are dropped, as home routers do. Without this a NAT still looks
# port-restricted, yet cannot be punched: the peer's early packet would make a conntrack
# entry, and for its sake our own packet would get another port.
WALL = """
table inet wall {
  chain input {
    type filter hook input priority filter
    ct state established,related accept
    iifname "wan0" drop
  }
}
"""
# The same for what is routed: IPv6, which no NAT hides.
GATE = """
table inet gate {
  chain forward {
    type filter hook forward priority filter
    ct state established,related accept
    ct status dnat accept
    iifname "wan0" drop
  }
}
"""
MASQUERADE = """
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname "wan0" masquerade HOW
  }
}
"""
# A port belongs to the host that last sent from it. masquerade keeps port numbers where
# it can, and here it always can: the hosts of one LAN use different ones.
MAPPED = """
table ip mapped {
  map hosts {
    type inet_service : ipv4_addr
    flags dynamic,timeout
    timeout 5m
  }
  set peers {
    type inet_service . ipv4_addr
    flags dynamic,timeout
    timeout 5m
  }
  chain forward {
    type filter hook forward priority filter
    oifname "wan0" update @hosts { udp sport : ip saddr } HEARS
  }
  chain prerouting {
    type nat hook prerouting priority dstnat
    iifname "wan0" FILTER dnat to udp dport map @hosts
  }
}
"""
LAN_SENDS = """
table inet firewall {
  chain forward {
    type filter hook forward priority filter
    WHAT
  }
}
"""


def rules(kind: Kind) -> str:
    """nftables rules of the site's router, or of each of them."""
    match kind:
        case Kind.PUBLIC:
            return ""
        case Kind.FULL_CONE:
            return _closed() + _mapped("", "meta l4proto udp")
        case Kind.ADDRESS_RESTRICTED:
            hears = "update @peers { udp sport . ip daddr }"
            return _closed() + _mapped(hears, "udp dport . ip saddr @peers")
        case Kind.PORT_RESTRICTED | Kind.CGNAT:
            return _closed()
        case Kind.SYMMETRIC | Kind.V6_SYMMETRIC:
            return _closed("random,fully-random")
        case Kind.UDP_BLOCKED:
            return _closed() + _forbidden("meta l4proto != tcp")
        case Kind.TCP443:
            return (
                _closed()
                + _forbidden("tcp dport != 443")
                + _forbidden("meta l4proto != tcp")
            )


def _closed(how: str = "") -> str:
    return WALL + GATE + MASQUERADE.replace("HOW", how)


def _mapped(hears: str, filter: str) -> str:
    return MAPPED.replace("HEARS", hears).replace("FILTER", filter)


def _forbidden(what: str) -> str:
    """Dropped, not refused: nobody learns of it but by waiting."""
    return LAN_SENDS.replace("WHAT", f'iifname "lan0" oifname "wan0" {what} drop')
