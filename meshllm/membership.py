"""What a node knows of its mesh: the files `mesh.json` and `meshllm.db` of one home.

Several processes of one home share them: what one learns is written at once, and read
again when the file has changed. Statements and revocations are never lowered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from nacl.signing import SigningKey

from meshllm.errors import Code, ConfigError, NotAllowed, ProtocolError
from meshllm.identity import Identity, RootKey
from meshllm.meshfile import MESH_FILE, NEVER, Known, Stamp, dump, read, stamp
from meshllm.store import write_new, write_over
from meshllm.tickets import Tickets
from meshllm.trust.admission import Admission, admit, newest, recheck, supersedes
from meshllm.trust.grants import (
    Caps,
    Card,
    Owner,
    Revocations,
    Role,
    Statement,
    Ticket,
)
from meshllm.trust.grants import (
    Membership as Grant,
)
from meshllm.trust.keys import PeerId
from meshllm.trust.link import Invitation

NO_MESH = "This node is in no mesh. `meshllm join LINK`, or `meshllm init` to make one."
MEMBERSHIP_S = 5 * 365 * 86_400  # revocation ends one sooner; an end at all is hygiene
CARD_CHARS = 360  # of a card's signed form
CHAIN_CHARS_MAX = 6_000  # an offer has 12,288 bytes for chain and candidates


class Membership:
    """One node's place in one mesh. ConfigError, from everything that asks anew: its
    files cannot be used, or another process has left the mesh."""

    def __init__(self, home: Path, known: Known, seen: Stamp) -> None:
        self._home = home
        self._take(known, seen)
        self._tickets = Tickets(home)
        self._refreshed_at = 0  # by the clock that `recheck` is given

    # Coming and going

    @classmethod
    def load(cls, home: Path) -> Self | None:
        """None: this node is in no mesh. ConfigError: the files are damaged."""
        seen = stamp(home)
        known = read(home)
        return None if known is None else cls(home, known, seen)

    @classmethod
    def found(
        cls, home: Path, identity: Identity, root: RootKey, name: str, now: int
    ) -> Self:
        """Make a mesh whose first owner is this node."""
        refuse_second(home)
        owners = (Owner(identity.id, name),)
        try:
            statement = Statement(root.id, 1, owners, now).sign(root.signing)
            Statement.read(statement, root.id)
        except ProtocolError as error:
            raise ConfigError(f"This mesh cannot be made: {error}.") from error
        known = Known(root.id, identity.id, None, None, (statement,), statement, None)
        return cls._begin(home, known)

    @classmethod
    def join(
        cls,
        home: Path,
        identity: Identity,
        invitation: Invitation,
        hub: str | None,
        now: int,
    ) -> Self:
        """Use an invitation: from now on this node has its provisional card.

        NotAllowed: expired. TrustError: it does not hold.
        """
        refuse_second(home)
        ticket = Ticket.read(invitation.ticket)
        seed = SigningKey(invitation.seed)
        card = Card(ticket.mesh, ticket.id, identity.id, now).sign(seed)
        chain = (invitation.statement, invitation.ticket, card)
        admit(chain, id=identity.id, mesh=ticket.mesh, now=now)
        known = Known(
            ticket.mesh,
            identity.id,
            hub,
            invitation.server,
            chain,
            invitation.statement,
            None,
        )
        return cls._begin(home, known)

    @classmethod
    def enter(
        cls,
        home: Path,
        identity: Identity,
        statement: str,
        token: str,
        *,
        hub: str | None,
        hub_key: PeerId | None,
        now: int,
    ) -> Self:
        """Begin with a membership that is issued already, as pairing does.

        NotAllowed: it is not for this node, or has ended. TrustError: it does not hold.
        """
        refuse_second(home)
        mesh = Statement.read(statement).mesh
        chain = (statement, token)
        admit(chain, id=identity.id, mesh=mesh, now=now)
        known = Known(mesh, identity.id, hub, hub_key, chain, statement, None)
        return cls._begin(home, known)

    def leave(self) -> None:
        """Forget the mesh. The node's own keys stay, and so does a root key."""
        with self._tickets.locked():
            (self._home / MESH_FILE).unlink(missing_ok=True)
            self._tickets.forget()
        self.close()

    def attach(self, hub: str, hub_key: PeerId) -> None:
        """This mesh is registered with a signaling server now."""
        self._update(lambda known: replace(known, hub=hub, hub_key=hub_key))

    def close(self) -> None:
        self._tickets.close()

    # What is known

    @property
    def mesh(self) -> PeerId:
        return self._known.mesh

    @property
    def hub(self) -> str | None:
        """None for a mesh that lives on a LAN; it may be attached to one later."""
        self._refresh()
        return self._known.hub

    @property
    def hub_key(self) -> PeerId | None:
        return self._known.hub_key

    @property
    def chain(self) -> tuple[str, ...]:
        """Who we are, for others; another process of this home may have renewed it."""
        self._refresh()
        return self._known.chain

    @property
    def statement(self) -> str:
        """The newest we know."""
        self._refresh()
        return self._known.statement

    @property
    def revocations(self) -> str | None:
        """The newest list we know."""
        self._refresh()
        return self._known.revocations

    def is_owner(self, id: PeerId) -> bool:
        """Whether the newest statement says so."""
        self._refresh()
        return self._statement.owner(id) is not None

    def is_revoked(self, id: PeerId) -> bool:
        """Whether an owner has put this node out of the mesh."""
        self._refresh()
        return self._revocations is not None and self._revocations.covers(id)

    def admission(self, now: int) -> Admission:
        """Our own place. NotAllowed when it has ended."""
        return self._admit(self.chain, self._known.id, now)

    @property
    def is_provisional(self) -> bool:
        return self.promised is not None

    @property
    def promised(self) -> Role | None:
        """What we become when our membership comes; None once it has."""
        chain = self.chain
        return Ticket.read(chain[1]).role if len(chain) == 3 else None

    # Others

    def decide(self, chain: Sequence[str], id: PeerId, now: int) -> Admission:
        """Whether this peer may speak with us: the chain, and one node a ticket."""
        admission = self._admit(chain, id, now)
        if admission.ticket is not None and not self.bind(admission.ticket, id, now):
            raise NotAllowed(
                "This invitation was used by another node. Ask for a new link.",
                Code.AUTH,
            )
        self.newer_statement(chain[0])
        return admission

    def recheck(self, admission: Admission, now: int) -> None:
        """Raises when an admission no longer holds; cheap enough for every request.

        What another process of this home learned counts within a second.
        """
        if now != self._refreshed_at:
            self._refreshed_at = now
            self._refresh()
        recheck(
            admission, now=now, statement=self._statement, revoked=self._revocations
        )

    def bind(self, ticket: bytes, id: PeerId, now: int) -> bool:
        """Durably, before anyone is answered: this ticket is this node's."""
        return self._tickets.bind(ticket, id, now)

    def newer_statement(self, token: str) -> None:
        """Keep it when it is newer than ours; it also introduces our own chain, and
        makes us an owner when it says so. TrustError: it is of another mesh."""
        statement = Statement.read(token, self.mesh)
        if newest(statement, self._statement) is not statement:
            return

        def change(known: Known) -> Known:
            if newest(statement, self._statement) is not statement:
                return known
            is_owner = statement.owner(known.id) is not None
            rest = () if is_owner else known.chain[1:]
            return replace(known, statement=token, chain=(token, *rest))

        self._update(change)

    def newer_revocations(self, token: str) -> None:
        """Keep it when it is by an owner, and newer than ours."""
        new = Revocations.read(token)

        def change(known: Known) -> Known:
            if not supersedes(new, self._revocations, self._statement):
                return known
            return replace(known, revocations=token)

        self._update(change)

    # Owners

    def invite(
        self,
        identity: Identity,
        *,
        name: str,
        role: Role,
        caps: Caps,
        until: int,
        now: int,
    ) -> Invitation:
        """A ticket and its one-time seed. NotAllowed unless this node is an owner;
        ConfigError when nobody could use it."""
        if self.admission(now).role is not Role.OWNER:
            raise NotAllowed(
                "Only an owner of the mesh can invite; ask one for a link."
            )
        seed = SigningKey.generate()
        ticket = Ticket(
            mesh=self.mesh,
            issuer=identity.id,
            id=secrets.token_bytes(16),
            seed=seed.verify_key.encode(),
            name=name,
            role=role,
            caps=caps,
            until=until,
            ts=now,
        )
        statement, token = self._known.statement, _usable(ticket, identity)
        if len(statement) + len(token) + CARD_CHARS > CHAIN_CHARS_MAX:
            raise ConfigError(
                "This invitation would not fit into an offer: name fewer models."
            )
        self._tickets.invited(ticket.id, name, role.value, until, now)
        return Invitation(self.hub_key, statement, token, seed.encode())

    def issue(self, identity: Identity, chain: Sequence[str], now: int) -> str:
        """The membership for a provisional card of ours: always the same one.

        NotAllowed when it is not ours to issue, or another node has the ticket.
        """
        if len(chain) != 3:
            raise NotAllowed("Only a card is answered with a membership.", Code.AUTH)
        ticket = Ticket.read(chain[1])
        if ticket.issuer != identity.id:
            raise NotAllowed("This card is not for us to answer.", Code.AUTH)
        admission = self.decide(chain, Card.read(chain[2], ticket.seed).id, now)
        grant = Grant(
            mesh=self.mesh,
            issuer=identity.id,
            id=admission.id,
            name=ticket.name,
            role=ticket.role,
            caps=ticket.caps,
            ticket=ticket.id,
            until=now + MEMBERSHIP_S,
            ts=now,
        )
        token = grant.sign(identity.signing)
        return self._tickets.issued(ticket.id, admission.id, token, now)

    def accept(self, token: str, statement: str, now: int) -> None:
        """Our membership has come: it replaces the card, or one that is older. Owners
        need none. NotAllowed when it is not for us."""
        self.newer_statement(statement)
        self._admit((statement, token), self._known.id, now)
        grant = Grant.read(token)

        def change(known: Known) -> Known:
            if len(known.chain) == 1:
                return known
            if len(known.chain) == 2 and Grant.read(known.chain[1]).ts > grant.ts:
                return known  # whoever carries them may repeat an old one
            return replace(known, chain=(known.statement, token))

        self._update(change)

    # Inside

    @classmethod
    def _begin(cls, home: Path, known: Known) -> Self:
        begun = cls(home, known, NEVER)  # a damaged database shows before we write
        try:
            write_new(home / MESH_FILE, dump(known))
        except BaseException as error:
            begun.close()
            if isinstance(error, FileExistsError):  # another process was first
                raise ConfigError(SECOND_MESH) from None
            raise
        return begun

    def _admit(self, chain: Sequence[str], id: PeerId, now: int) -> Admission:
        self._refresh()
        return admit(
            chain,
            id=id,
            mesh=self.mesh,
            now=now,
            known=self._statement,
            revoked=self._revocations,
        )

    def _update(self, change: Callable[[Known], Known]) -> None:
        """One process at a time, each from what the others have written."""
        with self._tickets.locked():
            self._refresh()
            known = change(self._known)
            if known != self._known:
                write_over(self._home / MESH_FILE, dump(known))
                self._take(known, stamp(self._home))

    def _refresh(self) -> None:
        """Another process of this home may know more."""
        seen = stamp(self._home)
        if seen == self._stamp:
            return
        known = read(self._home)
        if known is None or (known.mesh, known.id) != (self.mesh, self._known.id):
            raise ConfigError("This node has left the mesh (`meshllm leave`).")
        self._take(known, seen)

    def _take(self, known: Known, seen: Stamp) -> None:
        self._known, self._stamp = known, seen
        self._statement = Statement.read(known.statement, known.mesh)
        self._revocations = (
            Revocations.read(known.revocations) if known.revocations else None
        )


SECOND_MESH = (
    "This node is in a mesh already. `meshllm leave` first, or use another "
    "home for a second one: `--home DIR`."
)


def refuse_second(home: Path) -> None:
    """One mesh a home."""
    if (home / MESH_FILE).exists():
        raise ConfigError(SECOND_MESH)


def _usable(ticket: Ticket, identity: Identity) -> str:
    """The ticket, signed, once it is sure that others will read it."""
    try:
        token = ticket.sign(identity.signing)
        Ticket.read(token)
    except ProtocolError as error:
        raise ConfigError(f"This cannot be granted: {error}.") from error
    return token
