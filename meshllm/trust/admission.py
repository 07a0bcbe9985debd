"""Pure: who a node is in a mesh, by the chain it brings (docs/protocol.md §2).

Default deny: everything that is not proven is refused, with a reason for people and a
code for programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from meshllm.errors import Code, LocalProtocolError, NotAllowed, RemoteProtocolError
from meshllm.trust.grants import Caps, Membership, Role
from meshllm.trust.keys import PeerId, short
from meshllm.trust.revocations import Revocations
from meshllm.trust.statement import Statement
from meshllm.trust.ticket import Card, Ticket

_LAST_S: Final = 253_402_300_799  # 9999-12-31, the last day datetime can write


@dataclass(frozen=True, slots=True)
class Admission:
    """What a chain proved. `until` is None for an owner: the statement has no end.

    `ticket` is the ticket's id when the chain is provisional: whoever acts on it first
    binds (ticket, id) durably. `issuer` is the mesh's root for an owner.
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
    """Who `id` is in `mesh`. `known` and `revoked` are the newest the caller keeps.

    Raises NotAllowed (auth, revoked), TrustError when a signature does not hold, and
    RemoteProtocolError when the chain is malformed.
    """
    statement = newest_statement(chain, mesh, known)
    if revoked is not None and revoked.mesh != mesh:
        raise LocalProtocolError("The revocations kept are of another mesh.")
    match chain:
        case [_]:
            admission = _owner(id, statement)
        case [_, membership]:
            admission = _member(Membership.read(membership), id, statement)
        case [_, ticket, card]:
            admission = _newcomer(Ticket.read(ticket), card, id, statement)
        case _:
            raise RemoteProtocolError(f"a chain of {len(chain)} links")
    if admission.until is not None and now >= admission.until:
        what = "invite" if admission.ticket is not None else "membership"
        ended = datetime.fromtimestamp(min(admission.until, _LAST_S), UTC)
        raise _refusal(f"The {what} ended on {ended:%Y-%m-%d}. Ask for a new invite.")
    if revoked is not None:
        _check_revoked(admission, revoked, statement)
    return admission


def newest_statement(
    chain: Sequence[str], mesh: PeerId, known: Statement | None = None
) -> Statement:
    """`known`, or the chain's own when that is newer: then keep it.

    Raises as `admit` does when the chain is not of this mesh.
    """
    if known is not None and known.mesh != mesh:
        raise LocalProtocolError("The statement kept is of another mesh.")
    if not chain:
        raise RemoteProtocolError("an empty chain")
    statement = Statement.read(chain[0])
    if statement.mesh != mesh:
        raise _refusal("That is a chain of another mesh.")
    if known is not None and known.version >= statement.version:
        return known
    return statement


def _owner(id: PeerId, statement: Statement) -> Admission:
    owner = statement.owner(id)
    if owner is None:
        raise _refusal(f"{short(id)} is no owner of this mesh.")
    return Admission(
        mesh=statement.mesh,
        id=id,
        name=owner.name,
        role=Role.OWNER,
        caps=Caps(),
        until=None,
        ticket=None,
        issuer=statement.mesh,
    )


def _member(membership: Membership, id: PeerId, statement: Statement) -> Admission:
    _check_issued(membership, statement)
    if membership.id != id:
        raise _refusal("That membership is another node's.")
    return Admission(
        mesh=statement.mesh,
        id=id,
        name=membership.name,
        role=membership.role,
        caps=membership.caps,
        until=membership.until,
        ticket=None,
        issuer=membership.issuer,
    )


def _newcomer(
    ticket: Ticket, card_token: str, id: PeerId, statement: Statement
) -> Admission:
    """A guest, whatever the ticket promises, until its issuer has seen the card."""
    _check_issued(ticket, statement)
    card = Card.read(card_token, ticket.seed)
    if card.mesh != ticket.mesh or card.ticket != ticket.id:
        raise _refusal("The card belongs to another ticket.")
    if card.id != id:
        raise _refusal("The card names another node.")
    return Admission(
        mesh=statement.mesh,
        id=id,
        name=ticket.name,
        role=Role.GUEST,
        caps=ticket.caps,
        until=ticket.until,
        ticket=ticket.id,
        issuer=ticket.issuer,
    )


def _check_issued(grant: Membership | Ticket, statement: Statement) -> None:
    if grant.mesh != statement.mesh:
        raise _refusal("That was issued for another mesh.")
    if statement.owner(grant.issuer) is None:
        raise _refusal(f"{short(grant.issuer)}, who issued that, is no owner here.")


def _check_revoked(
    admission: Admission, revoked: Revocations, statement: Statement
) -> None:
    if revoked.binds(admission.id, statement):
        raise NotAllowed(
            f"{admission.name} ({short(admission.id)}) was revoked by an owner.",
            Code.REVOKED,
        )
    # Else whoever stole an owner's key would let himself in again under a new one.
    # The root is not an id that an owner can revoke.
    if admission.issuer != admission.mesh and revoked.binds(
        admission.issuer, statement
    ):
        raise NotAllowed(
            f"{short(admission.issuer)}, who let {admission.name} in, was revoked.",
            Code.REVOKED,
        )


def _refusal(reason: str) -> NotAllowed:
    return NotAllowed(reason, Code.AUTH)
