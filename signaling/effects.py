"""Pure: what the hub decides and its server carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from meshllm.errors import Code
from meshllm.protocol.signals import HubMessage


@dataclass(frozen=True, slots=True)
class Row:
    """One kept thing. `until` is when it may be forgotten; null is never."""

    kind: str
    mesh: str
    key: str
    value: str
    until: int | None

    @property
    def size(self) -> int:
        """Bytes in memory, roughly: what is stored is ASCII."""
        return len(self.mesh) + len(self.key) + len(self.value) + 200


@dataclass(frozen=True, slots=True)
class Send:
    link: int
    message: HubMessage


@dataclass(frozen=True, slots=True)
class Close:
    """After what was sent before it. The close code is 4000 + `code`."""

    link: int
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Save:
    row: Row


@dataclass(frozen=True, slots=True)
class Forget:
    kind: str
    mesh: str
    key: str


Effect: TypeAlias = Send | Close | Save | Forget
"""Saves and Forgets of one call are one transaction, done before anything is sent."""
