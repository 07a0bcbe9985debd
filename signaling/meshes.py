"""Pure: one registered mesh while the hub runs: what it believes, who is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from meshllm.protocol.signals import HubMessage, Left, Roster
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Revocations, Statement
from meshllm.trust.keys import PeerId
from signaling.effects import Effect, Send


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """A socket that has logged in with a chain. `link` is its number."""

    link: int
    id: PeerId
    conn: bytes
    mesh: Mesh
    admission: Admission


@dataclass(frozen=True, slots=True)
class Announced:
    token: str
    seat: Seat


@dataclass(slots=True, eq=False)
class Mesh:
    """`statement` and `revocations` are the newest known, as tokens and as read."""

    statement_token: str
    statement: Statement
    revocations_token: str | None = None
    revocations: Revocations | None = None
    nodes: dict[PeerId, dict[bytes, Seat]] = field(default_factory=dict)
    roster: dict[PeerId, Announced] = field(default_factory=dict)
    roster_bytes: int = 0

    @property
    def id(self) -> PeerId:
        return self.statement.mesh

    def seats(self) -> Iterator[Seat]:
        for conns in self.nodes.values():
            yield from conns.values()

    def find(self, id: PeerId, conn: bytes | None) -> Seat | None:
        """The conn that was named, or the announcing one."""
        if conn is not None:
            return self.nodes.get(id, {}).get(conn)
        announced = self.roster.get(id)
        return announced.seat if announced else None

    def tell(self, message: HubMessage) -> list[Effect]:
        return [Send(seat.link, message) for seat in self.seats()]

    def tell_node(self, id: PeerId, message: HubMessage) -> list[Effect]:
        return [Send(seat.link, message) for seat in self.nodes.get(id, {}).values()]

    def sit(self, seat: Seat) -> Seat | None:
        """Returns whom it replaces: a conn that is here already came back before its
        old socket was found dead. The announcement goes over to the new one."""
        conns = self.nodes.setdefault(seat.id, {})
        old = conns.get(seat.conn)
        conns[seat.conn] = seat
        announced = self.roster.get(seat.id)
        if announced is not None and announced.seat is old:
            self.roster[seat.id] = Announced(announced.token, seat)
        return old

    def leave(self, seat: Seat) -> list[Effect]:
        """Nothing when another has taken its place. Providers are told which conn
        ended: it may have asked one of them, and be dead."""
        conns = self.nodes.get(seat.id, {})
        if conns.get(seat.conn) is not seat:
            return []
        del conns[seat.conn]
        if not conns:
            del self.nodes[seat.id]
        announced = self.roster.get(seat.id)
        is_announcing = announced is not None and announced.seat is seat
        effects = self.withdraw(seat.id) if is_announcing else []
        left = Left(seat.conn)
        return effects + [Send(a.seat.link, left) for a in self.roster.values()]

    def cards(self) -> tuple[str, ...]:
        return tuple(announced.token for announced in self.roster.values())

    def announce(self, announced: Announced) -> list[Effect]:
        self._unlist(announced.seat.id)
        self.roster[announced.seat.id] = announced
        self.roster_bytes += len(announced.token)
        return self.tell(Roster(joined=(announced.token,), left=()))

    def withdraw(self, id: PeerId) -> list[Effect]:
        if not self._unlist(id):
            return []
        return self.tell(Roster(joined=(), left=(id,)))

    def _unlist(self, id: PeerId) -> bool:
        old = self.roster.pop(id, None)
        if old is None:
            return False
        self.roster_bytes -= len(old.token)
        return True
