"""Who somebody is in a mesh: a chain verified, offline, up to the root key.

Default deny: whatever is not one of the three chains of docs/protocol.md §2 is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshllm.errors import Code, NotAllowed
from meshllm.trust.grants import (
    Caps,
    Card,
    Membership,
    Owner,
    Revocations,
    Role,
    Statement,
    Ticket,
)
from meshllm.trust.keys import PeerId, short


@dataclass(frozen=True, slots=True)
class Admission:
    """The outcome. `ticket` is set while a card stands in for a membership.

    A verifier that gets a `ticket` must bind it to `id`, durably, before it answers.
    `until` is None for owners.
    """

    mesh: PeerId
    id: PeerId
    name: str
    role: Role
    caps: Caps
    until: int | None
    ticket: bytes | None
    issuer: PeerId


def admit(
    chain: Sequence[str],
    *,
    id: PeerId,
    mesh: PeerId,
    now: int,
    known: Statement | None = None,
    revoked: Revocations | None = None,
) -> Admission:
    """What the chain makes of `id`. That `id` holds its key is proven elsewhere.

    NotAllowed (auth, revoked) when it makes nothing of it; TrustError and
    RemoteProtocolError when a link of it is malformed or its signature does not hold.
    """
    if not chain:
        raise NotAllowed(
            "You are not in this mesh: no membership was shown.", Code.AUTH
        )
    statement = newest(Statement.read(chain[0], mesh), known)
    match len(chain):
        case 1:
            admission = _owner(statement, id)
        case 2:
            admission = _member(Membership.read(chain[1]), id, mesh)
        case 3:
            admission = _bearer(Ticket.read(chain[1]), chain[2], id, mesh)
        case _:
            raise NotAllowed("A chain has at most three links.", Code.AUTH)
    return recheck(admission, now=now, statement=statement, revoked=revoked)


def recheck(
    admission: Admission,
    *,
    now: int,
    statement: Statement,
    revoked: Revocations | None,
) -> Admission:
    """The same admission, if it still holds: at each request, and on new lists."""
    if statement.owner(admission.issuer) is None:
        raise NotAllowed("Whoever issued this is no owner of the mesh.", Code.AUTH)
    if revoked is not None and binds(revoked, admission, statement):
        raise NotAllowed("This membership was revoked by an owner.", Code.REVOKED)
    if admission.until is not None and now >= admission.until:
        what = "invitation" if admission.ticket is not None else "membership"
        raise NotAllowed(
            f"This {what} has expired. Ask an owner of the mesh for a new link.",
            Code.AUTH,
        )
    return admission


def binds(revoked: Revocations, admission: Admission, statement: Statement) -> bool:
    """Whether a list ends this admission. Owners are the root key's to remove, so that
    none of them, nor a stolen key of one, can lock the others out."""
    return (
        revoked.mesh == admission.mesh
        and statement.owner(revoked.issuer) is not None
        and statement.owner(admission.id) is None
        and revoked.covers(admission.id)
    )


def supersedes(
    new: Revocations, kept: Revocations | None, statement: Statement
) -> bool:
    """Whether a list replaces the one kept: it is by an owner, and is newer, or the one
    kept is by nobody who is an owner now."""
    if new.mesh != statement.mesh or statement.owner(new.issuer) is None:
        return False
    return (
        kept is None
        or statement.owner(kept.issuer) is None
        or new.version > kept.version
    )


def newest(shown: Statement, known: Statement | None) -> Statement:
    """The one that counts: what is kept is never lowered."""
    return known if known is not None and known.version >= shown.version else shown


def _owner(statement: Statement, id: PeerId) -> Admission:
    owner: Owner | None = statement.owner(id)
    if owner is None:
        raise NotAllowed(f"{short(id)} is no owner of this mesh.", Code.AUTH)
    return Admission(statement.mesh, id, owner.name, Role.OWNER, Caps(), None, None, id)


def _member(membership: Membership, id: PeerId, mesh: PeerId) -> Admission:
    if membership.id != id or membership.mesh != mesh:
        raise NotAllowed("This membership belongs to another node or mesh.", Code.AUTH)
    if membership.role is Role.OWNER:  # no stolen owner's key can make more of them
        raise NotAllowed("Only the mesh's root key makes owners.", Code.AUTH)
    return Admission(
        mesh,
        id,
        membership.name,
        membership.role,
        membership.caps,
        membership.until,
        None,
        membership.issuer,
    )


def _bearer(ticket: Ticket, token: str, id: PeerId, mesh: PeerId) -> Admission:
    card = Card.read(token, ticket.seed)
    if ticket.mesh != mesh or card.mesh != mesh or card.ticket != ticket.id:
        raise NotAllowed("This card belongs to another ticket or mesh.", Code.AUTH)
    if card.id != id:
        raise NotAllowed("This card belongs to another node.", Code.AUTH)
    return Admission(
        mesh,
        id,
        ticket.name,
        Role.GUEST,  # whatever the ticket promises, until its membership comes
        ticket.caps,
        ticket.until,
        ticket.id,
        ticket.issuer,
    )
