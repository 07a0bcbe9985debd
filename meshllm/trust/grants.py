"""What is signed about people: statement, ticket, card, membership, revocations.

One frozen dataclass a kind, with `sign` and `read`; the fields are those of
docs/protocol.md §2. `read` verifies the signature and the form, not the rights: whether
a signer may say so is `admission`'s to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from nacl.signing import SigningKey

from meshllm.errors import RemoteProtocolError
from meshllm.trust import signed
from meshllm.trust.keys import PeerId, b64encode, public_key, read_peer_id
from meshllm.trust.strict import (
    b64,
    integer,
    listed,
    name,
    nested,
    nullable,
    take,
    text,
)

OWNERS_MAX = 16
REVOKED_MAX = 400
CAP_MODELS_MAX = 64
MODEL_NAME_MAX = 256


class Role(Enum):
    """Owner: everything. Member: share and use. Guest: use."""

    OWNER = "owner"
    MEMBER = "member"
    GUEST = "guest"


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of a grant; None is no limit of its own."""

    models: tuple[str, ...] | None = None
    parallel: int | None = None
    tokens_per_day: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "models": None if self.models is None else list(self.models),
            "parallel": self.parallel,
            "tokens_per_day": self.tokens_per_day,
            "invite": None,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        read = take(
            fields,
            {
                "models": nullable(listed(text(MODEL_NAME_MAX, 1), CAP_MODELS_MAX)),
                "parallel": nullable(integer(1, 1_000)),
                "tokens_per_day": nullable(integer(1)),
                "invite": _nothing,
            },
        )
        return cls(read["models"], read["parallel"], read["tokens_per_day"])


@dataclass(frozen=True, slots=True)
class Owner:
    id: PeerId
    name: str

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(**take(fields, {"id": read_peer_id, "name": name}))


@dataclass(frozen=True, slots=True)
class Statement:
    """Who the owners of a mesh are, signed by its root key."""

    mesh: PeerId
    version: int
    owners: tuple[Owner, ...]
    ts: int

    def sign(self, root: SigningKey) -> str:
        owners = [{"id": owner.id, "name": owner.name} for owner in self.owners]
        body = {"mesh": self.mesh, "version": self.version, "owners": owners}
        return signed.sign("statement", body | {"ts": self.ts}, root)

    @classmethod
    def read(cls, token: str, mesh: PeerId | None = None) -> Self:
        """Signed by the root it names; TrustError when that is not `mesh`."""
        if mesh is None:
            fields = signed.read_naming("statement", token, "mesh")
        else:
            fields = signed.read("statement", token, public_key(mesh))
        read = take(
            fields,
            {
                "mesh": read_peer_id,
                "version": integer(1),
                "owners": _owners,
                "ts": integer(),
            },
        )
        if mesh is not None and read["mesh"] != mesh:
            raise RemoteProtocolError("a statement about another mesh")
        return cls(**read)

    def owner(self, id: PeerId) -> Owner | None:
        return next((owner for owner in self.owners if owner.id == id), None)


@dataclass(frozen=True, slots=True)
class Ticket:
    """Admits whoever holds its one-time seed; signed by an owner."""

    mesh: PeerId
    issuer: PeerId
    id: bytes
    seed: bytes
    name: str
    role: Role
    caps: Caps
    until: int
    ts: int

    def sign(self, issuer: SigningKey) -> str:
        body = {
            "mesh": self.mesh,
            "issuer": self.issuer,
            "id": b64encode(self.id),
            "seed": b64encode(self.seed),
            "name": self.name,
            "role": self.role.value,
            "caps": self.caps.to_json(),
            "until": self.until,
            "ts": self.ts,
        }
        return signed.sign("ticket", body, issuer)

    @classmethod
    def read(cls, token: str) -> Self:
        fields = signed.read_naming("ticket", token, "issuer")
        return cls(
            **take(
                fields,
                {
                    "mesh": read_peer_id,
                    "issuer": read_peer_id,
                    "id": b64(16),
                    "seed": b64(32),
                    "name": name,
                    "role": _granted_role,
                    "caps": nested(Caps.from_json),
                    "until": integer(),
                    "ts": integer(),
                },
            )
        )


@dataclass(frozen=True, slots=True)
class Card:
    """A ticket's bearer names itself; signed by the ticket's seed."""

    mesh: PeerId
    ticket: bytes
    id: PeerId
    ts: int

    def sign(self, seed: SigningKey) -> str:
        body = {"mesh": self.mesh, "ticket": b64encode(self.ticket), "id": self.id}
        return signed.sign("card", body | {"ts": self.ts}, seed)

    @classmethod
    def read(cls, token: str, seed: bytes) -> Self:
        """`seed`: the public key of the ticket it belongs to."""
        return cls(
            **take(
                signed.read("card", token, seed),
                {
                    "mesh": read_peer_id,
                    "ticket": b64(16),
                    "id": read_peer_id,
                    "ts": integer(),
                },
            )
        )


@dataclass(frozen=True, slots=True)
class Membership:
    """A node's lasting place in a mesh; signed by an owner."""

    mesh: PeerId
    issuer: PeerId
    id: PeerId
    name: str
    role: Role
    caps: Caps
    ticket: bytes | None
    until: int
    ts: int

    def sign(self, issuer: SigningKey) -> str:
        body = {
            "mesh": self.mesh,
            "issuer": self.issuer,
            "id": self.id,
            "name": self.name,
            "role": self.role.value,
            "caps": self.caps.to_json(),
            "ticket": None if self.ticket is None else b64encode(self.ticket),
            "until": self.until,
            "ts": self.ts,
        }
        return signed.sign("membership", body, issuer)

    @classmethod
    def read(cls, token: str) -> Self:
        fields = signed.read_naming("membership", token, "issuer")
        return cls(
            **take(
                fields,
                {
                    "mesh": read_peer_id,
                    "issuer": read_peer_id,
                    "id": read_peer_id,
                    "name": name,
                    "role": _role,
                    "caps": nested(Caps.from_json),
                    "ticket": nullable(b64(16)),
                    "until": integer(),
                    "ts": integer(),
                },
            )
        )


@dataclass(frozen=True, slots=True)
class Revoked:
    id: PeerId
    ts: int

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(**take(fields, {"id": read_peer_id, "ts": integer()}))


@dataclass(frozen=True, slots=True)
class Revocations:
    """Everyone who is out, in one list whose version only grows; by an owner."""

    mesh: PeerId
    issuer: PeerId
    version: int
    revoked: tuple[Revoked, ...]
    ts: int

    def sign(self, issuer: SigningKey) -> str:
        body = {
            "mesh": self.mesh,
            "issuer": self.issuer,
            "version": self.version,
            "revoked": [{"id": entry.id, "ts": entry.ts} for entry in self.revoked],
            "ts": self.ts,
        }
        return signed.sign("revocations", body, issuer)

    @classmethod
    def read(cls, token: str) -> Self:
        fields = signed.read_naming("revocations", token, "issuer")
        return cls(
            **take(
                fields,
                {
                    "mesh": read_peer_id,
                    "issuer": read_peer_id,
                    "version": integer(1),
                    "revoked": listed(nested(Revoked.from_json), REVOKED_MAX),
                    "ts": integer(),
                },
            )
        )

    def covers(self, id: PeerId) -> bool:
        return any(entry.id == id for entry in self.revoked)


def _owners(value: Any) -> tuple[Owner, ...]:
    owners: tuple[Owner, ...] = listed(nested(Owner.from_json), OWNERS_MAX, 1)(value)
    if len({owner.id for owner in owners}) != len(owners):
        raise RemoteProtocolError("an owner who is listed twice")
    return owners


def _role(value: Any) -> Role:
    try:
        return Role(value)
    except ValueError:
        raise RemoteProtocolError("a role: owner, member or guest") from None


def _granted_role(value: Any) -> Role:
    role = _role(value)
    if role is Role.OWNER:
        raise RemoteProtocolError("a ticket makes nobody an owner")
    return role


def _nothing(value: Any) -> None:
    if value is not None:
        raise RemoteProtocolError("null expected in this version")
