"""Where two machines that pair come together: a mailbox of a hub, or the LAN."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import TypeAlias

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.errors import (
    Code,
    ConfigError,
    MeshError,
    NotAllowed,
    PeerUnreachable,
    TrustError,
)
from meshllm.identity import Identity
from meshllm.joining import loaded
from meshllm.membership import Membership, refuse_second
from meshllm.pairing.talk import (
    Admitted,
    Carrier,
    Paired,
    Screen,
    as_newcomer,
    as_owner,
    told,
)
from meshllm.protocol import login
from meshllm.protocol.pairing import LATE, LIFE_S, NewcomerSide, OwnerSide
from meshllm.protocol.pairing_messages import Grant
from meshllm.transport.doorstep import Doorstep, Visitor, knock
from meshllm.transport.mailbox import Mailbox
from meshllm.trust.grants import Caps, Card, Role, Ticket
from meshllm.trust.keys import PeerId

Place: TypeAlias = Mailbox | Doorstep


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
    lan: bool = True,
    life_s: float = LIFE_S,
) -> Admitted:
    """Waits at the hub and on the LAN, and admits whoever pairs there first. NotAllowed
    unless this node is an owner, and when the pairing fails; then nobody is admitted.
    """
    membership = loaded(home)
    until = time.time() + life_s
    try:
        if membership.admission(int(time.time())).role is not Role.OWNER:
            raise NotAllowed(
                "Only an owner of the mesh can let others in: this node is in one"
                " already. To pair it into another, use another home: `--home DIR`."
            )
        identity = Identity.load(home)
        granted = name or f"{role}-{secrets.token_hex(2)}"

        def grant(id: PeerId) -> Grant:
            return _grant(membership, identity, id, granted, Role(role))

        async with asyncio.timeout(life_s), AsyncExitStack() as stack:
            places = await _open(stack, membership, identity, screen, lan)
            _say_where(screen, membership, places, until)
            carrier, offer = await _first(places)
            mailbox = carrier.number if isinstance(carrier, Mailbox) else None
            side = OwnerSide(*_fresh(identity), mailbox=mailbox, until=until)
            async with told(side, carrier, until):
                is_sure = await as_owner(side, offer, carrier, screen, grant)
        return Admitted(membership.mesh, side.other, granted, Role(role), is_sure)
    except TimeoutError as error:
        raise NotAllowed(LATE, Code.TIMEOUT) from error
    finally:
        membership.close()


async def _open(
    stack: AsyncExitStack,
    membership: Membership,
    identity: Identity,
    screen: Screen,
    lan: bool,
) -> dict[Place, AsyncExitStack]:
    """Every place where the other machine may come, each with what closes it."""
    ways: list[AbstractAsyncContextManager[Place]] = []
    if membership.hub is not None:
        ways.append(
            Mailbox.opened(
                membership.hub, membership.hub_key, identity, membership.chain
            )
        )
    if lan:
        ways.append(Doorstep.opened(identity.id))
    if not ways:
        raise ConfigError(
            "This mesh has no signaling server to meet at, and --no-lan leaves no other"
            " way. `meshllm init LINK` attaches it to a server."
        )
    places: dict[Place, AsyncExitStack] = {}
    closed: list[PeerUnreachable] = []
    for way in ways:
        own = await stack.enter_async_context(AsyncExitStack())
        try:
            places[await own.enter_async_context(way)] = own
        except PeerUnreachable as error:
            closed.append(error)
    if not places:
        raise closed[0]
    for why in closed:
        screen.note(str(why))
    return places


def _say_where(
    screen: Screen,
    membership: Membership,
    places: Collection[Place],
    until: float,
) -> None:
    number = next((one.number for one in places if isinstance(one, Mailbox)), None)
    is_on_lan = any(isinstance(one, Doorstep) for one in places)
    screen.waiting(number, membership.hub, is_on_lan, until)


async def _first(places: dict[Place, AsyncExitStack]) -> tuple[Place, bytes]:
    """Where the first offer came. All else is closed: one pairing at a time."""
    waiting = {asyncio.ensure_future(place.receive()): place for place in places}
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        first = done.pop()
        offer = first.result()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    for place, own in places.items():
        if place is not waiting[first]:
            await own.aclose()
    return waiting[first], offer


def _grant(
    membership: Membership, identity: Identity, id: PeerId, name: str, role: Role
) -> Grant:
    """As if a ticket of this moment had been used by that node: so that it is in the
    same books as everybody."""
    now = int(time.time())
    until = now + LIFE_S
    invitation = membership.invite(
        identity, name=name, role=role, caps=Caps(), until=until, now=now
    )
    ticket = Ticket.read(invitation.ticket)
    card = Card(membership.mesh, ticket.id, id, now).sign(SigningKey(invitation.seed))
    chain = (invitation.statement, invitation.ticket, card)
    token = membership.issue(identity, chain, now)
    return Grant(membership.hub, membership.hub_key, invitation.statement, token)


# The newcomer


async def come_in(
    home: Path,
    screen: Screen,
    number: int | None = None,
    hub: str | None = None,
    *,
    life_s: float = LIFE_S,
) -> Paired:
    """Pairs with the owner's machine: in that mailbox of `hub`, or without a number
    with the one found on the LAN. A failure leaves nothing but the node's own keys."""
    refuse_second(home)
    if number is not None:
        assert hub is not None
        hub = login.origin(hub if "://" in hub else f"https://{hub}")
    identity = Identity.load_or_create(home)
    until = time.time() + life_s
    side = NewcomerSide(*_fresh(identity), mailbox=number, until=until)
    try:
        async with asyncio.timeout(life_s), AsyncExitStack() as stack:
            carrier: Mailbox | Visitor
            if number is None or hub is None:
                screen.looking(until)
                carrier = await stack.enter_async_context(knock(side.offer()))
            else:
                mailbox = Mailbox.joined(hub, number, identity)
                carrier = await stack.enter_async_context(mailbox)
                await carrier.send(side.offer())
            async with told(side, carrier, until):
                answer = await carrier.receive()
                grant = await as_newcomer(side, answer, carrier, screen, until)
                if isinstance(carrier, Mailbox) and grant.server != carrier.server:
                    raise TrustError(
                        f"The server at {hub} is not the one that this mesh meets at:"
                        " somebody else may have its address now."
                    )
                return await _settle(home, identity, side, carrier, hub or grant.hub)
    except TimeoutError as error:
        raise NotAllowed(LATE, Code.TIMEOUT) from error


async def _settle(
    home: Path,
    identity: Identity,
    side: NewcomerSide,
    carrier: Carrier,
    hub: str | None,
) -> Paired:
    grant, now = side.granted, int(time.time())
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


def _fresh(identity: Identity) -> tuple[SigningKey, PrivateKey, bytes]:
    """What one attempt is made of."""
    return identity.signing, PrivateKey.generate(), secrets.token_bytes(32)
