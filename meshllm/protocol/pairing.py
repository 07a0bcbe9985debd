"""Pairing: one machine lets another in, by digits that people carry (§3.3).

Each side is a state machine of one attempt. Whatever is wrong ends it for good: whoever
stands between has one guess, and has committed to it before it can be known.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.errors import Code, MeshError, NotAllowed, RemoteProtocolError, TrustError
from meshllm.protocol.pairing_messages import (
    NEWCOMER,
    OWNER,
    Accepted,
    Answer,
    Boxed,
    Grant,
    Offer,
    Ready,
    Reveal,
    Seals,
    Stop,
    commit,
    digits,
)
from meshllm.trust.admission import admit
from meshllm.trust.grants import Statement
from meshllm.trust.keys import PeerId, peer_id

LIFE_S: Final = 600
AGAIN: Final = "Start again with `meshllm pair` on both machines."
MISTYPED: Final = (
    "These are not the digits that the other machine shows: one was mistyped, or"
    f" somebody stands between the two. {AGAIN}"
)
LATE: Final = f"The ten minutes have passed. {AGAIN}"
STOPPED: Final = {
    Code.AUTH: f"The digits that were typed on the other machine are wrong. {AGAIN}",
    Code.TIMEOUT: LATE,
    Code.CANCELLED: f"The pairing was stopped on the other machine. {AGAIN}",
}


class Stage(Enum):
    """Named by what has to come next."""

    OFFER = "the newcomer's offer"
    ANSWER = "the owner's answer"
    REVEAL = "the newcomer's nonce"
    CODE = "six digits typed on the owner's machine"
    RECEIPT = "two digits typed on the newcomer"
    READY = "the newcomer's word that these were right"
    ADMIT = "the owner's decision"
    GRANT = "the membership"
    STORE = "the membership on the newcomer's disk"
    ACCEPTED = "the newcomer's word that it is there"
    PAIRED = "nothing more"
    OVER = "nothing: it failed"


class Side:
    """What both sides have: keys for this attempt alone, an end, and one chance.

    `box` and the 32 bytes of `nonce` are fresh. `mailbox` is where they meet; None on a
    LAN. Once a method has raised MeshError the pairing is over.
    """

    role: int
    first: Stage

    def __init__(
        self,
        key: SigningKey,
        box: PrivateKey,
        nonce: bytes,
        *,
        mailbox: int | None,
        until: float,
    ) -> None:
        self.id = peer_id(bytes(key.verify_key))
        self.stage = self.first
        self._key = key
        self._box = box
        self._nonce = nonce
        self._mailbox = mailbox
        self._until = until
        self._other: PeerId | None = None
        self._other_box = b""
        self._seals: Seals | None = None
        self._code = self._receipt = ""

    @property
    def other(self) -> PeerId:
        """The other machine; sure once digits were typed here."""
        assert self._other is not None
        return self._other

    def stop(self, code: Code) -> bytes | None:
        """Ends it. What to tell the other machine, if it would understand."""
        is_done = self.stage is Stage.PAIRED
        seals, self._seals, self.stage = self._seals, None, Stage.OVER
        return None if is_done or seals is None else seals.seal(Stop(code))

    @contextmanager
    def _attempt(self, now: float) -> Iterator[None]:
        try:
            if self.stage is Stage.OVER:
                raise NotAllowed(f"This pairing is over. {AGAIN}", Code.GONE)
            if now >= self._until:
                raise NotAllowed(LATE, Code.TIMEOUT)
            yield
        except MeshError:
            self.stage = Stage.OVER
            raise

    def _unexpected(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"Pairing: {self.stage.value} was next. {AGAIN}")

    def _guess(self, at: Stage, typed: str, right: str) -> None:
        """The only one that a person has here."""
        if self.stage is not at:
            raise self._unexpected()
        if not hmac.compare_digest(typed.encode(), right.encode()):
            raise NotAllowed(MISTYPED, Code.AUTH)

    def _seal(self, message: Boxed) -> bytes:
        assert self._seals is not None
        return self._seals.seal(message)

    def _open(self, data: bytes) -> Boxed:
        """A Stop is raised."""
        assert self._seals is not None
        message = self._seals.open(data)
        if isinstance(message, Stop):
            self._seals = None
            why = STOPPED.get(message.code, STOPPED[Code.CANCELLED])
            raise NotAllowed(why, message.code)
        return message

    def _meet(self, other: PeerId, box: bytes) -> None:
        if other == self.id:
            raise TrustError("Pairing: these are two homes with one key.")
        self._seals = Seals(self._box, box, self.role)
        self._other, self._other_box = other, box

    def _compute(self, newcomer_nonce: bytes, owner_nonce: bytes) -> None:
        ours, theirs = bytes(self._box.public_key), self._other_box
        is_owner = self.role == OWNER
        self._code, self._receipt = digits(
            newcomer=self.other if is_owner else self.id,
            owner=self.id if is_owner else self.other,
            newcomer_box=theirs if is_owner else ours,
            owner_box=ours if is_owner else theirs,
            newcomer_nonce=newcomer_nonce,
            owner_nonce=owner_nonce,
        )


class OwnerSide(Side):
    """The machine that lets in; the newcomer's code is typed here."""

    role, first = OWNER, Stage.OFFER

    @property
    def receipt(self) -> str:
        """To be shown, now that the code was right."""
        assert self.stage is Stage.READY
        return self._receipt

    def type_code(self, typed: str, now: float) -> None:
        """NotAllowed: it is not the newcomer's."""
        with self._attempt(now):
            self._guess(Stage.CODE, typed, self._code)
            self.stage = Stage.READY

    def grant(self, grant: Grant) -> bytes:
        assert self.stage is Stage.ADMIT
        self.stage = Stage.ACCEPTED
        return self._seal(grant)

    def receive(self, data: bytes, now: float) -> bytes | None:
        """What the newcomer sent; what to send back."""
        with self._attempt(now):
            if self.stage is Stage.OFFER:
                return self._answer(data)
            self._take(self._open(data))
        return None

    def _take(self, message: Boxed) -> None:
        match self.stage, message:
            case Stage.REVEAL, Reveal(nonce) if commit(nonce) == self._commit:
                self._compute(nonce, self._nonce)
                self.stage = Stage.CODE
            case Stage.READY, Ready():
                self.stage = Stage.ADMIT
            case Stage.ACCEPTED, Accepted():
                self.stage = Stage.PAIRED
            case _:
                raise self._unexpected()

    def _answer(self, data: bytes) -> bytes:
        offer = Offer.read(data)
        if offer.mailbox != self._mailbox:
            raise TrustError("Pairing: this offer was made for another mailbox.")
        self._meet(offer.sender, offer.box)
        self._commit = offer.commit
        self.stage = Stage.REVEAL
        return Answer(
            self._mailbox,
            self.id,
            offer.sender,
            hashlib.sha256(data).digest(),
            bytes(self._box.public_key),
            self._nonce,
        ).sign(self._key)


class NewcomerSide(Side):
    """The machine that comes in; it shows the code, and the owner's receipt is typed
    here, so that nobody but who saw the code typed can take it into a mesh."""

    role, first = NEWCOMER, Stage.ANSWER

    @property
    def code(self) -> str:
        """To be shown."""
        assert self.stage is Stage.RECEIPT
        return self._code

    def offer(self) -> bytes:
        """What it says first."""
        self._offer = Offer(
            self._mailbox, self.id, bytes(self._box.public_key), commit(self._nonce)
        ).sign(self._key)
        return self._offer

    def type_receipt(self, typed: str, now: float) -> bytes:
        """What to send then. NotAllowed: it is not the owner's."""
        with self._attempt(now):
            self._guess(Stage.RECEIPT, typed, self._receipt)
            self.stage = Stage.GRANT
        return self._seal(Ready())

    def accept(self) -> bytes:
        """It is stored."""
        assert self.stage is Stage.STORE
        self.stage = Stage.PAIRED
        return self._seal(Accepted())

    def receive(self, data: bytes, now: float) -> bytes | None:
        """What the owner sent; what to send back."""
        with self._attempt(now):
            if self.stage is Stage.ANSWER:
                return self._reveal(data)
            match self.stage, self._open(data):
                case Stage.GRANT, Grant() as grant:
                    self._verify(grant, now)
                    self.granted = grant
                    self.stage = Stage.STORE
                case _:
                    raise self._unexpected()
        return None

    def _reveal(self, data: bytes) -> bytes:
        answer = Answer.read(data)
        if (answer.mailbox, answer.to) != (self._mailbox, self.id):
            raise TrustError("Pairing: this answer is for another machine or mailbox.")
        if answer.prev != hashlib.sha256(self._offer).digest():
            raise TrustError("Pairing: this answer is to another offer.")
        self._meet(answer.sender, answer.box)
        self._compute(self._nonce, answer.nonce)
        self.stage = Stage.RECEIPT
        return self._seal(Reveal(self._nonce))

    def _verify(self, grant: Grant, now: float) -> None:
        """By whom it was, for us, and whole up to the root key."""
        chain = (grant.statement, grant.membership)
        mesh = Statement.read(grant.statement).mesh
        admission = admit(chain, id=self.id, mesh=mesh, now=int(now))
        if admission.issuer != self.other:
            raise TrustError("Pairing: this membership is another owner's.")
