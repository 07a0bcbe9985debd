"""Pure: who is here, and who may be introduced to whom (docs/protocol.md §3).

Values in, effects out. Nothing that a client sends makes it raise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from nacl.signing import SigningKey

from meshllm.errors import Code, MeshError, NotAllowed, ProtocolError
from meshllm.protocol import login, signals
from meshllm.protocol.signal_codec import decode_client
from meshllm.trust.admission import recheck
from meshllm.trust.keys import PeerId, peer_id
from signaling.effects import Close, Effect, Row, Send
from signaling.kept import USED, Admit, Kept
from signaling.limits import DEFAULT_LIMITS, Buckets, Limits, household
from signaling.mailboxes import Mailboxes
from signaling.meshes import Seat
from signaling.requests import Requests, refused

SWEEP_S: Final = 60
IceServers: TypeAlias = Callable[[PeerId, float], tuple[signals.Ice, ...]]


def no_ice(id: PeerId, now: float) -> tuple[signals.Ice, ...]:
    return ()


@dataclass(slots=True, eq=False)
class _Link:
    """A socket: a stranger until it has a seat. `id` is set by either login."""

    number: int
    origin: str
    address: str
    nonce: bytes
    since: float
    messages: int = 0
    id: PeerId | None = None
    seat: Seat | None = None


class Hub:
    """`rows` is what an earlier run saved. Times are seconds since 1970."""

    def __init__(
        self,
        key: SigningKey,
        *,
        admit: Admit = Admit.SETUP,
        ice: IceServers = no_ice,
        rows: Iterable[Row] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.id = peer_id(bytes(key.verify_key))
        self.kept = Kept(admit, limits, rows)
        self._requests = Requests(self.kept, limits)
        self._mailboxes = Mailboxes(limits)
        self._key = key
        self._ice = ice
        self._limits = limits
        self._links: dict[int, _Link] = {}
        self._strangers: dict[int, _Link] = {}
        self._addresses: Counter[str] = Counter()
        self._stranger_addresses: Counter[str] = Counter()
        self._connects = Buckets[str](limits.connects)
        self._messages = Buckets[PeerId](limits.messages)
        self._logins = Buckets[PeerId](limits.logins)
        self._swept = 0.0

    def counts(self) -> dict[str, int]:
        """For /health: how many, never who."""
        meshes = self.kept.meshes.values()
        return {
            "connections": len(self._links),
            "members": len(self._links) - len(self._strangers),
            "meshes": len(meshes),
            "providers": sum(len(mesh.roster) for mesh in meshes),
        }

    # What the server reports

    def connected(
        self, number: int, origin: str, address: str, nonce: bytes, now: float
    ) -> list[Effect]:
        """A new socket: a challenge, or why not. `nonce` is 32 fresh random bytes."""
        link = _Link(number, origin, household(address), nonce, now)
        try:
            self._check_room(link.address, now)
        except NotAllowed as exc:
            return _farewell(number, exc)
        self._links[number] = self._strangers[number] = link
        self._addresses[link.address] += 1
        self._stranger_addresses[link.address] += 1
        challenge = signals.Challenge(self.id, nonce, int(now), signals.VERSIONS)
        return [Send(number, challenge)]

    def received(self, number: int, data: bytes | str, now: float) -> list[Effect]:
        """A text message of a client, as it came."""
        link = self._links.get(number)
        if link is None:  # the hub closed it; this was on its way
            return []
        try:
            self._count(link, now)
            message = decode_client(data)
            if isinstance(message, signals.Login):
                effects = self._log_in(link, message, now)
            elif link.id is None:
                raise NotAllowed("A login comes first.", Code.AUTH)
            else:
                effects = self._answer(link, link.id, message, now)
        except MeshError as exc:
            effects = [*_farewell(number, exc), *self._drop(link)]
        return effects + self._close_unfit(now)

    def disconnected(self, number: int) -> list[Effect]:
        """The socket is gone, whoever closed it."""
        link = self._links.get(number)
        return self._drop(link) if link else []

    def tick(self, now: float) -> list[Effect]:
        """To be called about once a second."""
        effects = self._mailboxes.tick(now)
        for link in list(self._strangers.values()):
            most = self._limits.login_s if link.id is None else self._limits.stranger_s
            if now - link.since >= most and not self._mailboxes.has(link.number):
                late = NotAllowed("No login came in time.", Code.TIMEOUT)
                effects += [*_farewell(link.number, late), *self._drop(link)]
        if now - self._swept >= SWEEP_S:
            self._swept = now
            effects += self._sweep(now)
        return effects

    # Login

    def _log_in(self, link: _Link, message: signals.Login, now: float) -> list[Effect]:
        if link.id is not None:
            raise ProtocolError("A socket logs in once.")
        transcript = login.transcript(
            origin=link.origin,
            server=self.id,
            server_nonce=link.nonce,
            client=message.id,
            client_nonce=message.nonce,
            ts=int(link.since),
        )
        login.check_login("client", transcript, message.sig, message.id)
        if not self._logins.take(message.id, now):
            raise NotAllowed("Too many logins; wait a minute.", Code.QUOTA)
        sig = login.sign_login("server", transcript, self._key)
        if message.chain:
            return self._let_in(link, message, sig, now)
        link.id = message.id
        return [Send(link.number, signals.Welcome(sig, (), (), None, None))]

    def _let_in(
        self, link: _Link, message: signals.Login, sig: bytes, now: float
    ) -> list[Effect]:
        id, chain = message.id, message.chain
        mesh = self.kept.mesh_of(chain)
        admission = self.kept.admit(mesh, chain, id, now)
        conns = mesh.nodes.get(id, {})
        if len(conns) >= self._limits.conns and message.conn not in conns:
            raise NotAllowed(
                f"This node has {len(conns)} connections already; stop one of them.",
                Code.QUOTA,
            )
        effects: list[Effect] = []
        if admission.ticket is not None:
            effects, is_first = self.kept.take_card(mesh, admission, chain)
            if not is_first:
                late = NotAllowed(USED, Code.AUTH)
                return [*effects, *_farewell(link.number, late), *self._drop(link)]
        effects += self.kept.learn(mesh, chain[0])
        effects += self._seat(
            link, Seat(link.number, id, message.conn, mesh, admission)
        )
        welcome = signals.Welcome(
            sig,
            mesh.cards(),
            self._ice(id, now),
            mesh.statement_token,
            mesh.revocations_token,
        )
        effects.append(Send(link.number, welcome))
        return effects + self.kept.waiting(mesh, id, link.number, chain)

    def _seat(self, link: _Link, seat: Seat) -> list[Effect]:
        """From stranger to member."""
        link.id, link.seat = seat.id, seat
        self._no_stranger(link)
        old = seat.mesh.sit(seat)
        if old is None:
            return []
        return self._close(old, NotAllowed("Replaced by a newer login.", Code.GONE))

    # Requests

    def _answer(
        self,
        link: _Link,
        id: PeerId,
        message: signals.Request | signals.Ping | signals.Pong | signals.Unknown,
        now: float,
    ) -> list[Effect]:
        """`done` or `error`, and what follows from it."""
        number = link.number
        try:
            match message:
                case signals.Ping(re):
                    return [Send(number, signals.Pong(re))]
                case signals.Pong():
                    return []
                case signals.Unknown(t):
                    raise ProtocolError(f"This signaling server knows no `{t}`.")
                case signals.GetTicket() | signals.LeaveCard() | signals.Register():
                    return self._requests.ask(number, id, link.address, message, now)
                case signals.JoinMailbox() | signals.Post():
                    return self._mailboxes.ask(number, id, link.address, message, now)
            if link.seat is None:
                raise NotAllowed("That needs a login with a chain.", Code.AUTH)
            if isinstance(message, signals.OpenMailbox):
                return self._mailboxes.open(link.seat, message.re, link.nonce, now)
            return self._requests.member(link.seat, message, now)
        except MeshError as exc:
            return [Send(number, refused(message.re, exc))]

    # Limits

    def _check_room(self, address: str, now: float) -> None:
        limits = self._limits
        if (
            len(self._links) >= limits.sockets
            or len(self._strangers) >= limits.strangers
        ):
            raise NotAllowed(
                "The signaling server is full; try again later.", Code.BUSY
            )
        if (
            self._addresses[address] >= limits.sockets_per_address
            or self._stranger_addresses[address] >= limits.strangers_per_address
            or not self._connects.take(address, now)
        ):
            raise NotAllowed(
                "Too many connections from your address; wait a minute.", Code.QUOTA
            )

    def _count(self, link: _Link, now: float) -> None:
        link.messages += 1
        if link.seat is None:
            is_allowed = link.messages <= self._limits.stranger_messages
        else:
            is_allowed = self._messages.take(link.seat.id, now)
        if not is_allowed:
            raise NotAllowed("Too many messages.", Code.QUOTA)

    # Leaving

    def _drop(self, link: _Link) -> list[Effect]:
        """Forgets a socket; its mesh hears of it when it was announcing, its mailbox
        in any case."""
        del self._links[link.number]
        _decrease(self._addresses, link.address)
        self._no_stranger(link)
        effects = self._mailboxes.leave(link.number)
        return effects + (link.seat.mesh.leave(link.seat) if link.seat else [])

    def _no_stranger(self, link: _Link) -> None:
        if self._strangers.pop(link.number, None) is not None:
            _decrease(self._stranger_addresses, link.address)

    def _close_unfit(self, now: float) -> list[Effect]:
        """Who no longer belongs: after revocations, a new statement, or time."""
        effects: list[Effect] = []
        for mesh in self.kept.take_changed():
            for seat in list(mesh.seats()):
                try:
                    recheck(
                        seat.admission,
                        now=int(now),
                        statement=mesh.statement,
                        revoked=mesh.revocations,
                    )
                except NotAllowed as exc:
                    effects += self._close(seat, exc)
        return effects

    def _close(self, seat: Seat, why: MeshError) -> list[Effect]:
        return [*_farewell(seat.link, why), *self._drop(self._links[seat.link])]

    def _sweep(self, now: float) -> list[Effect]:
        self._requests.sweep(now)
        self._mailboxes.sweep(now)
        self._connects.forget_full(now)
        self._messages.forget_full(now)
        self._logins.forget_full(now)
        return self.kept.sweep(now) + self._close_unfit(now)


def _farewell(number: int, why: MeshError) -> list[Effect]:
    error = refused(None, why)
    return [Send(number, error), Close(number, error.code, error.text)]


def _decrease(counter: Counter[str], key: str) -> None:
    """Without its zeros a counter does not grow with every address it ever saw."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
