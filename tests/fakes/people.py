"""Keys of people by name: the same key for the same name, always."""

from __future__ import annotations

import hashlib

from nacl.signing import SigningKey

from meshllm.trust.keys import PeerId, peer_id

NOW = 1_800_000_000


def key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


def id_of(name: str) -> PeerId:
    return peer_id(bytes(key(name).verify_key))
