"""A provider's announcement: who it is, where its offers go, and what it has.

Signed by the node itself; docs/protocol.md §2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nacl.signing import SigningKey

from meshllm.errors import RemoteProtocolError
from meshllm.trust import signed
from meshllm.trust.grants import MODEL_NAME_MAX
from meshllm.trust.keys import PeerId, b64encode, read_peer_id
from meshllm.trust.strict import b64, integer, listed, nested, take, text

MODELS_MAX = 256
CHAIN_MAX = 3
DETAILS_MAX = 32


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model, in the terms of Ollama's `/api/tags`. `size` in bytes."""

    name: str
    digest: str
    size: int
    modified_at: str
    details: Mapping[str, Any]
    capabilities: tuple[str, ...]
    context_length: int

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "digest": self.digest,
            "size": self.size,
            "modified_at": self.modified_at,
            "details": dict(self.details),
            "capabilities": list(self.capabilities),
            "context_length": self.context_length,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(
            **take(
                fields,
                {
                    "name": text(MODEL_NAME_MAX, 1),
                    "digest": text(128),
                    "size": integer(),
                    "modified_at": text(64),
                    "details": nested(_details),
                    "capabilities": listed(text(32, 1), 16),
                    "context_length": integer(),
                },
            )
        )


@dataclass(frozen=True, slots=True)
class Announcement:
    """`conn` takes the offers, sealed to `box`; `chain` says who it is in the mesh."""

    mesh: PeerId
    id: PeerId
    conn: bytes
    box: bytes
    versions: tuple[int, int]
    backend: str
    parallel: int
    models: tuple[ModelCard, ...]
    chain: tuple[str, ...]
    ts: int

    def sign(self, key: SigningKey) -> str:
        body = {
            "mesh": self.mesh,
            "id": self.id,
            "conn": b64encode(self.conn),
            "box": b64encode(self.box),
            "versions": list(self.versions),
            "backend": self.backend,
            "parallel": self.parallel,
            "models": [model.to_json() for model in self.models],
            "chain": list(self.chain),
            "ts": self.ts,
        }
        return signed.sign("announcement", body, key)

    @classmethod
    def read(cls, token: str) -> Self:
        """Signed by the node it names. The chain in it is not verified here."""
        fields = signed.read_naming("announcement", token, "id")
        return cls(
            **take(
                fields,
                {
                    "mesh": read_peer_id,
                    "id": read_peer_id,
                    "conn": b64(16),
                    "box": b64(32),
                    "versions": versions,
                    "backend": text(32, 1),
                    "parallel": integer(1, 10_000),
                    "models": listed(nested(ModelCard.from_json), MODELS_MAX),
                    "chain": chain,
                    "ts": integer(),
                },
            )
        )


def versions(value: Any) -> tuple[int, int]:
    """[min, max] of protocol versions."""
    low, high = listed(integer(1, 1_000), 2, 2)(value)
    if low > high:
        raise RemoteProtocolError("versions are [min, max]")
    return low, high


def chain(value: Any) -> tuple[str, ...]:
    """The tokens of a chain, not yet verified."""
    return listed(text(signed.TOKEN_MAX, 1), CHAIN_MAX, 1)(value)


def _details(value: dict[str, Any]) -> dict[str, Any]:
    if len(value) > DETAILS_MAX:
        raise RemoteProtocolError(f"more than {DETAILS_MAX} details")
    return value
