"""The signed form: `b64(body).b64(signature)`, one primitive for everything signed.

The signature covers the kind and the body's bytes as received, and is checked before
anything but the signer's own name is taken from the body (docs/protocol.md §1.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import nacl.exceptions
from nacl.signing import SigningKey, VerifyKey

from meshllm.errors import LocalProtocolError, RemoteProtocolError, TrustError
from meshllm.trust.keys import b64decode, b64encode, public_key
from meshllm.trust.strict import parse_object

TOKEN_MAX = 12_288
LONG_TOKEN_MAX = 49_152  # an announcement of 256 models, a list of 400 revoked
LONG_KINDS = ("announcement", "revocations")


def sign(kind: str, body: Mapping[str, Any], key: SigningKey) -> str:
    """The token. LocalProtocolError when it would be larger than its kind may be, or
    is nothing that `read` would take (a lone surrogate in a model's name, say)."""
    try:
        data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        parse_object(data, max_bytes=len(data))
    except (UnicodeEncodeError, RemoteProtocolError) as error:
        raise LocalProtocolError(f"a {kind} that nobody would read: {error}") from error
    token = f"{b64encode(data)}.{b64encode(key.sign(_domain(kind) + data).signature)}"
    if len(token) > limit(kind):
        raise LocalProtocolError(f"a {kind} of {len(token)} bytes is too large")
    return token


def read(kind: str, token: object, signer: bytes) -> dict[str, Any]:
    """The body as strict JSON, once the signature of `signer` verified.

    TrustError when it does not hold; RemoteProtocolError when the body is malformed.
    """
    data, signature = _split(kind, token)
    try:
        VerifyKey(signer).verify(_domain(kind) + data, signature)
    except (nacl.exceptions.BadSignatureError, ValueError) as error:
        raise TrustError(f"the signature of this {kind} does not hold") from error
    return parse_object(data, max_bytes=limit(kind))


def read_naming(kind: str, token: object, field: str) -> dict[str, Any]:
    """`read` for kinds that name their own signer, a peer id, in `field`.

    Who signed is then known; whether that peer may say so is the caller's to decide.
    """
    data, _ = _split(kind, token)
    named = parse_object(data, max_bytes=limit(kind)).get(field)
    if not isinstance(named, str):
        raise TrustError(f"this {kind} does not name its signer")
    return read(kind, token, public_key(named))


def limit(kind: str) -> int:
    """Most characters of a token of this kind."""
    return LONG_TOKEN_MAX if kind in LONG_KINDS else TOKEN_MAX


def _domain(kind: str) -> bytes:
    return b"meshllm/" + kind.encode() + b"/v1\0"


def _split(kind: str, token: object) -> tuple[bytes, bytes]:
    if not isinstance(token, str) or len(token) > limit(kind):
        raise TrustError(f"this is no {kind}: text of up to {limit(kind)} bytes")
    body, dot, signature = token.partition(".")
    if not dot:
        raise TrustError(f"this is no {kind}: it has no signature")
    return b64decode(body), b64decode(signature, 64)


def peek_type(token: str, types: tuple[str, ...]) -> str:
    """The `type` a body claims, one of `types`: the kind to verify it as."""
    body, _, _ = token.partition(".")
    claimed = parse_object(b64decode(body), max_bytes=TOKEN_MAX).get("type")
    if claimed not in types:
        raise TrustError(f"signed, but not as one of: {', '.join(types)}")
    return str(claimed)
