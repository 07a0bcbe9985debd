"""Pure: what an owner grants: role, capabilities, membership (docs/protocol.md §2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nacl.signing import SigningKey

from meshllm.trust.fields import (
    MODEL_NAME,
    NAME,
    NULL,
    PEER,
    TIME,
    Form,
    listed,
    nested,
    one_of,
    or_null,
    raw,
    whole,
)
from meshllm.trust.keys import PeerId
from meshllm.trust.signed import named, read, sign

MODELS_MAX: Final = 64
TICKET_ID_BYTES: Final = 16


class Role(StrEnum):
    """Owner: everything. Member: share and use. Guest: use."""

    OWNER = "owner"
    MEMBER = "member"
    GUEST = "guest"


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of one peer; None is no limit of its own.

    `models` are names it may use, `parallel` requests at once, `tokens_per_day` is
    counted by each provider. `invite` is None in version 1: it may not.
    """

    models: tuple[str, ...] | None = None
    parallel: int | None = None
    tokens_per_day: int | None = None
    invite: None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """Node `id` belongs to the mesh until `until`; signed by the owner `issuer`.

    `ticket` is the id of the ticket that it replaces.
    """

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
        return sign("membership", _FORM.write(self), issuer)

    @classmethod
    def read(cls, token: str) -> Membership:
        """TrustError or RemoteProtocolError when its issuer did not sign it.

        Whether the issuer is an owner is for `admission.admit`.
        """
        return _FORM.read(read("membership", token, named("issuer")))


CAPS: Final = nested(
    Form(
        Caps,
        {
            "models": or_null(listed(MODEL_NAME, MODELS_MAX)),
            "parallel": or_null(whole(1)),
            "tokens_per_day": or_null(whole(0)),
            "invite": NULL,
        },
    )
)
TICKET_ID: Final = raw(TICKET_ID_BYTES)
_FORM = Form(
    Membership,
    {
        "mesh": PEER,
        "issuer": PEER,
        "id": PEER,
        "name": NAME,
        "role": one_of(Role),
        "caps": CAPS,
        "ticket": or_null(TICKET_ID),
        "until": TIME,
        "ts": TIME,
    },
)
