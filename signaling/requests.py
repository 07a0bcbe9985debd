"""Pure: what a logged-in socket may ask, and the answer (docs/protocol.md §3.2)."""

from __future__ import annotations

from typing import Final, TypeAlias

from meshllm.errors import Code, MeshError, NotAllowed, ProtocolError, TrustError
from meshllm.protocol import signals
from meshllm.trust.announcement import Announcement
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId, short
from signaling.effects import Effect, Send
from signaling.kept import USED, Kept
from signaling.limits import Buckets, Limits
from signaling.meshes import Announced, Seat

# base64url of 4,096, 8,192 and 12,288 bytes: docs/protocol.md §4
ENVELOPE_CHARS: Final = frozenset({5462, 10923, 16384})
ForStrangers: TypeAlias = signals.GetTicket | signals.LeaveCard | signals.Register
ForOwners: TypeAlias = signals.PutTicket | signals.Grant | signals.Revoke
ForMembers: TypeAlias = signals.Announce | signals.Send | ForOwners


class Requests:
    """Methods raise MeshError before they change anything."""

    def __init__(self, kept: Kept, limits: Limits) -> None:
        self._kept = kept
        self._limits = limits
        self._sends = Buckets[PeerId](limits.sends)
        self._receivers = Buckets[PeerId](limits.signals)
        self._announces = Buckets[PeerId](limits.announces)
        self._asks = Buckets[str](limits.asks)

    def sweep(self, now: float) -> None:
        for buckets in (self._sends, self._receivers, self._announces, self._asks):
            buckets.forget_full(now)

    def ask(
        self, link: int, id: PeerId, address: str, message: ForStrangers, now: float
    ) -> list[Effect]:
        """What needs no chain. Limited by address: a new key costs nothing."""
        if not self._asks.take(address, now):
            raise NotAllowed("Too many requests; wait a minute.", Code.QUOTA)
        match message:
            case signals.GetTicket(re, ticket):
                sealed = self._kept.get_ticket(ticket, now)
                return [Send(link, signals.SealedTicket(re, sealed))]
            case signals.LeaveCard():
                return self._leave_card(link, id, message, now)
            case _:
                effects = self._kept.register(id, message.setup, message.statement)
                return [Send(link, signals.Done(message.re)), *effects]

    def _leave_card(
        self, link: int, id: PeerId, message: signals.LeaveCard, now: float
    ) -> list[Effect]:
        mesh = self._kept.mesh_of(message.chain)
        admission = self._kept.admit(mesh, message.chain, id, now)
        effects, is_first = self._kept.take_card(mesh, admission, message.chain)
        if not is_first:
            refused = signals.Refused(message.re, Code.AUTH, USED)
            return [Send(link, refused), *effects]
        return [Send(link, signals.Done(message.re)), *effects]

    def member(self, seat: Seat, message: ForMembers, now: float) -> list[Effect]:
        match message:
            case signals.Announce():
                effects = self._announce(seat, message.card, now)
            case signals.Send():
                effects = self._send(seat, message, now)
            case _:
                effects = self._owner(seat, message, now)
        return [Send(seat.link, signals.Done(message.re)), *effects]

    def _owner(self, seat: Seat, message: ForOwners, now: float) -> list[Effect]:
        if seat.admission.role is not Role.OWNER:
            raise NotAllowed("Only an owner of the mesh may do that.")
        match message:
            case signals.PutTicket(_, id, sealed, until):
                return self._kept.put_ticket(seat.mesh, id, sealed, until, now)
            case signals.Grant(_, membership):
                return self._kept.grant(seat.mesh, membership, now)
            case _:
                return self._kept.revoke(seat.mesh, message.revocations)

    def _announce(self, seat: Seat, token: str | None, now: float) -> list[Effect]:
        mesh = seat.mesh
        announced = mesh.roster.get(seat.id)
        if announced is not None and announced.seat is not seat:
            raise NotAllowed(
                "This node shares already, from another process (connection"
                f" {announced.seat.conn.hex()}). Stop that one first.",
                Code.BUSY,
            )
        if not self._announces.take(seat.id, now):
            raise NotAllowed("Too many announcements; wait a minute.", Code.QUOTA)
        if token is None:
            return mesh.withdraw(seat.id)
        self._check_announcement(seat, token, now)
        room = mesh.roster_bytes - (len(announced.token) if announced else 0)
        if (
            len(mesh.roster) + (announced is None) > self._limits.roster_nodes
            or room + len(token) > self._limits.roster_bytes
        ):
            raise NotAllowed("This mesh announces too much already.", Code.QUOTA)
        return mesh.announce(Announced(token, seat))

    def _check_announcement(self, seat: Seat, token: str, now: float) -> None:
        card = Announcement.read(token)
        if (card.mesh, card.id, card.conn) != (seat.mesh.id, seat.id, seat.conn):
            raise NotAllowed("That announces another mesh, node or conn.", Code.AUTH)
        admission = self._kept.admit(seat.mesh, card.chain, seat.id, now)
        if admission.role is Role.GUEST:
            raise NotAllowed(
                "A guest uses models and cannot share any. Ask an owner of the mesh for"
                " an invite as a member."
            )

    def _send(self, seat: Seat, message: signals.Send, now: float) -> list[Effect]:
        if len(message.sealed) not in ENVELOPE_CHARS:
            raise ProtocolError("An envelope is 4,096, 8,192 or 12,288 bytes.")
        if not self._sends.take(seat.id, now):
            raise NotAllowed("Too many introductions; wait some seconds.", Code.QUOTA)
        target = seat.mesh.find(message.to, message.conn)
        if target is None:
            raise NotAllowed(f"{short(message.to)} is not connected.", Code.GONE)
        if not self._receivers.take(message.to, now):
            raise NotAllowed(
                f"{short(message.to)} gets too many introductions; wait some seconds.",
                Code.BUSY,
            )
        signal = signals.Signal(seat.id, seat.conn, message.sealed)
        return [Send(target.link, signal)]


def refused(re: int | None, exc: MeshError) -> signals.Refused:
    """An error as its message; what it quotes of a stranger's is made printable."""
    text = "".join(c if c.isprintable() else "?" for c in str(exc)[:500])
    return signals.Refused(re, _code(exc), text)


def _code(exc: MeshError) -> Code:
    match exc:
        case NotAllowed(code=code):
            return code
        case TrustError():
            return Code.AUTH
    return Code.PROTOCOL
