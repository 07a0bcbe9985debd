"""How much one address of the LAN may ask. Pure: time comes in as a value."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MINUTE_S: Final = 60.0
STRANGER: Final = 10  # requests a minute: a visit takes two, an offer one or two
KNOWN: Final = 240  # from where a node of the mesh has shown its chain
KNOWN_S: Final = 600.0  # ... for so long
ADDRESSES_MAX: Final = 1_024


@dataclass(slots=True)
class _Bucket:
    """`left` requests as of `at`; `known_until` is 0 for a stranger."""

    left: float
    at: float
    known_until: float = 0.0

    def refill(self, now: float) -> None:
        most = KNOWN if now < self.known_until else STRANGER
        earned = (now - self.at) * most / MINUTE_S
        self.left, self.at = min(most, self.left + earned), now


class Allowances:
    """By address. Of more than 1,024 the strangers heard longest ago are forgotten."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """Whether one more request may come from there."""
        bucket = self._bucket(address, now)
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    def know(self, address: str, now: float) -> None:
        """A node of the mesh is there."""
        bucket = self._bucket(address, now)
        if now >= bucket.known_until:
            bucket.left = KNOWN
        bucket.known_until = now + KNOWN_S

    def is_known(self, address: str, now: float) -> bool:
        bucket = self._buckets.get(address)
        return bucket is not None and now < bucket.known_until

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, address: str, now: float) -> _Bucket:
        bucket = self._buckets.get(address)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[address] = _Bucket(STRANGER, now)
        bucket.refill(now)
        self._buckets.move_to_end(address)
        return bucket

    def _make_room(self, now: float) -> None:
        if len(self._buckets) < ADDRESSES_MAX:
            return
        strangers = (a for a, one in self._buckets.items() if now >= one.known_until)
        del self._buckets[next(strangers, next(iter(self._buckets)))]
