"""Pure: what the hub keeps, so that nobody needs to be online at the same moment.

Every method checks all it has to before it changes anything, raises MeshError, and
returns what is to be stored and sent. Row kinds:

mesh      the newest statement              revoked   the newest revocations
ticket    a sealed ticket, by link id       grant     a membership, by its node
card      "ID" or, until a membership comes, "ID ISSUER STATEMENT TICKET CARD", by
          ticket: the node that it is bound to
conflict  the same for the first other node that used the ticket: proof of theft
setup     the token of the one-time link
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from enum import StrEnum

from meshllm.errors import Code, NotAllowed, RemoteProtocolError
from meshllm.protocol import signals
from meshllm.trust.admission import Admission, admit, supersedes
from meshllm.trust.grants import Membership, Revocations, Statement
from meshllm.trust.keys import PeerId, b64encode
from signaling.effects import Effect, Row, Save, Send
from signaling.limits import Limits
from signaling.meshes import Mesh
from signaling.shelf import Shelf

USED = "This invite was already used by another node. Ask for a new one."


class Admit(StrEnum):
    """Who may register a mesh: by the one-time link, anyone, nobody new."""

    SETUP = "setup"
    OPEN = "open"
    CLOSED = "closed"


class Kept:
    def __init__(self, policy: Admit, limits: Limits, rows: Iterable[Row]) -> None:
        self.policy = policy
        self.meshes: dict[PeerId, Mesh] = {}
        self._changed: list[Mesh] = []
        self._limits = limits
        self._shelf = Shelf(limits, rows)
        self._ticket_mesh = {row.key: row.mesh for row in self._shelf.all("ticket")}
        for row in self._shelf.all("mesh"):
            statement = Statement.read(row.value)
            self.meshes[statement.mesh] = Mesh(row.value, statement)
        for row in self._shelf.all("revoked"):
            mesh = self.meshes[PeerId(row.mesh)]
            mesh.revocations_token = row.value
            mesh.revocations = Revocations.read(row.value)

    @property
    def setup_token(self) -> str | None:
        """base64url; None when there is none, or it was used."""
        row = self._shelf.get("setup", "")
        return row.value if row else None

    def offer_setup(self, token: bytes) -> list[Effect]:
        return [self._shelf.put(Row("setup", "", "", b64encode(token), None))]

    def take_changed(self) -> list[Mesh]:
        """Meshes whose members have to be checked again."""
        changed, self._changed = self._changed, []
        return changed

    def sweep(self, now: float) -> list[Effect]:
        self._changed = list(self.meshes.values())  # memberships end with time
        gone = self._shelf.drop_ended(now)
        for forget in gone:
            if forget.kind == "ticket":
                del self._ticket_mesh[forget.key]
        return list(gone)

    # Meshes

    def mesh_of(self, chain: Sequence[str]) -> Mesh:
        """The mesh that a chain is said to be of; only its statement is verified."""
        if not chain:
            raise RemoteProtocolError("A chain was expected.")
        mesh = self.meshes.get(Statement.read(chain[0]).mesh)
        if mesh is None:
            raise NotAllowed(
                "This signaling server does not know your mesh. Its owner registers it"
                " with `meshllm init LINK`.",
                Code.AUTH,
            )
        return mesh

    def admit(
        self, mesh: Mesh, chain: Sequence[str], id: PeerId, now: float
    ) -> Admission:
        """What the chain makes of `id`, by the newest statement and revocations."""
        return admit(
            chain,
            id=id,
            mesh=mesh.id,
            now=int(now),
            known=mesh.statement,
            revoked=mesh.revocations,
        )

    def learn(self, mesh: Mesh, token: str) -> list[Effect]:
        """A chain's statement may be newer than the one we have."""
        statement = Statement.read(token)
        if statement.version <= mesh.statement.version:
            return []
        return self._restate(mesh, token, statement)

    def register(self, sender: PeerId, setup: bytes | None, token: str) -> list[Effect]:
        """A new mesh, or a newer statement of a known one: that one needs no link,
        because the root's signature says enough."""
        statement = Statement.read(token)
        mesh = self.meshes.get(statement.mesh)
        if mesh is not None:
            return self._restate(mesh, token, statement)
        used = self._admits(sender, statement, setup)
        self.meshes[statement.mesh] = Mesh(token, statement)
        row = Row("mesh", statement.mesh, "", token, None)
        return [*used, self._shelf.put(row, always=True)]

    def _admits(
        self, sender: PeerId, statement: Statement, setup: bytes | None
    ) -> list[Effect]:
        """Whether a new mesh may be registered; uses up the one-time link."""
        if statement.owner(sender) is None:
            raise NotAllowed("Only an owner of a mesh can register it.")
        if len(self.meshes) >= self._limits.meshes:
            raise NotAllowed("The signaling server is full.", Code.QUOTA)
        if self.policy is Admit.OPEN:
            return []
        if self.policy is Admit.CLOSED:
            raise NotAllowed("This signaling server takes no new meshes.")
        token = self.setup_token
        if (
            setup is None
            or token is None
            or not hmac.compare_digest(b64encode(setup), token)
        ):
            raise NotAllowed(
                "This signaling server takes a new mesh only by its one-time setup"
                " link, which is missing here, wrong, or was used."
            )
        return list(self._shelf.drop("setup", ""))

    def _restate(self, mesh: Mesh, token: str, statement: Statement) -> list[Effect]:
        """A statement of a known mesh; the same again is no error."""
        if token == mesh.statement_token:
            return []
        if statement.version <= mesh.statement.version:
            raise NotAllowed(
                "The signaling server already has a newer statement of this mesh"
                f" (version {mesh.statement.version})."
            )
        mesh.statement_token, mesh.statement = token, statement
        self._changed.append(mesh)
        row = Row("mesh", mesh.id, "", token, None)
        return [
            self._shelf.put(row, always=True),
            *mesh.tell(signals.NewStatement(token)),
        ]

    def revoke(self, mesh: Mesh, token: str) -> list[Effect]:
        if token == mesh.revocations_token:
            return []
        revocations = Revocations.read(token)
        if not supersedes(revocations, mesh.revocations, mesh.statement):
            raise NotAllowed(
                "These revocations are by no owner of this mesh, or no newer than those"
                " that the signaling server has."
            )
        mesh.revocations_token, mesh.revocations = token, revocations
        self._changed.append(mesh)
        row = Row("revoked", mesh.id, "", token, None)
        effects: list[Effect] = [self._shelf.put(row, always=True)]
        for entry in revocations.revoked:
            effects += self._shelf.drop("grant", mesh.id, entry.id)
        return [*effects, *mesh.tell(signals.Revoked(token))]

    # Tickets

    def put_ticket(
        self, mesh: Mesh, id: bytes, sealed: str, until: int, now: float
    ) -> list[Effect]:
        if until <= now:
            raise NotAllowed("That ticket has already ended.")
        key = b64encode(id)
        if key in self._ticket_mesh:
            raise NotAllowed("There is a ticket by that id already; make another id.")
        effects: list[Effect] = [
            self._shelf.put(Row("ticket", mesh.id, key, sealed, until))
        ]
        self._ticket_mesh[key] = mesh.id
        return effects

    def get_ticket(self, id: bytes, now: float) -> str:
        key = b64encode(id)
        row = self._shelf.get("ticket", self._ticket_mesh.get(key, ""), key)
        if row is None or (row.until is not None and row.until <= now):
            raise NotAllowed(
                "This invite has ended, or never was. Ask for a new one.", Code.GONE
            )
        return row.value

    # Cards and memberships

    def take_card(
        self, mesh: Mesh, admission: Admission, chain: Sequence[str]
    ) -> tuple[list[Effect], bool]:
        """Binds the ticket of a verified provisional chain to its node, and passes the
        card to the issuer. False when the ticket is another node's already: then the
        effects only tell the issuer, and the node is to be refused."""
        if admission.ticket is None:
            raise RemoteProtocolError("A card comes as [statement, ticket, card].")
        key = b64encode(admission.ticket)
        value = " ".join((admission.id, admission.issuer, *chain))
        old = self._shelf.get("card", mesh.id, key)
        if old is None:
            row = Row("card", mesh.id, key, value, admission.until)
            effects: list[Effect] = [self._shelf.put(row)]
            card = signals.CardLeft(tuple(chain), conflict=False)
            return effects + mesh.tell_node(admission.issuer, card), True
        if old.value.split(" ")[0] == admission.id:
            return [], True
        effects = []
        if self._shelf.get("conflict", mesh.id, key) is None:
            row = Row("conflict", mesh.id, key, value, old.until)
            effects.append(self._shelf.put(row, always=True))
        card = signals.CardLeft(tuple(chain), conflict=True)
        return effects + mesh.tell_node(admission.issuer, card), False

    def grant(self, mesh: Mesh, token: str, now: float) -> list[Effect]:
        """Keeps a membership for its node and ends the wait of its card."""
        membership = Membership.read(token)
        self.admit(mesh, (mesh.statement_token, token), membership.id, now)
        row = Row("grant", mesh.id, membership.id, token, membership.until)
        effects: list[Effect] = [self._shelf.put(row)]
        if membership.ticket is not None:
            effects.append(self._settle(mesh, membership.ticket, membership))
        granted = signals.Granted(token, mesh.statement_token)
        return effects + mesh.tell_node(membership.id, granted)

    def _settle(self, mesh: Mesh, ticket: bytes, membership: Membership) -> Save:
        """The issuer has decided whose the ticket is, maybe without us (on a LAN)."""
        key = b64encode(ticket)
        old = self._shelf.get("card", mesh.id, key)
        until = old.until if old else membership.until
        row = Row("card", mesh.id, key, membership.id, until)
        return self._shelf.put(row, always=True)

    def waiting(
        self, mesh: Mesh, id: PeerId, link: int, chain: Sequence[str]
    ) -> list[Effect]:
        """What a node that just logged in on `link` has to be told."""
        effects: list[Effect] = []
        grant = self._shelf.get("grant", mesh.id, id)
        if grant is not None and grant.value in chain:
            effects += self._shelf.drop("grant", mesh.id, id)
        elif grant is not None:
            granted = signals.Granted(grant.value, mesh.statement_token)
            effects.append(Send(link, granted))
        if mesh.statement.owner(id) is not None:
            effects += self._cards_for(mesh, id, link)
        return effects

    def _cards_for(self, mesh: Mesh, issuer: PeerId, link: int) -> list[Effect]:
        cards: list[Effect] = []
        for kind in ("card", "conflict"):
            for row in self._shelf.of(kind, mesh.id):
                _, *waits = row.value.split(" ")
                if waits and waits[0] == issuer:
                    message = signals.CardLeft(tuple(waits[1:]), kind == "conflict")
                    cards.append(Send(link, message))
        return cards
