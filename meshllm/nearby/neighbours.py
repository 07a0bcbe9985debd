"""Who says to be on this LAN, and when to look whether it is true.

What is heard is a hint: it only ever causes a visit, and a visit alone decides. Whoever
has proven itself is not displaced by what others say in its name. Times are seconds of
any clock that never goes back; nothing here waits or asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from meshllm.protocol.visit import Contact
from meshllm.transport.lan import Hint
from meshllm.transport.lan_client import Place
from meshllm.trust.keys import PeerId

SPOTS_MAX: Final = 256
VISIT_S: Final = 30.0  # whoever is proven is seen again so often
RETRY_S: Final = 1.0  # ... or so soon when it did not answer
DIAL_S: Final = 5.0  # between two visits to an id that is not proven at that place
LOST_S: Final = 5.0  # who was proven once is looked for so often
RARELY_S: Final = 300.0  # others, in the end
LOST_FOR_S: Final = 3_600.0
UNHEARD_S: Final = 180.0  # an announcement is repeated at least every 60 s
NEW_PER_S: Final = 20  # visits to the unproven
TRIES: Final = 2


@dataclass(frozen=True, slots=True)
class Proven:
    """A node of our mesh: `conn` is its announcing connection if it shares models."""

    contact: Contact
    place: Place
    conn: bytes | None

    @property
    def id(self) -> PeerId:
        return self.contact.id


@dataclass(slots=True, eq=False)
class Spot:
    """One announcement, or one address given by hand (`id` is not known there).

    `problem` says why it is not proven; None before the first visit, and of those who
    do not claim to be of our mesh.
    """

    name: str
    id: PeerId | None
    places: tuple[Place, ...]
    heard_at: float
    next_at: float
    salt: str = ""
    is_manual: bool = False
    claims: bool = False  # to be of our mesh
    is_doubted: bool = False
    has_ended: bool = False  # it says
    is_busy: bool = False
    failures: int = 0
    seen_at: float | None = None
    proven: Proven | None = None
    problem: str | None = None

    @property
    def tries(self) -> tuple[Place, ...]:
        """Where to look, in this order."""
        first = (self.proven.place,) if self.proven else ()
        return first + tuple(place for place in self.places if place not in first)

    def hurry(self, now: float) -> None:
        """There is a reason to look; reasons may be many, and made up."""
        soon = now if self.seen_at is None else max(now, self.seen_at + RETRY_S)
        self.next_at = min(self.next_at, soon)


class Neighbours:
    """At most 256 spots; of the unproven those heard longest ago make room."""

    def __init__(self) -> None:
        self._spots: dict[str, Spot] = {}
        self._dialled: dict[PeerId, float] = {}
        self._new_at = 0.0
        self._new_left = float(NEW_PER_S)

    def __iter__(self) -> Iterator[Spot]:
        return iter(list(self._spots.values()))

    def __len__(self) -> int:
        return len(self._spots)

    # What is heard

    def add(self, place: Place, now: float) -> None:
        """Given by hand."""
        spot = Spot(str(place), None, (place,), now, now, is_manual=True)
        self._spots[spot.name] = spot

    def heard(self, hint: Hint, now: float) -> None:
        places = tuple(Place(host, hint.port) for host in hint.hosts)
        spot = self._spots.get(hint.name)
        if spot is None:
            if len(self._spots) >= SPOTS_MAX and not self._make_room():
                return
            self._spots[hint.name] = Spot(
                hint.name, hint.id, places, now, now, hint.salt
            )
            return
        is_news = (spot.id, spot.places, spot.salt) != (hint.id, places, hint.salt)
        spot.heard_at = now
        if is_news:
            spot.id, spot.places, spot.salt = hint.id, places, hint.salt
            spot.hurry(now)

    def goodbye(self, name: str, now: float) -> None:
        """Anybody can say so: it has to be gone, too."""
        if (spot := self._spots.get(name)) is not None and not spot.is_manual:
            spot.has_ended = spot.is_doubted = True
            spot.hurry(now)

    def doubt(self, id: PeerId, now: float) -> None:
        """It did not answer an offer."""
        for spot in self._of(id):
            spot.is_doubted = True
            spot.hurry(now)

    def look_again(self, now: float) -> None:
        """The network has changed, or we slept: nothing is sure."""
        for spot in self._spots.values():
            if spot.proven is not None or spot.seen_at is not None or spot.is_manual:
                spot.hurry(now)

    # Visits

    def due(self, now: float, room: int) -> list[Spot]:
        """Whom to visit now, `room` unproven ones at most; each has to be told by
        `proved` or `failed` how that went."""
        self._forget(now)
        waiting = [
            s for s in self._spots.values() if not s.is_busy and s.next_at <= now
        ]
        chosen = [spot for spot in waiting if spot.proven is not None]
        unproven = [spot for spot in waiting if spot.proven is None]
        # By hand first, then what was heard last: under a flood, nothing is fair.
        unproven.sort(key=lambda spot: (not spot.is_manual, -spot.heard_at))
        for spot in unproven:
            if len(chosen) >= room + len(waiting) - len(unproven):
                break
            if self._may_dial(spot, now):
                chosen.append(spot)
        for spot in chosen:
            spot.is_busy = True
        return chosen

    def next_time(self) -> float | None:
        """When `due` may have something to say."""
        times = [spot.next_at for spot in self._spots.values() if not spot.is_busy]
        return min(times, default=None)

    def proved(self, spot: Spot, proven: Proven, now: float) -> None:
        spot.is_busy = spot.is_doubted = spot.has_ended = False
        spot.proven, spot.problem, spot.failures = proven, None, 0
        spot.seen_at, spot.next_at = now, now + VISIT_S

    def failed(self, spot: Spot, problem: str | None, now: float) -> bool:
        """True when somebody who was proven is lost by it."""
        spot.is_busy = False
        spot.failures += 1
        if spot.proven is not None and not spot.is_doubted and spot.failures < TRIES:
            spot.next_at = now + RETRY_S
            return False
        was_proven, spot.proven = spot.proven is not None, None
        if spot.has_ended:
            del self._spots[spot.name]
            return was_proven
        spot.is_doubted, spot.problem = False, problem
        is_dear = spot.is_manual or spot.seen_at is not None
        pause_s = LOST_S if is_dear else DIAL_S * 2 ** min(spot.failures, 6)
        spot.next_at = now + min(pause_s, RARELY_S)
        return was_proven

    # Who is there

    @property
    def proven(self) -> list[Spot]:
        return [spot for spot in self._spots.values() if spot.proven is not None]

    def is_there(self, id: PeerId) -> bool:
        """Whether it shares models here."""
        return any(
            spot.proven is not None and spot.proven.conn is not None
            for spot in self._of(id)
        )

    def place(self, id: PeerId, conn: bytes) -> Place | None:
        """Where this provider takes offers."""
        for spot in self._of(id):
            if spot.proven is not None and spot.proven.conn == conn:
                return spot.proven.place
        return None

    # Inside

    def _of(self, id: PeerId) -> list[Spot]:
        return [s for s in self._spots.values() if s.proven and s.proven.id == id]

    def _may_dial(self, spot: Spot, now: float) -> bool:
        if not spot.is_manual:
            assert spot.id is not None
            last = self._dialled.get(spot.id)
            if last is not None and now - last < DIAL_S:
                spot.next_at = last + DIAL_S
                return False
        self._new_left = min(
            NEW_PER_S, self._new_left + (now - self._new_at) * NEW_PER_S
        )
        self._new_at = now
        if self._new_left < 1:
            return False
        self._new_left -= 1
        if spot.id is not None:
            self._dialled[spot.id] = now
        return True

    def _make_room(self) -> bool:
        idle = [
            spot
            for spot in self._spots.values()
            if not spot.is_manual and not spot.is_busy and spot.seen_at is None
        ]
        if not idle:
            return False
        del self._spots[min(idle, key=lambda spot: spot.heard_at).name]
        return True

    def _forget(self, now: float) -> None:
        for spot in list(self._spots.values()):
            if spot.is_busy or spot.is_manual or spot.proven is not None:
                continue
            kept_s = UNHEARD_S if spot.seen_at is None else LOST_FOR_S
            if now - max(spot.heard_at, spot.seen_at or 0.0) > kept_s:
                del self._spots[spot.name]
        old = [id for id, at in self._dialled.items() if now - at >= DIAL_S]
        for id in old:
            del self._dialled[id]
