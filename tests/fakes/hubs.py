"""A hub with a mesh and people in it, all in memory: real keys, real chains."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nacl.signing import SigningKey

from meshllm.protocol import login, signals
from meshllm.protocol.signal_codec import encode
from meshllm.trust.announcement import Announcement
from meshllm.trust.grants import (
    Caps,
    Card,
    Membership,
    Owner,
    Revocations,
    Revoked,
    Role,
    Statement,
    Ticket,
)
from meshllm.trust.keys import PeerId, b64encode, peer_id
from signaling.effects import Close, Effect, Forget, Row, Save, Send
from signaling.hub import Hub, IceServers, no_ice
from signaling.kept import Admit
from signaling.limits import DEFAULT_LIMITS, Limits

NOW = 1_800_000_000
YEAR = 365 * 86_400
ORIGIN = "https://signal.example.org"
M = TypeVar("M")


def key(name: str) -> SigningKey:
    """The same key for the same name, always."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


def id_of(name: str) -> PeerId:
    return peer_id(bytes(key(name).verify_key))


def conn_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def envelope(fill: str = "A", size: int = 4096) -> str:
    return b64encode(fill.encode() * size)


@dataclass
class Mesh:
    """A mesh as its owner's machine knows it. People are named by their key's name."""

    root: str = "root"
    owners: tuple[str, ...] = ("owner",)
    version: int = 1

    @property
    def id(self) -> PeerId:
        return id_of(self.root)

    @property
    def statement(self) -> str:
        owners = tuple(Owner(id_of(name), name) for name in self.owners)
        return Statement(self.id, self.version, owners, NOW).sign(key(self.root))

    def membership(
        self,
        name: str,
        role: Role = Role.MEMBER,
        *,
        until: int = NOW + YEAR,
        ticket: bytes | None = None,
        issuer: str = "owner",
        ts: int = NOW,
    ) -> str:
        return Membership(
            mesh=self.id,
            issuer=id_of(issuer),
            id=id_of(name),
            name=name,
            role=role,
            caps=Caps(),
            ticket=ticket,
            until=until,
            ts=ts,
        ).sign(key(issuer))

    def chain(self, name: str, role: Role = Role.MEMBER) -> tuple[str, ...]:
        if name in self.owners:
            return (self.statement,)
        return (self.statement, self.membership(name, role))

    def provisional(
        self, ticket: str, name: str, *, until: int = NOW + 3600
    ) -> tuple[str, ...]:
        """The chain of `name`, who used the ticket that is called `ticket`."""
        seed, id = key(f"seed of {ticket}"), conn_of(ticket)
        promise = Ticket(
            mesh=self.id,
            issuer=id_of("owner"),
            id=id,
            seed=bytes(seed.verify_key),
            name=ticket,
            role=Role.MEMBER,
            caps=Caps(),
            until=until,
            ts=NOW,
        )
        card = Card(self.id, id, id_of(name), NOW)
        return self.statement, promise.sign(key("owner")), card.sign(seed)

    def revocations(self, *names: str, version: int = 1, issuer: str = "owner") -> str:
        revoked = tuple(Revoked(id_of(name), NOW) for name in names)
        issued_by = id_of(issuer)
        return Revocations(self.id, issued_by, version, revoked, NOW).sign(key(issuer))

    def announcement(
        self,
        name: str,
        *,
        conn: str | None = None,
        chain: Sequence[str] | None = None,
        ts: int = NOW,
        backend: str = "ollama",
    ) -> str:
        return Announcement(
            mesh=self.id,
            id=id_of(name),
            conn=conn_of(conn or name),
            box=bytes(32),
            versions=(1, 1),
            backend=backend,
            parallel=1,
            models=(),
            chain=tuple(chain or self.chain(name)),
            ts=ts,
        ).sign(key(name))


@dataclass
class World:
    """The hub, its sockets' outboxes and its store. `now` is moved by the test."""

    admit: Admit = Admit.SETUP
    limits: Limits = DEFAULT_LIMITS
    ice: IceServers = no_ice
    mesh: Mesh = field(default_factory=Mesh)
    now: float = NOW
    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    sent: dict[int, list[signals.HubMessage]] = field(default_factory=dict)
    closed: dict[int, Close] = field(default_factory=dict)
    links: int = 0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process over the same store; every socket is gone."""
        self.hub = Hub(
            key("hub"),
            admit=self.admit,
            ice=self.ice,
            rows=list(self.rows.values()),
            limits=self.limits,
        )

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(link, message):
                    encode(message)  # the server could send it
                    assert link not in self.closed, "sent after close"
                    self.sent.setdefault(link, []).append(message)
                case Close(link):
                    self.closed[link] = effect
                case Save(row):
                    self.rows[row.kind, row.mesh, row.key] = row
                case Forget(kind, mesh, key):
                    del self.rows[kind, mesh, key]

    def registered(self) -> World:
        """With the mesh known to the hub, as after `meshllm init LINK`."""
        token = b"setup token 0123"
        self.apply(self.hub.kept.offer_setup(token))
        link = self.stranger("owner")
        answer = self.ask(link, signals.Register(1, token, self.mesh.statement))
        assert answer == signals.Done(1), answer
        return self

    # Sockets

    def connect(self, origin: str = ORIGIN, address: str = "192.0.2.1") -> int:
        self.links += 1
        nonce = hashlib.sha256(b"nonce %d" % self.links).digest()
        self.apply(self.hub.connected(self.links, origin, address, nonce, self.now))
        return self.links

    def say(self, link: int, message: signals.ClientMessage | str | bytes) -> None:
        data = message if isinstance(message, str | bytes) else encode(message)
        self.apply(self.hub.received(link, data, self.now))

    def ask(
        self, link: int, message: signals.Request | signals.Ping
    ) -> signals.HubMessage:
        """The message that repeats its `re`."""
        before = len(self.sent[link])
        self.say(link, message)
        answers = [m for m in self.sent[link][before:] if _re(m) == message.re]
        assert len(answers) == 1, answers
        return answers[0]

    def drop(self, link: int) -> None:
        self.apply(self.hub.disconnected(link))

    def tick(self, seconds: float = 0) -> None:
        self.now += seconds
        self.apply(self.hub.tick(self.now))

    # Login

    def login(
        self,
        link: int,
        name: str,
        chain: Sequence[str] = (),
        *,
        conn: str | None = None,
        origin: str = ORIGIN,
    ) -> signals.Login:
        """What an honest client would answer to this socket's challenge."""
        challenge = self.said(link, signals.Challenge)[0]
        nonce = hashlib.sha256(b"client nonce").digest()
        transcript = login.transcript(
            origin=origin,
            server=challenge.server,
            server_nonce=challenge.nonce,
            client=id_of(name),
            client_nonce=nonce,
            ts=challenge.ts,
        )
        sig = login.sign_login("client", transcript, key(name))
        return signals.Login(
            id_of(name), nonce, conn_of(conn or name), sig, tuple(chain)
        )

    def enter(
        self,
        name: str,
        chain: Sequence[str],
        *,
        conn: str | None = None,
        address: str = "192.0.2.1",
    ) -> int:
        """A new socket, logged in (or refused)."""
        link = self.connect(address=address)
        self.say(link, self.login(link, name, chain, conn=conn))
        return link

    def stranger(self, name: str) -> int:
        return self.enter(name, ())

    def member(
        self, name: str, role: Role = Role.MEMBER, *, conn: str | None = None
    ) -> int:
        """Somebody with a lasting place in the mesh; owners by their names."""
        link = self.enter(name, self.mesh.chain(name, role), conn=conn)
        assert link not in self.closed, self.closed[link]
        return link

    def announce(self, link: int, name: str, *, conn: str | None = None) -> None:
        token = self.mesh.announcement(name, conn=conn)
        assert self.ask(link, signals.Announce(1, token)) == signals.Done(1)

    # What was said

    def said(self, link: int, kind: type[M]) -> list[M]:
        return [m for m in self.sent.get(link, []) if isinstance(m, kind)]

    def take(self, link: int) -> list[signals.HubMessage]:
        """What this socket was sent since it was last asked."""
        return self.sent.pop(link, [])


def restated(mesh: Mesh, *owners: str) -> Mesh:
    """The same mesh after its root said anew who its owners are."""
    return replace(mesh, owners=owners, version=mesh.version + 1)


def _re(message: signals.HubMessage) -> int | None:
    return getattr(message, "re", None)
