"""Strict JSON, and the fields of objects that strangers send.

One reading for everyone: what is ambiguous, unknown or out of bounds is refused.
docs/protocol.md §1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from meshllm.errors import MeshError, RemoteProtocolError
from meshllm.trust.keys import b64decode

INTEGER_MAX = (1 << 53) - 1  # beyond it JavaScript reads two integers as one
NAME_MAX = 64

_CONTAINERS = (dict, list)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def parse_object(data: bytes, *, max_bytes: int, max_depth: int = 16) -> dict[str, Any]:
    """One JSON object. RemoteProtocolError says what is wrong with it."""
    if len(data) > max_bytes:
        raise RemoteProtocolError(f"{len(data)} bytes of JSON; {max_bytes} are allowed")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError("this is not JSON") from error
    if not isinstance(value, dict):
        raise RemoteProtocolError("a JSON object was expected")
    _check_depth(value, max_depth)
    if b"\\" in data:  # what came as UTF-8 has a lone surrogate only by an escape
        _check_text(value)
    return value


def take(
    fields: Mapping[str, Any], readers: Mapping[str, Callable[[Any], Any]]
) -> dict[str, Any]:
    """Every field read by its reader; exactly those keys. RemoteProtocolError else."""
    if fields.keys() != readers.keys():
        odd = ascii(sorted(fields.keys() ^ readers.keys()))  # a stranger chose them
        raise RemoteProtocolError(f"missing or unknown fields: {odd[:200]}")
    read = {}
    for key, reader in readers.items():
        try:
            read[key] = reader(fields[key])
        except MeshError as error:
            raise RemoteProtocolError(f"field {key}: {error}") from error
    return read


def integer(low: int = 0, high: int = INTEGER_MAX) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise RemoteProtocolError(f"an integer from {low} to {high} expected")
        return value

    return read


def text(most: int, least: int = 0) -> Callable[[Any], str]:
    """`least` to `most` characters, none of them a control character."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise RemoteProtocolError(f"text of {least} to {most} characters expected")
        if _CONTROL.search(value):
            raise RemoteProtocolError("text without control characters expected")
        return value

    return read


name = text(NAME_MAX, 1)


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise RemoteProtocolError("true or false expected")
    return value


def b64(size: int) -> Callable[[Any], bytes]:
    return lambda value: b64decode(value, size)


def nullable(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else reader(value)


def listed(
    reader: Callable[[Any], Any], most: int, least: int = 0
) -> Callable[[Any], tuple[Any, ...]]:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise RemoteProtocolError(f"a list of {least} to {most} expected")
        return tuple(reader(item) for item in value)

    return read


def nested(build: Callable[[dict[str, Any]], Any]) -> Callable[[Any], Any]:
    """An object inside an object."""

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise RemoteProtocolError("a JSON object expected")
        return build(value)

    return read


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a repeated key")
    return found


def _no(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is not finite")
    return number


def _integer(digits: str) -> int:
    # -9007199254740991 has 17; converting thousands would take time
    if len(digits) > 17 or abs(number := int(digits)) > INTEGER_MAX:
        raise RemoteProtocolError("an integer beyond 2^53")
    return number


# Made once: its scanner is C, but what `json.loads` makes for each call is not free.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_no,
    parse_int=_integer,
    parse_float=_finite,
)


def _check_depth(value: Any, depth: int) -> None:
    if depth == 0:
        raise RemoteProtocolError("JSON that is nested too deeply")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, _CONTAINERS):
            _check_depth(item, depth - 1)


def _check_text(value: Any) -> None:
    """That every string is text, keys among them."""
    match value:
        case str() if _SURROGATE.search(value):
            raise RemoteProtocolError("JSON with a lone surrogate")
        case list():
            for item in value:
                _check_text(item)
        case dict():
            for key, item in value.items():
                _check_text(key)
                _check_text(item)
