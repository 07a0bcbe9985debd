"""One entry of a provider's list of models, in the terms of Ollama's `/api/tags`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its server has it; what the server does not tell stays empty.

    `size` in bytes, `modified_at` RFC 3339, `details` Ollama's object of that name,
    `context_length` in tokens for one request (0 when unknown).
    """

    name: str
    digest: str = ""
    size: int = 0
    modified_at: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ("completion",)
    context_length: int = 0
