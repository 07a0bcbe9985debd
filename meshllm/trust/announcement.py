"""Pure: what a provider says it offers (docs/protocol.md §2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nacl.signing import SigningKey

from meshllm.errors import TrustError
from meshllm.trust.fields import (
    CHAIN,
    MODEL_NAME,
    NAME,
    OBJECT,
    PEER,
    TIME,
    VERSIONS,
    Form,
    listed,
    nested,
    raw,
    text,
    whole,
)
from meshllm.trust.keys import KEY_BYTES, PeerId
from meshllm.trust.signed import named, read, sign
from meshllm.trust.statement import Statement

MODELS_MAX: Final = 256
CAPABILITIES_MAX: Final = 16
CONN_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model as in Ollama's `/api/tags`; what is unknown is empty or 0.

    `size` in bytes, `modified_at` RFC 3339, `context_length` in tokens.
    """

    name: str
    digest: str = ""
    size: int = 0
    modified_at: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    context_length: int = 0


@dataclass(frozen=True, slots=True)
class Announcement:
    """Signed by the node. Offers go to `conn`, sealed to the X25519 key `box`.

    `versions` are the lowest and highest protocol version, `backend` says what runs
    the models, `parallel` how many requests at once; `chain` proves who the node is,
    and is for `admission.admit` to judge.
    """

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

    def sign(self, node: SigningKey) -> str:
        return sign("announcement", _FORM.write(self), node)

    @classmethod
    def read(cls, token: str) -> Announcement:
        """TrustError or RemoteProtocolError when the node did not sign it."""
        announcement = _FORM.read(read("announcement", token, named("id")))
        if Statement.read(announcement.chain[0]).mesh != announcement.mesh:
            raise TrustError("The announcement and its chain are of different meshes.")
        return announcement


_MODEL = Form(
    ModelCard,
    {
        "name": MODEL_NAME,
        "digest": text(128),
        "size": whole(0),
        "modified_at": text(64),
        "details": OBJECT,
        "capabilities": listed(NAME, CAPABILITIES_MAX),
        "context_length": whole(0),
    },
)
_FORM = Form(
    Announcement,
    {
        "mesh": PEER,
        "id": PEER,
        "conn": raw(CONN_BYTES),
        "box": raw(KEY_BYTES),
        "versions": VERSIONS,
        "backend": NAME,
        "parallel": whole(1),
        "models": listed(nested(_MODEL), MODELS_MAX),
        "chain": CHAIN,
        "ts": TIME,
    },
)
