"""Pure: who is in the mesh no more (docs/protocol.md §2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from meshllm.errors import Code, NotAllowed
from meshllm.trust.fields import PEER, TIME, Form, listed, nested, whole
from meshllm.trust.keys import PeerId, short
from meshllm.trust.signed import named, read, sign
from meshllm.trust.statement import Statement

REVOKED_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Revoked:
    """`ts` is when the id was revoked."""

    id: PeerId
    ts: int


@dataclass(frozen=True, slots=True)
class Revocations:
    """The whole list, signed by an owner. A higher `version` replaces it."""

    mesh: PeerId
    issuer: PeerId
    version: int
    revoked: tuple[Revoked, ...]
    ts: int

    def sign(self, issuer: SigningKey) -> str:
        return sign("revocations", _FORM.write(self), issuer)

    @classmethod
    def read(cls, token: str) -> Revocations:
        """TrustError or RemoteProtocolError when its issuer did not sign it.

        Whether that is an owner is for `supersedes`.
        """
        return _FORM.read(read("revocations", token, named("issuer")))

    def __contains__(self, id: PeerId) -> bool:
        return any(entry.id == id for entry in self.revoked)

    def binds(self, id: PeerId, statement: Statement) -> bool:
        """Whether this list refuses `id`, by the newest statement.

        An owner who was removed may have revoked the other owners on the way out; that
        must not keep them from signing the next list. Anybody else stays revoked.
        """
        if id not in self:
            return False
        issuer_owns = statement.owner(self.issuer) is not None
        return issuer_owns or statement.owner(id) is None

    def supersedes(self, kept: Revocations | None, statement: Statement) -> bool:
        """Whether this list takes the place of `kept`, by the newest statement.

        NotAllowed when it is another mesh's, or its issuer is no owner. A list whose
        issuer is no owner any more yields to any version: he may have used up the
        numbers.
        """
        if self.mesh != statement.mesh:
            raise NotAllowed("These revocations are of another mesh.", Code.AUTH)
        if statement.owner(self.issuer) is None:
            raise NotAllowed(
                f"{short(self.issuer)}, who signed these revocations, is no owner of"
                " this mesh.",
                Code.AUTH,
            )
        if kept is None or statement.owner(kept.issuer) is None:
            return True
        return self.version > kept.version


_REVOKED = Form(Revoked, {"id": PEER, "ts": TIME})
_FORM = Form(
    Revocations,
    {
        "mesh": PEER,
        "issuer": PEER,
        "version": whole(1),
        "revoked": listed(nested(_REVOKED), REVOKED_MAX),
        "ts": TIME,
    },
)
