"""Pure: JSON that means the same to everybody (docs/protocol.md §1, Strict JSON).

Parsers differ on repeated keys, NaN, lone surrogates and large numbers; what two
parsers read differently can be signed as one thing and obeyed as another.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from meshllm.errors import RemoteProtocolError

MAX_DEPTH: Final = 16
MAX_INTEGER: Final = 2**53 - 1  # beyond it JavaScript reads two integers as one
_INTEGER_CHARS: Final = 17  # sign and 16 digits; int() of more is slow


def parse_object(
    data: bytes | str, *, max_bytes: int, max_depth: int = MAX_DEPTH
) -> dict[str, Any]:
    """The JSON object in `data`. Raises RemoteProtocolError, whatever the bytes are."""
    try:
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > max_bytes:
            raise RemoteProtocolError(f"JSON of {len(raw)} bytes; {max_bytes} at most")
        value = json.loads(
            raw.decode(),  # json.loads(bytes) would also take UTF-16
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
        if not isinstance(value, dict):
            raise RemoteProtocolError("JSON that is not an object")
        _check(value, max_depth)
    except UnicodeError as exc:
        raise RemoteProtocolError("JSON with what is no character") from exc
    except ValueError as exc:
        raise RemoteProtocolError("malformed JSON") from exc
    except RecursionError as exc:
        raise RemoteProtocolError("JSON nested too deeply") from exc
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise RemoteProtocolError("JSON with a repeated key")
    return value


def _integer(digits: str) -> int:
    if len(digits) > _INTEGER_CHARS or abs(number := int(digits)) > MAX_INTEGER:
        raise RemoteProtocolError("JSON with an integer beyond 2^53")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):  # 1e999
        raise RemoteProtocolError("JSON with a number that is not finite")
    return number


def _constant(name: str) -> NoReturn:
    raise RemoteProtocolError(f"JSON with {name}")


def _check(value: object, depth: int) -> None:
    """Depth, and surrogates that came as escapes."""
    match value:
        case str():
            _check_text(value)
        case dict():
            _check_depth(depth)
            for key, item in value.items():
                _check_text(key)
                _check(item, depth - 1)
        case list():
            _check_depth(depth)
            for item in value:
                _check(item, depth - 1)


def _check_depth(depth: int) -> None:
    if depth == 0:
        raise RemoteProtocolError("JSON nested too deeply")


def _check_text(text: str) -> None:
    text.encode()  # UnicodeError for half a surrogate pair
