"""Pure: how much one address, one key and one hub may ask for."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` on average, `burst` at once."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The hub's limits. Times are seconds; every count is of things held in memory."""

    sockets: int = 10_000  # at 5 KiB each, 50 MB: a small VPS
    strangers: int = 2_000  # sockets without a chain: members must still get in
    strangers_per_address: int = 64  # a household or office behind one address
    sockets_per_address: int = 1_000  # the same, with everybody logged in
    login_s: float = 5  # docs/protocol.md §3.1
    stranger_s: float = 120  # to fetch a ticket and leave a card takes seconds
    stranger_messages: int = 50  # a login, a ticket, a card, and some pings
    connects: Rate = Rate(5, 100)  # per address; a restart of an office's router
    messages: Rate = Rate(100, 400)  # per key; no honest client comes near
    sends: Rate = Rate(20, 100)  # per key; a page that dials every provider at once
    signals: Rate = Rate(50, 200)  # per receiver: a popular provider, not a target
    announces: Rate = Rate(0.5, 20)  # per key; each is copied to the whole mesh
    logins: Rate = Rate(0.5, 30)  # per key; each costs signatures and credentials
    asks: Rate = Rate(1, 30)  # per address: tickets, cards, registers
    mailboxes: int = 400  # of 900 numbers; each is somebody who is pairing right now
    mailbox_s: float = 600  # docs/protocol.md §3.2
    letters: int = 8  # each way in one mailbox; a pairing takes three or four
    pairings: Rate = Rate(0.1, 10)  # opened or tried, per address and per key
    conns: int = 16  # per node: docs/protocol.md §3.1
    meshes: int = 5_000
    roster_nodes: int = 512  # announced at once in one mesh
    roster_bytes: int = 2 << 20  # ... which every login receives whole
    kept_bytes: int = 512 << 20  # tickets, cards and memberships of every mesh
    kept_mesh_bytes: int = 4 << 20  # ... and of one
    kept_mesh_rows: int = 2_048


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class Bucket:
    """A token bucket that starts full. `at` is the time `level` was right."""

    rate: Rate
    at: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.rate.burst

    def take(self, now: float) -> bool:
        """Whether one more is allowed now; if so it is counted."""
        gained = max(0.0, now - self.at) * self.rate.per_s
        self.level = min(self.rate.burst, self.level + gained)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def fills_at(self) -> float:
        """When it is full again, and so no different from a new one."""
        return self.at + (self.rate.burst - self.level) / self.rate.per_s


class Buckets(Generic[Key]):
    """A bucket for each key, at most `most`; the one unused longest makes room.

    They outlive sockets: who reconnects has not regained anything.
    """

    def __init__(self, rate: Rate, most: int = 20_000) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Key, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Key, now: float) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = Bucket(self._rate, now)
        self._buckets.move_to_end(key)
        return bucket.take(now)

    def forget_full(self, now: float) -> None:
        full = [k for k, bucket in self._buckets.items() if bucket.fills_at() <= now]
        for key in full:
            del self._buckets[key]


def household(address: str) -> str:
    """What is counted as one address: an IPv4 address, or an IPv6 /64, because one
    household has all of that. An IPv4 address written as IPv6 is the IPv4 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
