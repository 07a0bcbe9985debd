"""What two machines that pair say to each other, and the digits that people compare.

Offer and answer are signed forms: they introduce the keys. All that follows is boxed
between the two keys they brought (docs/protocol.md §3.3). Chance comes in as values.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Self

import nacl.exceptions
from nacl.public import Box, PrivateKey, PublicKey
from nacl.signing import SigningKey

from meshllm.errors import (
    Code,
    ConfigError,
    LocalProtocolError,
    RemoteProtocolError,
    TrustError,
)
from meshllm.trust import signed
from meshllm.trust.keys import PeerId, b64encode, public_key, read_peer_id
from meshllm.trust.link import URL_MAX
from meshllm.trust.signed import TOKEN_MAX
from meshllm.trust.strict import b64, integer, nullable, parse_object, take, text

LETTER_MAX: Final = 8_192  # a statement and a membership, which stay below 6,000
MAILBOX_MIN, MAILBOX_MAX = 100, 999
CODE_DIGITS: Final = 6  # one guess in a million, once
RECEIPT_DIGITS: Final = 2  # only whoever saw the right code typed can show any
NEWCOMER, OWNER = 1, 2
SAS = b"meshllm/sas/v1\0"


@dataclass(frozen=True, slots=True)
class Offer:
    """The newcomer's. `commit`: SHA-256 of its nonce, which it reveals later."""

    mailbox: int | None
    sender: PeerId
    box: bytes
    commit: bytes

    def sign(self, key: SigningKey) -> bytes:
        body = {
            "mailbox": self.mailbox,
            "from": self.sender,
            "box": b64encode(self.box),
            "commit": b64encode(self.commit),
        }
        return signed.sign("pairing-offer", body, key).encode()

    @classmethod
    def read(cls, data: bytes) -> Self:
        fields = signed.read_naming("pairing-offer", _ascii(data), "from")
        return cls(*take(fields, _OFFER).values())


@dataclass(frozen=True, slots=True)
class Answer:
    """The owner's. `prev`: SHA-256 of the offer as it came."""

    mailbox: int | None
    sender: PeerId
    to: PeerId
    prev: bytes
    box: bytes
    nonce: bytes

    def sign(self, key: SigningKey) -> bytes:
        body = {
            "mailbox": self.mailbox,
            "from": self.sender,
            "to": self.to,
            "prev": b64encode(self.prev),
            "box": b64encode(self.box),
            "nonce": b64encode(self.nonce),
        }
        return signed.sign("pairing-answer", body, key).encode()

    @classmethod
    def read(cls, data: bytes) -> Self:
        fields = signed.read_naming("pairing-answer", _ascii(data), "from")
        return cls(*take(fields, _ANSWER).values())


@dataclass(frozen=True, slots=True)
class Reveal:
    """The newcomer's nonce: from here on both know the code."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The newcomer's person typed the owner's receipt."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the newcomer becomes. `hub` and `server`: where its mesh meets, if it does,
    and the key to find there."""

    hub: str | None
    server: PeerId | None
    statement: str
    membership: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The newcomer has it on disk."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Either side's last word."""

    code: Code


Boxed = Reveal | Ready | Grant | Accepted | Stop


class Seals:
    """The two keys at work. Each side counts what it sends, so that nothing opens twice
    or out of turn, nor at whoever sent it."""

    def __init__(self, box: PrivateKey, other: bytes, role: int) -> None:
        """TrustError when `other` is no key to box anything for."""
        try:
            self._box = Box(box, PublicKey(other))
        except (nacl.exceptions.CryptoError, ValueError) as error:
            raise TrustError("a key that nothing can be sealed to") from error
        self._role = role
        self._sent = self._opened = 0

    def seal(self, message: Boxed) -> bytes:
        self._sent += 1
        data = json.dumps(_write(message), separators=(",", ":")).encode()
        nonce = _nonce(self._role, self._sent)
        sealed = self._box.encrypt(data, nonce).ciphertext
        if len(sealed) > LETTER_MAX:
            raise LocalProtocolError(f"a letter of {len(sealed)} bytes is too large")
        return sealed

    def open(self, sealed: bytes) -> Boxed:
        """TrustError unless it is the other side's next."""
        self._opened += 1
        try:
            data = self._box.decrypt(sealed, _nonce(3 - self._role, self._opened))
        except (nacl.exceptions.CryptoError, ValueError) as error:
            raise TrustError("a letter that is not the other side's next") from error
        return _read(parse_object(data, max_bytes=LETTER_MAX))


def commit(nonce: bytes) -> bytes:
    """What the offer says of the newcomer's nonce."""
    return hashlib.sha256(nonce).digest()


def digits(
    *,
    newcomer: PeerId,
    owner: PeerId,
    newcomer_box: bytes,
    owner_box: bytes,
    newcomer_nonce: bytes,
    owner_nonce: bytes,
) -> tuple[str, str]:
    """The code, which the newcomer shows, and the receipt, which the owner shows."""
    parts = (
        public_key(newcomer),
        public_key(owner),
        newcomer_box,
        owner_box,
        newcomer_nonce,
        owner_nonce,
    )
    prefixed = b"".join(len(part).to_bytes(2) + part for part in parts)
    number = int.from_bytes(hashlib.sha256(SAS + prefixed).digest())
    rest, code = divmod(number, 10**CODE_DIGITS)
    receipt = rest % 10**RECEIPT_DIGITS
    return f"{code:0{CODE_DIGITS}}", f"{receipt:0{RECEIPT_DIGITS}}"


def read_digits(typed: str, count: int) -> str:
    """What a person typed, spaces and hyphens aside. ConfigError when it cannot be
    meant: that is no guess yet."""
    bare = "".join(c for c in typed if not c.isspace() and c != "-")
    if len(bare) != count or not (bare.isascii() and bare.isdigit()):
        raise ConfigError(f"That is not {count} digits. Type them as they are shown.")
    return bare


_mailbox = nullable(integer(MAILBOX_MIN, MAILBOX_MAX))
_OFFER = {
    "mailbox": _mailbox,
    "from": read_peer_id,
    "box": b64(32),
    "commit": b64(32),
}
_ANSWER = {
    "mailbox": _mailbox,
    "from": read_peer_id,
    "to": read_peer_id,
    "prev": b64(32),
    "box": b64(32),
    "nonce": b64(32),
}
_GRANT = {
    "hub": nullable(text(URL_MAX, 1)),
    "server": nullable(read_peer_id),
    "statement": text(TOKEN_MAX, 1),
    "membership": text(TOKEN_MAX, 1),
}


def _write(message: Boxed) -> dict[str, Any]:
    body: dict[str, Any] = {"type": type(message).__name__.lower()}
    match message:
        case Reveal(nonce):
            body["nonce"] = b64encode(nonce)
        case Grant():
            body |= {name: getattr(message, name) for name in _GRANT}
        case Stop(code):
            body["code"] = int(code)
    return body


def _read(fields: dict[str, Any]) -> Boxed:
    match fields.pop("type", None):
        case "reveal":
            return Reveal(**take(fields, {"nonce": b64(32)}))
        case "ready":
            return Ready(**take(fields, {}))
        case "grant":
            return Grant(**take(fields, _GRANT))
        case "accepted":
            return Accepted(**take(fields, {}))
        case "stop":
            code = take(fields, {"code": integer(0, 65_535)})["code"]
            return Stop(Code(code) if code in list(Code) else Code.INTERNAL)
    raise RemoteProtocolError("a letter of a kind that pairing does not have")


def _nonce(role: int, number: int) -> bytes:
    return bytes([role, number]).ljust(24, b"\0")


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise TrustError("a letter that is no signed form") from error
