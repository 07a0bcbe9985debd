"""What a check found: a word, a sentence, what to do, and the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final


class State(StrEnum):
    """`ERROR` keeps this node from working; `SKIPPED` could not be looked at."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """`name` and the keys of `facts` are for programs and stay (docs/howto).

    `about` tells apart those that there are several of: a server's URL, a peer's id.
    """

    name: str
    state: State
    text: str
    do: str | None = None
    about: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"facts": dict(self.facts)}


Facts = Mapping[str, Any]
NONE: Final[Facts] = {}


def ok(name: str, text: str, facts: Facts = NONE, *, about: str | None = None) -> Check:
    return Check(name, State.OK, text, None, about, facts)


def warning(
    name: str, text: str, do: str, facts: Facts = NONE, *, about: str | None = None
) -> Check:
    return Check(name, State.WARNING, text, do, about, facts)


def error(
    name: str, text: str, do: str, facts: Facts = NONE, *, about: str | None = None
) -> Check:
    return Check(name, State.ERROR, text, do, about, facts)


def skipped(name: str, text: str, *, about: str | None = None) -> Check:
    return Check(name, State.SKIPPED, text, None, about)
