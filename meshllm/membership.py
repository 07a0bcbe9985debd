"""What a node knows of its mesh: the files `mesh.json` and `meshllm.db` of one home.

Several processes of one home share them: what one learns is written at once, and read
again when the file has changed. Statements and revocations are never lowered.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from nacl.signing import SigningKey

from meshllm.errors import Code, ConfigError, MeshError, NotAllowed
from meshllm.identity import Identity, RootKey
from meshllm.store import open_store
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
from meshllm.trust.keys import PeerId, b64encode
from meshllm.trust.link import Invitation

MESH_FILE = "mesh.json"
DATABASE = "meshllm.db"
MEMBERSHIP_S = 5 * 365 * 86_400  # revocation ends one sooner; an end at all is hygiene
TABLES = (
    """
    CREATE TABLE seen (ticket TEXT PRIMARY KEY, node TEXT NOT NULL, ts INT NOT NULL);
    CREATE TABLE issued (ticket TEXT PRIMARY KEY, node TEXT NOT NULL,
                         membership TEXT NOT NULL, ts INT NOT NULL);
    CREATE TABLE invited (ticket TEXT PRIMARY KEY, name TEXT NOT NULL,
                          role TEXT NOT NULL, until INT NOT NULL, ts INT NOT NULL);
    CREATE TABLE conflict (ticket TEXT NOT NULL, node TEXT NOT NULL, ts INT NOT NULL,
                           PRIMARY KEY (ticket, node))
    """,
)


@dataclass(frozen=True, slots=True)
class Known:
    """mesh.json: strings as they were signed. `hub_key` pins the signaling server."""

    mesh: PeerId
    id: PeerId
    hub: str | None
    hub_key: PeerId | None
    chain: tuple[str, ...]
    statement: str
    revocations: str | None


class Membership:
    """One node's place in one mesh."""

    def __init__(self, home: Path, known: Known) -> None:
        self._home = home
        self._known = known
        self._stamp = _stamp(home)
        self._statement = Statement.read(known.statement, known.mesh)
        self._revocations = (
            Revocations.read(known.revocations) if known.revocations else None
        )
        self._db = open_store(home / DATABASE, "membership", TABLES)

    # Coming and going

    @classmethod
    def load(cls, home: Path) -> Self | None:
        """None: this node is in no mesh. ConfigError: the file is damaged."""
        path = home / MESH_FILE
        try:
            fields = json.loads(path.read_bytes())
            fields["chain"] = tuple(fields["chain"])
            return cls(home, Known(**fields))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, LookupError, MeshError) as error:
            raise ConfigError(
                f"{path} is damaged. Put back a copy, or `meshllm leave` and join again."
            ) from error

    @classmethod
    def found(
        cls, home: Path, identity: Identity, root: RootKey, name: str, now: int
    ) -> Self:
        """Make a mesh whose first owner is this node."""
        refuse_second(home)
        owners = (Owner(identity.id, name),)
        statement = Statement(root.id, 1, owners, now).sign(root.signing)
        return cls._begin(
            home, Known(root.id, identity.id, None, None, (statement,), statement, None)
        )

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
        return cls._begin(
            home,
            Known(
                ticket.mesh,
                identity.id,
                hub,
                invitation.server,
                chain,
                invitation.statement,
                None,
            ),
        )

    def leave(self) -> None:
        """Forget the mesh. The node's own keys stay, and so does a root key."""
        self.close()
        for name in (MESH_FILE, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
            (self._home / name).unlink(missing_ok=True)

    def attach(self, hub: str, hub_key: PeerId) -> None:
        """This mesh is registered with a signaling server now."""
        self._write(replace(self._known, hub=hub, hub_key=hub_key))

    def close(self) -> None:
        self._db.close()

    # What is known

    @property
    def mesh(self) -> PeerId:
        return self._known.mesh

    @property
    def hub(self) -> str | None:
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
        return self._known.statement

    def admission(self, now: int) -> Admission:
        """Our own place. NotAllowed when it has ended."""
        return self._admit(self.chain, self._known.id, now)

    @property
    def is_provisional(self) -> bool:
        return len(self.chain) == 3

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
        """Raises when an admission no longer holds; cheap enough for every request."""
        self._refresh()
        recheck(
            admission, now=now, statement=self._statement, revoked=self._revocations
        )

    def bind(self, ticket: bytes, id: PeerId, now: int) -> bool:
        """Durably, before anyone is answered: this ticket is this node's."""
        key = b64encode(ticket)
        self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, id, now))
        row = self._db.execute(
            "SELECT node FROM seen WHERE ticket = ?", (key,)
        ).fetchone()
        if row[0] != id:
            self._note_conflict(key, id, now)
        return bool(row[0] == id)

    def newer_statement(self, token: str) -> None:
        """Keep it when it is newer than ours. TrustError: it is of another mesh."""
        statement = Statement.read(token, self.mesh)
        if newest(statement, self._statement) is statement:
            self._statement = statement
            self._write(replace(self._known, statement=token))

    def newer_revocations(self, token: str) -> None:
        """Keep it when it is by an owner, and newer than ours."""
        revocations = Revocations.read(token)
        if supersedes(revocations, self._revocations, self._statement):
            self._revocations = revocations
            self._write(replace(self._known, revocations=token))

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
        """A ticket and its one-time seed. NotAllowed unless this node is an owner."""
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
        row = (b64encode(ticket.id), name, role.value, until, now)
        self._db.execute("INSERT INTO invited VALUES (?, ?, ?, ?, ?)", row)
        token = ticket.sign(identity.signing)
        return Invitation(self.hub_key, self._known.statement, token, seed.encode())

    def issue(self, identity: Identity, chain: Sequence[str], now: int) -> str:
        """The membership for a provisional card of ours: always the same one.

        NotAllowed when it is not ours to issue, or another node has the ticket.
        """
        id = (
            Card.read(chain[-1], Ticket.read(chain[1]).seed).id
            if len(chain) == 3
            else ""
        )
        admission = self.decide(chain, PeerId(id), now)
        if admission.ticket is None or admission.issuer != identity.id:
            raise NotAllowed("This card is not for us to answer.", Code.AUTH)
        ticket = Ticket.read(chain[1])
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
        key = b64encode(ticket.id)
        self._db.execute(
            "INSERT OR IGNORE INTO issued VALUES (?, ?, ?, ?)",
            (key, admission.id, grant.sign(identity.signing), now),
        )
        row = self._db.execute(
            "SELECT membership FROM issued WHERE ticket = ?", (key,)
        ).fetchone()
        return str(row[0])

    def accept(self, token: str, statement: str, now: int) -> None:
        """Our membership has come: it replaces the card. NotAllowed when not for us."""
        self.newer_statement(statement)
        self._admit((statement, token), self._known.id, now)
        self._write(replace(self._known, chain=(statement, token)))

    # Inside

    @classmethod
    def _begin(cls, home: Path, known: Known) -> Self:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(
                home / MESH_FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600
            )
        except FileExistsError:
            refuse_second(home)
            raise
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(_fields(known), file, indent=1)
        return cls(home, known)

    def _admit(self, chain: Sequence[str], id: PeerId, now: int) -> Admission:
        return admit(
            chain,
            id=id,
            mesh=self.mesh,
            now=now,
            known=self._statement,
            revoked=self._revocations,
        )

    def _note_conflict(self, ticket: str, id: PeerId, now: int) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO conflict VALUES (?, ?, ?)", (ticket, id, now)
        )

    def _write(self, known: Known) -> None:
        self._known = known
        path = self._home / MESH_FILE
        draft = path.with_name(f".{MESH_FILE}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(_fields(known), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._stamp = _stamp(self._home)

    def _refresh(self) -> None:
        """Another process of this home may know more."""
        if _stamp(self._home) == self._stamp:
            return
        other = type(self).load(self._home)
        if other is None:
            raise ConfigError("This node has left the mesh (`meshllm leave`).")
        other.close()
        self._known, self._stamp = other._known, other._stamp
        self._statement, self._revocations = other._statement, other._revocations


def refuse_second(home: Path) -> None:
    """One mesh a home."""
    if (home / MESH_FILE).exists():
        raise ConfigError(
            "This node is in a mesh already. `meshllm leave` first, or use another "
            "home for a second one: `--home DIR`."
        )


def _stamp(home: Path) -> tuple[int, int]:
    try:
        found = (home / MESH_FILE).stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _fields(known: Known) -> dict[str, Any]:
    return {name: getattr(known, name) for name in Known.__slots__}
