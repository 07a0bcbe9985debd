"""Pure: a ticket, which admits once, and the card using it (docs/protocol.md §2)."""

from __future__ import annotations

from dataclasses import dataclass

from nacl.signing import SigningKey

from meshllm.trust.fields import NAME, PEER, TIME, Form, one_of, raw
from meshllm.trust.grants import CAPS, TICKET_ID, Caps, Role
from meshllm.trust.keys import KEY_BYTES, PeerId
from meshllm.trust.signed import named, read, sign


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an owner promises to whoever signs a card with the seed.

    `id` is 16 random bytes, `seed` the public half of a key made for this ticket.
    """

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
        return sign("ticket", _TICKET.write(self), issuer)

    @classmethod
    def read(cls, token: str) -> Ticket:
        """TrustError or RemoteProtocolError when its issuer did not sign it."""
        return _TICKET.read(read("ticket", token, named("issuer")))


@dataclass(frozen=True, slots=True)
class Card:
    """Node `id` uses the ticket; signed with the ticket's seed."""

    mesh: PeerId
    ticket: bytes
    id: PeerId
    ts: int

    def sign(self, seed: SigningKey) -> str:
        return sign("card", _CARD.write(self), seed)

    @classmethod
    def read(cls, token: str, seed: bytes) -> Card:
        """TrustError or RemoteProtocolError when the seed did not sign it."""
        return _CARD.read(read("card", token, seed))


_TICKET = Form(
    Ticket,
    {
        "mesh": PEER,
        "issuer": PEER,
        "id": TICKET_ID,
        "seed": raw(KEY_BYTES),
        "name": NAME,
        "role": one_of(Role, Role.OWNER),  # nobody becomes an owner by a link
        "caps": CAPS,
        "until": TIME,
        "ts": TIME,
    },
)
_CARD = Form(Card, {"mesh": PEER, "ticket": TICKET_ID, "id": PEER, "ts": TIME})
