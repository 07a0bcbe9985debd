"""Names of keys: peer ids, and the one spelling of base64url that we accept.

docs/protocol.md §1.
"""

from __future__ import annotations

import base64
import binascii
from typing import NewType

from meshllm.errors import TrustError

PeerId = NewType("PeerId", str)
"""Lower-case base32 of a whole Ed25519 public key: 52 characters."""

KEY_BYTES = 32
PEER_ID_CHARS = 52
SHORT_CHARS = 8


def peer_id(public: bytes) -> PeerId:
    """The id of a 32-byte public key."""
    if len(public) != KEY_BYTES:
        raise TrustError(f"a key of {len(public)} bytes; an Ed25519 key has 32")
    return PeerId(base64.b32encode(public).decode().rstrip("=").lower())


def public_key(id: str) -> bytes:
    """The 32 bytes that an id spells. TrustError when it is no id."""
    try:
        public = base64.b32decode(id.upper() + "====")
    except (ValueError, binascii.Error):
        public = b""
    if len(public) != KEY_BYTES or peer_id(public) != id:
        raise TrustError("this is no peer id: 52 lower-case letters and digits 2 to 7")
    return public


def read_peer_id(value: object) -> PeerId:
    """A peer id from parsed JSON. TrustError when it is none."""
    if not isinstance(value, str) or len(value) != PEER_ID_CHARS:
        raise TrustError("this is no peer id: 52 lower-case letters and digits 2 to 7")
    public_key(value)
    return PeerId(value)


def short(id: str) -> str:
    """For people; nothing compares it."""
    return id[:SHORT_CHARS]


def b64encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64decode(text: object, size: int | None = None) -> bytes:
    """The bytes of canonical base64url, `size` of them when given. TrustError else."""
    if not isinstance(text, str):
        raise TrustError("base64url text expected")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise TrustError("this is not base64url without padding") from None
    if b64encode(data) != text:
        raise TrustError("this is not canonical base64url")
    if size is not None and len(data) != size:
        raise TrustError(f"{size} bytes expected, {len(data)} found")
    return data
