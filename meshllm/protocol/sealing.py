"""A box for one receiver: whoever carries it sees how large it is, to 4 KiB.

`ephemeral X25519 key (32) | nonce (24) | crypto_box of (length | text | zeros)`, from a
key made for this box alone (docs/protocol.md §4). The length takes 2 or 4 bytes.
"""

from __future__ import annotations

import nacl.exceptions
from nacl.public import Box, PrivateKey, PublicKey

from meshllm.errors import LocalProtocolError, TrustError

STEP = 4_096
OVERHEAD = 32 + 24 + 16  # ephemeral key, nonce, authenticator


def seal(
    text: bytes,
    to_box: bytes,
    ephemeral: PrivateKey,
    nonce: bytes,
    *,
    most: int,
    prefix: int = 2,
) -> bytes:
    """`to_box`: the receiver's X25519 key. LocalProtocolError when the box would have
    more than `most` bytes, TrustError when `to_box` is no key."""
    size = -(-(OVERHEAD + prefix + len(text)) // STEP) * STEP
    if size > most:
        raise LocalProtocolError(f"an envelope of {size} bytes is too large")
    inside = (len(text).to_bytes(prefix) + text).ljust(size - OVERHEAD, b"\0")
    try:
        box = Box(ephemeral, PublicKey(to_box)).encrypt(inside, nonce).ciphertext
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise TrustError("a box key that nothing can be sealed to") from error
    return ephemeral.public_key.encode() + nonce + box


def unseal(sealed: bytes, box: PrivateKey, *, most: int, prefix: int = 2) -> bytes:
    """The text. TrustError when it is not for this key, or anything was changed."""
    if len(sealed) % STEP or not 0 < len(sealed) <= most:
        raise TrustError(f"an envelope of {len(sealed)} bytes")
    if sealed[31] & 0x80:  # X25519 masks this bit: the envelope would open either way
        raise TrustError("an envelope whose key is spelled another way")
    try:
        inside = Box(box, PublicKey(sealed[:32])).decrypt(sealed[56:], sealed[32:56])
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise TrustError("an envelope that is not sealed to this node") from error
    size = int.from_bytes(inside[:prefix])
    text, padding = inside[prefix : prefix + size], inside[prefix + size :]
    if len(text) != size or any(padding):
        raise TrustError("an envelope with a wrong length or padding")
    return text
