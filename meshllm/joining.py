"""Invitations: a node brings another in, comes in itself, or leaves.

Each is one visit to the hub, if any. docs/protocol.md §2.1 and §3.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meshllm.control import running
from meshllm.errors import (
    ConfigError,
    MeshError,
    NotAllowed,
    PeerUnreachable,
    TrustError,
)
from meshllm.identity import IDENTITY_FILE, Identity
from meshllm.membership import NO_MESH, Membership, refuse_second
from meshllm.transport.signaling import SignalingClient, SignalingHandlers
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Caps, Role, Ticket
from meshllm.trust.keys import PeerId
from meshllm.trust.link import (
    Invitation,
    OfflineLink,
    SetupLink,
    ShortLink,
    open_invitation,
    parse_link,
    seal_invitation,
)

MEMBERSHIP_S: Final = 3.0  # an owner's node that is online answers in a round trip


@dataclass(frozen=True, slots=True)
class Invited:
    link: str
    name: str
    role: Role
    until: int


@dataclass(frozen=True, slots=True)
class Joined:
    """`problem`: why the server could not be told; the node will tell it later."""

    mesh: PeerId
    admission: Admission
    promised: Role
    problem: str | None = None

    @property
    def is_provisional(self) -> bool:
        return self.admission.ticket is not None


async def invite(
    home: Path,
    *,
    name: str | None = None,
    role: str = "guest",
    expires_s: int = 7 * 86_400,
    models: tuple[str, ...] | None = None,
    parallel: int | None = None,
    offline: bool = False,
) -> Invited:
    """A link that lets one node in. Short, kept sealed by the hub, unless `offline` or
    there is no hub; then it carries everything itself. NotAllowed: not an owner."""
    membership = loaded(home)
    try:
        identity, now = Identity.load(home), int(time.time())
        granted = name or f"{role}-{secrets.token_hex(2)}"
        until = now + expires_s
        invitation = membership.invite(
            identity,
            name=granted,
            role=Role(role),
            caps=Caps(models=models, parallel=parallel),
            until=until,
            now=now,
        )
        if offline or membership.hub is None:
            link = str(OfflineLink(membership.hub, invitation))
        else:
            link = await _leave_ticket(membership, identity, invitation, until)
    finally:
        membership.close()
    return Invited(link, granted, Role(role), until)


async def _leave_ticket(
    membership: Membership, identity: Identity, invitation: Invitation, until: int
) -> str:
    assert membership.hub is not None
    link = ShortLink(membership.hub, secrets.token_bytes(8), secrets.token_bytes(16))
    sealed = seal_invitation(invitation, link.key, secrets.token_bytes(24))
    async with SignalingClient.once(
        membership.hub, membership.hub_key, identity, chain=membership.chain
    ) as client:
        await client.put_ticket(link.id, sealed, until)
    return str(link)


async def join(home: Path, link: str, *, wait_s: float = MEMBERSHIP_S) -> Joined:
    """Uses an invitation, and waits a little for the membership that replaces it.

    A refusal (used, expired, forged) leaves nothing of it behind.
    """
    refuse_second(home)
    parsed = parse_link(link)
    if isinstance(parsed, SetupLink):
        raise TrustError(
            "This is a server's link, to make a mesh there: `meshllm init LINK`."
        )
    identity = Identity.load_or_create(home)
    if isinstance(parsed, ShortLink):
        invitation = await _fetch(parsed, identity)
    else:
        invitation = parsed.invitation
    hub = parsed.hub
    now = int(time.time())
    membership = Membership.join(home, identity, invitation, hub, now)
    problem = None
    try:
        if hub is not None:
            await _show_card(membership, identity, wait_s)
        else:
            from meshllm.nearby import meet_owner  # brings aiortc along

            await meet_owner(identity, membership, wait_s)
    except PeerUnreachable as error:
        problem = str(error)
    except MeshError:
        membership.leave()
        raise
    finally:
        membership.close()
    promised = Ticket.read(invitation.ticket).role
    admission = membership.admission(int(time.time()))
    return Joined(membership.mesh, admission, promised, problem)


async def _fetch(link: ShortLink, identity: Identity) -> Invitation:
    """The ticket that the hub keeps. It must name the hub that gave it."""
    async with SignalingClient.once(link.hub, None, identity) as client:
        sealed = await client.get_ticket(link.id)
        invitation = open_invitation(sealed, link.key)
        if invitation.server != client.server:
            raise TrustError(
                f"The server at {link.hub} is not the one that this invitation names:"
                " somebody else may have its address now. Ask for a new link."
            )
    return invitation


async def _show_card(membership: Membership, identity: Identity, wait_s: float) -> None:
    """Logs in with the card, which the hub hands to its issuer. Returns when the
    membership is here, or has not come in time."""
    came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def accept(token: str, statement: str) -> None:
        if came.done():
            return
        try:
            membership.accept(token, statement, int(time.time()))
        except MeshError as error:
            came.set_exception(error)
        else:
            came.set_result(None)

    assert membership.hub is not None
    async with SignalingClient.once(
        membership.hub,
        membership.hub_key,
        identity,
        chain=membership.chain,
        handlers=SignalingHandlers(on_membership=accept),
    ):
        await asyncio.wait([came], timeout=wait_s)
        if came.done():
            came.result()


def leave(home: Path) -> PeerId:
    """Forgets the mesh, and returns which. The node's own keys stay."""
    membership = loaded(home)
    if still := running(home):
        membership.close()
        raise ConfigError(
            f"`meshllm {still[0].role}` (process {still[0].pid}) still runs in this"
            " mesh. End it first."
        )
    membership.leave()
    return membership.mesh


def describe(home: Path, now: int) -> dict[str, Any]:
    """This node's place in its mesh, as a JSON object; ConfigError when in none.

    `role` is null, and `problem` says why, when the place has ended.
    """
    membership = loaded(home)
    try:
        problem = None
        admission: Admission | None = None
        try:
            admission = membership.admission(now)
        except NotAllowed as error:
            problem = str(error)
    finally:
        membership.close()
    return {
        "id": Identity.load(home).id,
        "key_file": str(home / IDENTITY_FILE),
        "name": admission.name if admission else None,
        "role": admission.role.value if admission else None,
        "provisional": membership.is_provisional,
        "until": admission.until if admission else None,
        "mesh": membership.mesh,
        "hub": membership.hub,
        "problem": problem,
    }


def loaded(home: Path) -> Membership:
    """To be closed. ConfigError: this node is in no mesh."""
    membership = Membership.load(home)
    if membership is None:
        raise ConfigError(NO_MESH)
    return membership
