"""Pure: how keys and bytes are spelled (docs/protocol.md §1). One spelling each."""

from __future__ import annotations

import base64
import binascii
from typing import Final, NewType

from meshllm.errors import RemoteProtocolError, TrustError

PeerId = NewType("PeerId", str)
"""52 characters: a whole Ed25519 public key. Nothing compares fewer."""

KEY_BYTES: Final = 32
PEER_ID_CHARS: Final = 52
SHORT_CHARS: Final = 8


def peer_id(public: bytes) -> PeerId:
    """The id of a 32-byte Ed25519 public key: lower-case base32 without padding."""
    if len(public) != KEY_BYTES:
        raise TrustError(f"A public key has {KEY_BYTES} bytes, not {len(public)}.")
    return PeerId(base64.b32encode(public).decode().rstrip("=").lower())


def public_key(id: str) -> bytes:
    """The 32 bytes behind a peer id. TrustError when it is not one."""
    try:
        public = base64.b32decode(id.upper() + "=" * 4)
    except ValueError as exc:
        raise TrustError(f"{id[:60]!r} is not a peer id.") from exc
    # Comparing spellings also refuses upper case and set trailing bits.
    if len(public) != KEY_BYTES or peer_id(public) != id:
        raise TrustError(f"{id[:60]!r} is not a peer id.")
    return public


def read_peer_id(text: object) -> PeerId:
    """A peer id from a peer's JSON. RemoteProtocolError when it is not one."""
    if not isinstance(text, str) or len(text) != PEER_ID_CHARS:
        raise RemoteProtocolError("not a peer id")
    try:
        public_key(text)
    except TrustError as exc:
        raise RemoteProtocolError("not a peer id") from exc
    return PeerId(text)


def short(id: str) -> str:
    """What people are shown. Never compare it."""
    return id[:SHORT_CHARS]


def b64encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def b64decode(text: object, size: int | None = None) -> bytes:
    """The bytes of the one right spelling; RemoteProtocolError for any other.

    `size` is how many bytes there must be.
    """
    if not isinstance(text, str):
        raise RemoteProtocolError("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as exc:
        raise RemoteProtocolError("not base64url") from exc
    # Python skips what is no base64: padding, another alphabet and set trailing bits
    # all show when the bytes are spelled again.
    if b64encode(data) != text:
        raise RemoteProtocolError("not base64url in its one right spelling")
    if size is not None and len(data) != size:
        raise RemoteProtocolError(f"{len(data)} bytes where {size} belong")
    return data
