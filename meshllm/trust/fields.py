"""Pure: the fields of signed things: how each is written, and strictly read.

A Form is a row of the tables in docs/protocol.md: its keys, and what each may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from meshllm.errors import LocalProtocolError, MeshError, RemoteProtocolError
from meshllm.trust.keys import PeerId, b64decode, b64encode, read_peer_id
from meshllm.trust.strict import MAX_INTEGER

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

NAME_CHARS: Final = 64
MODEL_NAME_CHARS: Final = 256  # hf.co/ORG/REPOSITORY:TAG, each part up to 96
CHAIN_TOKENS: Final = 3
VERSION_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """`read` takes a stranger's value and raises RemoteProtocolError."""

    read: Callable[[object], T]
    write: Callable[[T], object]


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """An object with exactly these keys, read as `of`.

    `names` has the attribute of a key that is called otherwise in Python.
    """

    of: type[T]
    fields: Mapping[str, Field[Any]]
    names: Mapping[str, str] = field(default_factory=dict)

    def read(self, body: object) -> T:
        if not isinstance(body, dict):
            raise RemoteProtocolError("not an object")
        if body.keys() != self.fields.keys():
            wrong = min(body.keys() ^ self.fields.keys())
            raise RemoteProtocolError(f"a missing or unknown key: {wrong[:40]!r}")
        values: dict[str, Any] = {}
        for key, form_field in self.fields.items():
            try:
                values[self.names.get(key, key)] = form_field.read(body[key])
            except RemoteProtocolError as exc:
                raise RemoteProtocolError(f"`{key}`: {exc}") from exc
        return self.of(**values)

    def write(self, value: T) -> dict[str, Any]:
        """Never writes what `read` would refuse: LocalProtocolError instead."""
        body: dict[str, Any] = {}
        for key, form_field in self.fields.items():
            body[key] = form_field.write(getattr(value, self.names.get(key, key)))
        try:
            self.read(body)
        except MeshError as exc:
            what = self.of.__name__.lower()
            raise LocalProtocolError(f"Not a valid {what}: {exc}.") from exc
        return body


def _as_is(value: T) -> T:
    return value


def whole(least: int, most: int = MAX_INTEGER) -> Field[int]:
    """`true` and `1.0` are not whole numbers here."""

    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise RemoteProtocolError(f"not a whole number from {least} to {most}")
        return value

    return Field(read, _as_is)


def raw(size: int) -> Field[bytes]:
    return Field(lambda value: b64decode(value, size), b64encode)


def text(most: int, *, least: int = 0) -> Field[str]:
    """Characters are code points; none is a control character."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise RemoteProtocolError(f"not a text of {least} to {most} characters")
        if any(char < " " or "\x7f" <= char <= "\x9f" for char in value):
            raise RemoteProtocolError("a text with a control character")
        return value

    return Field(read, _as_is)


def one_of(kinds: type[E], *but: E) -> Field[E]:
    allowed = {kind.value: kind for kind in kinds if kind not in but}

    def read(value: object) -> E:
        if not isinstance(value, str) or value not in allowed:
            raise RemoteProtocolError(f"not one of {', '.join(allowed)}")
        return allowed[value]

    return Field(read, lambda kind: kind.value)


def or_null(of: Field[T]) -> Field[T | None]:
    return Field(
        lambda value: None if value is None else of.read(value),
        lambda value: None if value is None else of.write(value),
    )


def listed(of: Field[T], most: int, *, least: int = 0) -> Field[tuple[T, ...]]:
    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise RemoteProtocolError(f"not a list of {least} to {most}")
        return tuple(of.read(item) for item in value)

    return Field(read, lambda values: [of.write(item) for item in values])


def nested(form: Form[T]) -> Field[T]:
    return Field(form.read, form.write)


def _read_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RemoteProtocolError("not an object")
    return value


def _read_null(value: object) -> None:
    if value is not None:
        raise RemoteProtocolError("not null")


def _read_versions(value: object) -> tuple[int, int]:
    low_high = listed(whole(1, VERSION_MAX), 2, least=2).read(value)
    low, high = low_high
    if low > high:
        raise RemoteProtocolError("not [lowest, highest]")
    return low, high


PEER: Final[Field[PeerId]] = Field(read_peer_id, _as_is)
TIME: Final = whole(0)
NAME: Final = text(NAME_CHARS, least=1)
MODEL_NAME: Final = text(MODEL_NAME_CHARS, least=1)
VERSIONS: Final[Field[tuple[int, int]]] = Field(_read_versions, list)
OBJECT: Final[Field[Mapping[str, Any]]] = Field(_read_object, dict)
NULL: Final[Field[None]] = Field(_read_null, _as_is)
# What a token holds is checked where it is verified; here only that it is some text.
TOKEN: Final = text(12_288, least=1)
CHAIN: Final = listed(TOKEN, CHAIN_TOKENS, least=1)
