"""Pure: the root's statement: who owns the mesh (docs/protocol.md §2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from meshllm.trust.fields import NAME, PEER, TIME, Form, listed, nested, whole
from meshllm.trust.keys import PeerId
from meshllm.trust.signed import named, read, sign

OWNERS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Owner:
    id: PeerId
    name: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Signed by the root key; `mesh` is that key's id. A higher `version` replaces it.

    `ts` in seconds since 1970, as every time in this room.
    """

    mesh: PeerId
    version: int
    owners: tuple[Owner, ...]
    ts: int

    def sign(self, root: SigningKey) -> str:
        return sign("statement", _FORM.write(self), root)

    @classmethod
    def read(cls, token: str) -> Statement:
        """TrustError or RemoteProtocolError when it does not hold."""
        return _FORM.read(read("statement", token, named("mesh")))

    def owner(self, id: PeerId) -> Owner | None:
        return next((owner for owner in self.owners if owner.id == id), None)


_OWNER = Form(Owner, {"id": PEER, "name": NAME})
_FORM = Form(
    Statement,
    {
        "mesh": PEER,
        "version": whole(1),
        "owners": listed(nested(_OWNER), OWNERS_MAX, least=1),
        "ts": TIME,
    },
)
