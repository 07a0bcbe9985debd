"""Heads: how one HTTP exchange is laid out on a stream, `headlen:u32 | head | body`.

Pure: docs/protocol.md §6.1 and §6.4. What stands in a head ends in HTTP headers and
request lines, so the checks here are also what keeps line breaks out of those.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from meshllm.errors import LocalProtocolError, RemoteProtocolError

HEAD_MAX = 12_288
VERSION = 1
TIMINGS_MAX = 32

_LENGTH = struct.Struct(">I")
_ID = re.compile(r"[!-~]{1,128}")
_METHOD = re.compile(r"[A-Z]{1,16}")
_PATH = re.compile(r"/[!-~]{0,2047}")
_MODEL = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
_TYPE = re.compile(r"[ -~]{0,256}")
_TIMING = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`id` runs once. `path` is an absolute path of ASCII; `type` may be empty."""

    id: str
    method: str
    path: str
    model: str | None
    type: str

    def _fields(self) -> dict[str, Any]:
        return {
            "v": VERSION,
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "type": self.type,
        }

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> RequestHead:
        version = fields.get("v")
        if type(version) is not int or version != VERSION:
            raise RemoteProtocolError("a head of another version")
        return cls(
            id=_text(fields, "id", _ID),
            method=_text(fields, "method", _METHOD),
            path=_text(fields, "path", _PATH),
            model=_text_or_null(fields, "model", _MODEL),
            type=_text(fields, "type", _TYPE),
        )


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`status` is 200 to 599; `timing` holds milliseconds by name."""

    status: int
    type: str
    timing: dict[str, float]

    def _fields(self) -> dict[str, Any]:
        return {"status": self.status, "type": self.type, "timing": self.timing}

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> ResponseHead:
        return cls(_status(fields), _text(fields, "type", _TYPE), _timing(fields))


Head = TypeVar("Head", RequestHead, ResponseHead)


def encode_head(head: RequestHead | ResponseHead) -> bytes:
    """The head as the first bytes of its stream. LocalProtocolError beyond 12 KiB."""
    data = orjson.dumps(head._fields())
    if len(data) > HEAD_MAX:
        raise LocalProtocolError(f"a head of {len(data)} bytes; 12,288 are allowed")
    return _LENGTH.pack(len(data)) + data


class HeadReader(Generic[Head]):
    """Finds the head in a stream's bytes, however they are cut.

    `kind` is the class that is expected: `HeadReader(RequestHead)`.
    """

    def __init__(self, kind: type[Head]) -> None:
        self._kind: type[Head] = kind
        self._buffer = bytearray()
        self._is_done = False

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the first bytes of the body, once; None while it is incomplete.

        RemoteProtocolError when it is too long or malformed, whichever shows first.
        """
        if self._is_done:
            raise LocalProtocolError("this stream's head has been read")
        self._buffer += data
        if len(self._buffer) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer)
        if size > HEAD_MAX:
            raise RemoteProtocolError(f"a head of {size} bytes; 12,288 are allowed")
        end = _LENGTH.size + size
        if len(self._buffer) < end:
            return None
        self._is_done = True
        head = self._kind._of(_parse(bytes(self._buffer[_LENGTH.size : end])))
        rest = bytes(self._buffer[end:])
        self._buffer.clear()
        return head, rest


def _parse(data: bytes) -> dict[str, Any]:
    """Repeated keys: the last counts, as everywhere that JSON is read plainly."""
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RemoteProtocolError("a head that is not JSON") from error
    if not isinstance(fields, dict):
        raise RemoteProtocolError("a head that is not a JSON object")
    return fields


def _text(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise RemoteProtocolError(f"a head whose {name} is missing or malformed")
    return value


def _text_or_null(
    fields: dict[str, Any], name: str, pattern: re.Pattern[str]
) -> str | None:
    if name in fields and fields[name] is None:
        return None
    return _text(fields, name, pattern)


def _status(fields: dict[str, Any]) -> int:
    value = fields.get("status")
    if type(value) is not int or not 200 <= value <= 599:
        raise RemoteProtocolError("a head whose status is not 200 to 599")
    return value


def _timing(fields: dict[str, Any]) -> dict[str, float]:
    value = fields.get("timing")
    if not isinstance(value, dict) or len(value) > TIMINGS_MAX:
        raise RemoteProtocolError("a head whose timing is missing or too long")
    return {_timing_name(name): _milliseconds(ms) for name, ms in value.items()}


def _timing_name(name: str) -> str:
    if not _TIMING.fullmatch(name):
        raise RemoteProtocolError("a head whose timing has a malformed name")
    return name


def _milliseconds(value: object) -> float:
    """A bool is an int in Python; infinities are not JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise RemoteProtocolError("a head whose timing is not in milliseconds")
    return float(value)
