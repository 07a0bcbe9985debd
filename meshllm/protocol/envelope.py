"""Offers, answers, candidates, refusals: signed by who sends, sealed to who receives.

Whoever carries an envelope sees from, to, size and time (docs/protocol.md §4). Keys and
nonces come in as values, so that the examples in tests/vectors can be repeated.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.errors import Code, NotAllowed, TrustError
from meshllm.protocol import sealing
from meshllm.protocol.description import Candidate, Description, candidates
from meshllm.trust import signed
from meshllm.trust.announcement import chain, versions
from meshllm.trust.keys import PeerId, b64encode, read_peer_id, short
from meshllm.trust.strict import b64, boolean, integer, nested, take, text

ENVELOPE_MAX = 12_288
SKEW_S = 300
SEEN_S = 900
SEEN_PER_PEER = 256
TEXT_MAX = 256


@dataclass(frozen=True, slots=True)
class Offer:
    """`conn` and `box` say where the answer goes and to which key it is sealed."""

    path: bytes
    sender: PeerId
    to: PeerId
    ts: int
    conn: bytes
    box: bytes
    commit: bytes
    versions: tuple[int, int]
    description: Description
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """`prev`: SHA-256 of the offer's signed form."""

    path: bytes
    sender: PeerId
    to: PeerId
    ts: int
    prev: bytes
    nonce: bytes
    version: int
    description: Description
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidates:
    """More of whoever offered or answered; the last ones are `is_complete`."""

    path: bytes
    sender: PeerId
    to: PeerId
    ts: int
    prev: bytes
    candidates: tuple[Candidate, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    path: bytes
    sender: PeerId
    to: PeerId
    ts: int
    prev: bytes
    code: Code
    text: str


Signal = Offer | Answer | Candidates | Refusal

_COMMON = {"path": b64(16), "from": read_peer_id, "to": read_peer_id, "ts": integer()}
_OFFER = _COMMON | {
    "type": text(8),
    "conn": b64(16),
    "box": b64(32),
    "commit": b64(32),
    "versions": versions,
    "sdp": nested(Description.from_json),
    "chain": chain,
}
_ANSWER = _COMMON | {
    "type": text(8),
    "prev": b64(32),
    "nonce": b64(32),
    "version": integer(1, 1_000),
    "sdp": nested(Description.from_json),
    "chain": chain,
}
_CANDIDATES = _COMMON | {
    "type": text(16),
    "prev": b64(32),
    "candidates": candidates,
    "complete": boolean,
}
_REFUSAL = _COMMON | {
    "type": text(8),
    "prev": b64(32),
    "code": integer(0, 65_535),
    "text": text(TEXT_MAX),
}


def seal(
    signal: Signal, key: SigningKey, to_box: bytes, ephemeral: PrivateKey, nonce: bytes
) -> tuple[bytes, bytes]:
    """The envelope, and the SHA-256 of the signed form inside.

    `to_box`: the receiver's X25519 key. `ephemeral` and the 24-byte `nonce` are made
    for this envelope alone. LocalProtocolError when it would be beyond 12,288 bytes,
    TrustError when `to_box` is no key.
    """
    kind, body = _write(signal)
    form = signed.sign(kind, body, key).encode()
    sealed = sealing.seal(form, to_box, ephemeral, nonce, most=ENVELOPE_MAX)
    return sealed, hashlib.sha256(form).digest()


def open_envelope(
    sealed: bytes,
    box: PrivateKey,
    *,
    me: PeerId,
    outer_sender: PeerId | None,
    now: int,
) -> tuple[Signal, bytes]:
    """What it says, and the SHA-256 of its signed form.

    TrustError, RemoteProtocolError or NotAllowed (`clock_skew`) when it is not for us,
    not from whom it claims, or too old. Whether `path` was seen is SeenPaths' to say.
    """
    form = _unseal(sealed, box)
    kind = signed.peek_type(form, ("offer", "answer", "candidates", "refusal"))
    signal = _read(kind, signed.read_naming(kind, form, "from"))
    if outer_sender is not None and signal.sender != outer_sender:
        raise TrustError("an envelope whose sender is not who delivered it")
    if signal.to != me:
        raise TrustError("an envelope for somebody else")
    if abs(now - signal.ts) > SKEW_S:
        raise NotAllowed(
            f"The clocks of this machine and {short(signal.sender)} differ by "
            f"{abs(now - signal.ts)} s; set them right (300 s are allowed).",
            Code.CLOCK_SKEW,
        )
    return signal, hashlib.sha256(form.encode()).digest()


class SeenPaths:
    """Path ids of the last 15 minutes: an offer is taken once.

    Ask only about senders that are admitted: what others send must not fill it.
    """

    def __init__(self) -> None:
        # both in the order of the newest entry, so that what is old is found first
        self._seen: OrderedDict[PeerId, OrderedDict[bytes, int]] = OrderedDict()

    def is_new(self, sender: PeerId, path: bytes, now: int) -> bool:
        """True the first time. A full memory forgets nothing: it refuses."""
        self._forget(now - SEEN_S)
        seen = self._seen.get(sender, OrderedDict())
        while seen and next(iter(seen.values())) < now - SEEN_S:
            seen.popitem(last=False)
        if path in seen or len(seen) >= SEEN_PER_PEER:
            return False
        seen[path] = now
        self._seen[sender] = seen
        self._seen.move_to_end(sender)
        return True

    def knows(self, sender: PeerId, path: bytes) -> bool:
        """Whether this very offer was taken: where `is_new` says no, there may also be
        too many others."""
        return path in self._seen.get(sender, ())

    def _forget(self, before: int) -> None:
        """Senders of whom all is old."""
        while self._seen:
            sender, seen = next(iter(self._seen.items()))
            if next(reversed(seen.values())) >= before:
                break
            del self._seen[sender]

    def __len__(self) -> int:
        return sum(map(len, self._seen.values()))


def _write(signal: Signal) -> tuple[str, dict[str, Any]]:
    """The kind and the body, by the table of §4."""
    kind = type(signal).__name__.lower()
    common = {
        "type": kind,
        "path": b64encode(signal.path),
        "from": signal.sender,
        "to": signal.to,
        "ts": signal.ts,
    }
    return kind, common | _own(signal)


def _own(signal: Signal) -> dict[str, Any]:
    match signal:
        case Offer():
            return {
                "conn": b64encode(signal.conn),
                "box": b64encode(signal.box),
                "commit": b64encode(signal.commit),
                "versions": list(signal.versions),
                "sdp": signal.description.to_json(),
                "chain": list(signal.chain),
            }
        case Answer():
            return {
                "prev": b64encode(signal.prev),
                "nonce": b64encode(signal.nonce),
                "version": signal.version,
                "sdp": signal.description.to_json(),
                "chain": list(signal.chain),
            }
        case Candidates():
            return {
                "prev": b64encode(signal.prev),
                "candidates": [asdict(candidate) for candidate in signal.candidates],
                "complete": signal.is_complete,
            }
        case _:
            return {
                "prev": b64encode(signal.prev),
                "code": int(signal.code),
                "text": signal.text,
            }


def _unseal(sealed: bytes, box: PrivateKey) -> str:
    form = sealing.unseal(sealed, box, most=ENVELOPE_MAX)
    if not form.isascii():
        raise TrustError("an envelope with a wrong length or padding")
    return form.decode()


def _read(kind: str, fields: dict[str, Any]) -> Signal:
    match kind:
        case "offer":
            return Offer(**_renamed(take(fields, _OFFER)))
        case "answer":
            return Answer(**_renamed(take(fields, _ANSWER)))
        case "candidates":
            return Candidates(**_renamed(take(fields, _CANDIDATES)))
        case _:
            read = _renamed(take(fields, _REFUSAL))
            known = read["code"] in list(Code)
            read["code"] = Code(read["code"]) if known else Code.INTERNAL
            return Refusal(**read)


def _renamed(read: dict[str, Any]) -> dict[str, Any]:
    names = {"from": "sender", "sdp": "description", "complete": "is_complete"}
    return {names.get(k, k): value for k, value in read.items() if k != "type"}
