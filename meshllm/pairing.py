"""Pairing at work: what goes between two machines, and what their people see and type.

The rules are in `protocol/pairing.py`; here are the files, the clock and the carriers.
docs/protocol.md §3.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.errors import Code, ConfigError, MeshError, NotAllowed, TrustError
from meshllm.identity import Identity
from meshllm.joining import loaded
from meshllm.membership import Membership, refuse_second
from meshllm.protocol import login
from meshllm.protocol.pairing import LATE, LIFE_S, NewcomerSide, OwnerSide
from meshllm.protocol.pairing_messages import (
    CODE_DIGITS,
    RECEIPT_DIGITS,
    Grant,
    read_digits,
)
from meshllm.transport.mailbox import Mailbox
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Caps, Card, Role, Ticket
from meshllm.trust.keys import PeerId

Side = TypeVar("Side", OwnerSide, NewcomerSide)
T = TypeVar("T")
LAST_WORD_S: Final = 2.0  # for telling the other machine that it is over


class Screen(Protocol):
    """The person at this machine. The asking methods may be cancelled."""

    def waiting(self, mailbox: int, hub: str, until: float) -> None:
        """The owner's mailbox is open until then (seconds since 1970)."""

    def arrived(self) -> None:
        """The newcomer is there, and shows its code."""

    async def ask_code(self) -> str:
        """What is typed on the owner's machine."""
        ...

    def show_receipt(self, receipt: str) -> None:
        """On the owner's machine: the code was right."""

    def show_code(self, code: str, until: float) -> None:
        """On the newcomer."""

    async def ask_receipt(self) -> str:
        """What is typed on the newcomer."""
        ...

    def mistyped(self, why: str) -> None:
        """That was no guess; it is asked again."""


class Carrier(Protocol):
    """Letters to the other machine and from it; raises MeshError once it is gone."""

    async def send(self, letter: bytes) -> None: ...
    async def receive(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """By the owner's machine. `is_sure`: the other one said that it has it."""

    mesh: PeerId
    id: PeerId
    name: str
    role: Role
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Paired:
    """The newcomer's place in its mesh."""

    mesh: PeerId
    admission: Admission


def is_member(home: Path) -> bool:
    """Which side of a pairing this home is on: it lets in, or it comes in."""
    membership = Membership.load(home)
    if membership is not None:
        membership.close()
    return membership is not None


# The owner's machine


async def let_in(
    home: Path,
    screen: Screen,
    *,
    name: str | None = None,
    role: str = "guest",
    life_s: float = LIFE_S,
) -> Admitted:
    """Opens a mailbox and admits whoever pairs there. NotAllowed unless this node is an
    owner, and when the pairing fails; then nobody was admitted."""
    membership = loaded(home)
    try:
        if membership.admission(int(time.time())).role is not Role.OWNER:
            raise NotAllowed(
                "Only an owner of the mesh can let others in: this node is in one"
                " already. To pair it into another, use another home: `--home DIR`."
            )
        if membership.hub is None:
            raise ConfigError(
                "This mesh has no signaling server to meet at. `meshllm init LINK`"
                " attaches it to one; or let the other machine in by a link:"
                " `meshllm invite`."
            )
        identity = Identity.load(home)
        until = time.time() + life_s
        host = _Host(membership, identity, name or f"{role}-{secrets.token_hex(2)}")
        async with (
            asyncio.timeout(life_s),
            Mailbox.opened(
                membership.hub, membership.hub_key, identity, membership.chain
            ) as mailbox,
        ):
            side = OwnerSide(*_fresh(identity), mailbox=mailbox.number, until=until)
            screen.waiting(mailbox.number, membership.hub, until)
            async with _told(side, mailbox, until):
                return await host.pair(side, mailbox, screen, Role(role))
    except TimeoutError as error:
        raise NotAllowed(LATE, Code.TIMEOUT) from error
    finally:
        membership.close()


@dataclass(frozen=True, slots=True)
class _Host:
    membership: Membership
    identity: Identity
    name: str

    async def pair(
        self, side: OwnerSide, carrier: Carrier, screen: Screen, role: Role
    ) -> Admitted:
        answer = side.receive(await carrier.receive(), time.time())
        assert answer is not None
        await carrier.send(answer)
        side.receive(await carrier.receive(), time.time())
        screen.arrived()
        code = await _typed(screen.ask_code, CODE_DIGITS, screen, side, carrier)
        side.type_code(code, time.time())
        screen.show_receipt(side.receipt)
        side.receive(await carrier.receive(), time.time())
        await carrier.send(side.grant(self._grant(side.other, role)))
        is_sure = True
        try:
            side.receive(await carrier.receive(), time.time())
        except MeshError:
            is_sure = False  # it may have it: the last letter can be lost
        return Admitted(
            self.membership.mesh, side.other, self.name, role, is_sure=is_sure
        )

    def _grant(self, id: PeerId, role: Role) -> Grant:
        """As if a ticket of this moment had been used by that node: so that it is in
        the same books as everybody."""
        now, membership = int(time.time()), self.membership
        invitation = membership.invite(
            self.identity,
            name=self.name,
            role=role,
            caps=Caps(),
            until=now + LIFE_S,
            now=now,
        )
        ticket = Ticket.read(invitation.ticket)
        seed = SigningKey(invitation.seed)
        card = Card(membership.mesh, ticket.id, id, now).sign(seed)
        chain = (invitation.statement, invitation.ticket, card)
        token = membership.issue(self.identity, chain, now)
        return Grant(membership.hub, membership.hub_key, invitation.statement, token)


# The newcomer


async def come_in(
    home: Path, number: int, hub: str, screen: Screen, *, life_s: float = LIFE_S
) -> Paired:
    """Pairs with the owner's machine in that mailbox. A failure leaves nothing but the
    node's own keys."""
    refuse_second(home)
    hub = login.origin(hub if "://" in hub else f"https://{hub}")
    identity = Identity.load_or_create(home)
    until = time.time() + life_s
    try:
        async with (
            asyncio.timeout(life_s),
            Mailbox.joined(hub, number, identity) as mailbox,
        ):
            side = NewcomerSide(*_fresh(identity), mailbox=number, until=until)
            async with _told(side, mailbox, until):
                grant = await _ask(side, mailbox, screen, until)
                if grant.server != mailbox.server:
                    raise TrustError(
                        f"The server at {hub} is not the one that this mesh meets at:"
                        " somebody else may have its address now."
                    )
                return await _settle(home, identity, side, mailbox, hub)
    except TimeoutError as error:
        raise NotAllowed(LATE, Code.TIMEOUT) from error


async def _ask(
    side: NewcomerSide, carrier: Carrier, screen: Screen, until: float
) -> Grant:
    await carrier.send(side.offer())
    reveal = side.receive(await carrier.receive(), time.time())
    assert reveal is not None
    await carrier.send(reveal)
    screen.show_code(side.code, until)
    receipt = await _typed(screen.ask_receipt, RECEIPT_DIGITS, screen, side, carrier)
    await carrier.send(side.type_receipt(receipt, time.time()))
    side.receive(await carrier.receive(), time.time())
    return side.granted


async def _settle(
    home: Path,
    identity: Identity,
    side: NewcomerSide,
    carrier: Carrier,
    hub: str | None,
) -> Paired:
    now = int(time.time())
    grant = side.granted
    membership = Membership.enter(
        home,
        identity,
        grant.statement,
        grant.membership,
        hub=hub,
        hub_key=grant.server,
        now=now,
    )
    try:
        admission = membership.admission(now)
    finally:
        membership.close()
    with contextlib.suppress(MeshError):  # it is ours, whether or not they hear so
        await carrier.send(side.accept())
    return Paired(membership.mesh, admission)


# Both


def _fresh(identity: Identity) -> tuple[SigningKey, PrivateKey, bytes]:
    """What one attempt is made of."""
    return identity.signing, PrivateKey.generate(), secrets.token_bytes(32)


@contextlib.asynccontextmanager
async def _told(side: Side, carrier: Carrier, until: float) -> AsyncIterator[None]:
    """However it ends early, the other machine is told, if it can be."""
    code = Code.PROTOCOL
    try:
        yield
    except asyncio.CancelledError:
        code = Code.TIMEOUT if time.time() >= until else Code.CANCELLED
        raise
    except NotAllowed as error:
        code = error.code
        raise
    finally:
        if (last := side.stop(code)) is not None:
            with contextlib.suppress(MeshError, TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await carrier.send(last)


async def _typed(
    ask: Callable[[], Awaitable[str]],
    count: int,
    screen: Screen,
    side: Side,
    carrier: Carrier,
) -> str:
    """So many digits, from the person; raises when the other machine ends it first."""
    while True:
        typed = await _unless_told(ask(), side, carrier)
        try:
            return read_digits(typed, count)
        except ConfigError as error:
            screen.mistyped(str(error))


async def _unless_told(asked: Awaitable[T], side: Side, carrier: Carrier) -> T:
    """Nothing may come from the other machine while a person types, but the end."""
    typing = asyncio.ensure_future(asked)
    letter = asyncio.ensure_future(carrier.receive())
    try:
        await asyncio.wait([typing, letter], return_when=asyncio.FIRST_COMPLETED)
        if letter.done():
            side.receive(letter.result(), time.time())
            raise AssertionError("a letter while somebody types ends it")
        return typing.result()
    finally:
        for task in (typing, letter):
            task.cancel()
        await asyncio.gather(typing, letter, return_exceptions=True)
