"""Both sides of a pairing in memory: ann owns a mesh, bob comes in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from nacl.public import PrivateKey

from meshllm.protocol.pairing import LIFE_S, NewcomerSide, OwnerSide
from meshllm.protocol.pairing_messages import Grant
from meshllm.trust.grants import Role
from tests.fakes.hubs import Mesh
from tests.fakes.people import NOW, id_of, key

MESH = Mesh(owners=("ann",))
MAILBOX = 412


def chance(*what: object) -> bytes:
    """32 bytes that are other ones for every `what`."""
    return hashlib.sha256(repr(what).encode()).digest()


def owner(
    name: str = "ann",
    draw: object = 0,
    *,
    mailbox: int | None = MAILBOX,
    nonce: bytes | None = None,
) -> OwnerSide:
    return OwnerSide(
        key(name),
        PrivateKey(chance("box", name, "owner", draw)),
        nonce or chance("nonce", name, "owner", draw),
        mailbox=mailbox,
        until=NOW + LIFE_S,
    )


def newcomer(
    name: str = "bob",
    draw: object = 0,
    *,
    mailbox: int | None = MAILBOX,
    nonce: bytes | None = None,
) -> NewcomerSide:
    return NewcomerSide(
        key(name),
        PrivateKey(chance("box", name, "newcomer", draw)),
        nonce or chance("nonce", name, "newcomer", draw),
        mailbox=mailbox,
        until=NOW + LIFE_S,
    )


def grant(
    name: str = "bob", role: Role = Role.GUEST, *, mesh: Mesh = MESH, by: str = "ann"
) -> Grant:
    token = mesh.membership(name, role, issuer=by)
    return Grant("https://mesh.example", id_of("hub"), mesh.statement, token)


@dataclass
class Pair:
    """Both sides, and every letter that went between them."""

    owner: OwnerSide = field(default_factory=owner)
    newcomer: NewcomerSide = field(default_factory=newcomer)
    now: float = NOW
    letters: list[bytes] = field(default_factory=list)

    def to_owner(self, letter: bytes) -> None:
        self.letters.append(letter)
        answer = self.owner.receive(letter, self.now)
        if answer is not None:
            self.to_newcomer(answer)

    def to_newcomer(self, letter: bytes) -> None:
        self.letters.append(letter)
        answer = self.newcomer.receive(letter, self.now)
        if answer is not None:
            self.to_owner(answer)

    def met(self) -> Pair:
        """The newcomer shows the code, and the owner's machine waits for it."""
        self.to_owner(self.newcomer.offer())
        return self

    def typed(self) -> Pair:
        """... and was typed; the receipt is on the owner's screen."""
        self.owner.type_code(self.newcomer.code, self.now)
        return self

    def ready(self) -> Pair:
        """... and was typed, too."""
        self.to_owner(self.newcomer.type_receipt(self.owner.receipt, self.now))
        return self

    def granted(self) -> Pair:
        self.to_newcomer(self.owner.grant(grant()))
        return self

    def accepted(self) -> Pair:
        self.to_owner(self.newcomer.accept())
        return self
