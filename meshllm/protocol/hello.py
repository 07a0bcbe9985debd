"""HELLO: both peers prove, inside the path, which certificates they really saw.

Whoever altered an offer, an answer or a fingerprint on the way fails here, whatever the
DTLS library checked (docs/protocol.md §5).
"""

from __future__ import annotations

import hashlib
import hmac

import nacl.exceptions
from nacl.signing import SigningKey, VerifyKey

from meshllm.errors import Code, NotAllowed
from meshllm.protocol.frames import Hello
from meshllm.trust.keys import PeerId, public_key

OFFERER, ANSWERER = 1, 2
DOMAIN = b"meshllm/hello/v1\0"


def commit(nonce: bytes) -> bytes:
    """What the offer carries of the offerer's nonce: its SHA-256, 32 bytes."""
    return hashlib.sha256(nonce).digest()


def transcript(
    *,
    path: bytes,
    offerer: PeerId,
    answerer: PeerId,
    commit: bytes,
    answer_nonce: bytes,
    offerer_fingerprint: bytes,
    answerer_fingerprint: bytes,
    offer_digest: bytes,
    answer_digest: bytes,
) -> bytes:
    """32 bytes over everything both sides must agree on.

    Fingerprints are SHA-256: one's own of the certificate in use, the peer's of the one
    observed. Digests are SHA-256 of the signed forms of offer and answer.
    """
    parts = (
        path,
        public_key(offerer),
        public_key(answerer),
        commit,
        answer_nonce,
        offerer_fingerprint,
        answerer_fingerprint,
        offer_digest,
        answer_digest,
    )
    return hashlib.sha256(b"".join(_prefixed(part) for part in parts)).digest()


def prove(role: int, transcript: bytes, key: SigningKey) -> bytes:
    """Our signature, 64 bytes."""
    return key.sign(DOMAIN + bytes([role]) + transcript).signature


def verify(
    hello: Hello, *, role: int, transcript: bytes, public: bytes, commit: bytes | None
) -> None:
    """NotAllowed (auth) unless the peer has this role, key and view of the path.

    `commit`: what the offer promised of the nonce that an offerer reveals now; None
    for an answerer, whose field is zeros.
    """
    revealed = hashlib.sha256(hello.nonce_reveal).digest()
    if commit is None:
        holds = hello.nonce_reveal == bytes(32)
    else:
        holds = hmac.compare_digest(revealed, commit)
    try:
        VerifyKey(public).verify(DOMAIN + bytes([role]) + transcript, hello.sig)
    except (nacl.exceptions.BadSignatureError, ValueError):
        holds = False
    if hello.role != role or not holds:
        raise NotAllowed(
            "The peer saw another connection than we did: somebody stands between, "
            "or it is not who it claims to be.",
            Code.AUTH,
        )


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(2) + part
