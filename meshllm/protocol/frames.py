"""Frames: the smallest things two peers say to each other on a path.

A message is one or more whole frames, at most 16,384 bytes; a frame is
`type:u8 len:u16 payload`, big-endian. docs/protocol.md §6 has the table that this file
follows line by line.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from meshllm.errors import Code, LocalProtocolError, RemoteProtocolError

MESSAGE_MAX = 16_384  # above it some SCTP stacks interleave badly; see decisions/0003
HEADER = 3
OFFSET_MAX = 1 << 48
TEXT_MAX = 512
INFO_MAX = 4_096
ENVELOPE_MAX = 12_288
RESUME_STREAMS_MAX = 128
DATA_OVERHEAD = HEADER + 4 + 8 + 1
DATA_MAX = MESSAGE_MAX - DATA_OVERHEAD
HELLO_SIZE = HEADER + 1 + 32 + 64
ACK_SIZE = HEADER + 4 + 8 + 8

OPEN_STATE, FIN_STATE, RESET_STATE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Hello:
    role: int
    nonce_reveal: bytes
    sig: bytes


@dataclass(frozen=True, slots=True)
class Open:
    session: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream in RESUME and READY: what the sender holds and grants."""

    stream: int
    rx: int
    max: int
    state: int


@dataclass(frozen=True, slots=True)
class Resume:
    session: bytes
    epoch: int
    streams: tuple[StreamState, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    epoch: int
    streams: tuple[StreamState, ...]


class Data(NamedTuple):  # one a token: made in a third of a dataclass's time
    stream: int
    off: int
    fin: bool
    payload: bytes


class Ack(NamedTuple):
    stream: int
    ack: int
    max: int


@dataclass(frozen=True, slots=True)
class Reset:
    stream: int
    code: Code
    retryable: bool
    text: str


@dataclass(frozen=True, slots=True)
class PathAck:
    rx: int


@dataclass(frozen=True, slots=True)
class Ping:
    id: int


@dataclass(frozen=True, slots=True)
class Pong:
    id: int


@dataclass(frozen=True, slots=True)
class Pad:
    """Carries nothing: its arrival makes the peer acknowledge what came before."""


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream: int
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Signal:
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Close:
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Info:
    stream: int
    json: bytes


Frame = (
    Hello
    | Open
    | Resume
    | Ready
    | Data
    | Ack
    | Reset
    | PathAck
    | Ping
    | Pong
    | Pad
    | GoAway
    | Signal
    | Close
    | Info
)

_HEADER = struct.Struct(">BH")
_OPEN = struct.Struct(">16sI")
_RESUME = struct.Struct(">16sIB")
_READY = struct.Struct(">IB")
_STATE = struct.Struct(">IQQB")
_DATA = struct.Struct(">BHIQB")  # with its frame header: the hot path packs once
_DATA_BODY = struct.Struct(">IQB")
_ACK = struct.Struct(">IQQ")
_RESET = struct.Struct(">IHB")
_PATHACK = struct.Struct(">Q")
_ID = struct.Struct(">I")
_GOAWAY = struct.Struct(">IH")
_CLOSE = struct.Struct(">H")


def encode(frame: Frame) -> bytes:
    """The frame with its header. LocalProtocolError when no peer would take it."""
    match frame:
        case Data():
            return encode_data(frame)
        case Ack(stream, ack, limit):
            return _frame(0x11, _ACK.pack(stream, ack, limit))
        case PathAck(rx):
            return _frame(0x13, _PATHACK.pack(rx))
        case Hello(role, nonce_reveal, sig):
            return _sized(0x01, bytes([role]) + nonce_reveal + sig, 97, 97)
        case Open(session, epoch):
            return _frame(0x02, _OPEN.pack(session, epoch))
        case Resume(session, epoch, streams):
            head = _RESUME.pack(session, epoch, len(streams))
            return _frame(0x03, head + _pack_states(streams))
        case Ready(epoch, streams):
            head = _READY.pack(epoch, len(streams))
            return _frame(0x04, head + _pack_states(streams))
        case Reset(stream, code, retryable, text):
            return _frame(0x12, _RESET.pack(stream, code, retryable) + _text(text))
        case Ping(id):
            return _frame(0x20, _ID.pack(id))
        case Pong(id):
            return _frame(0x21, _ID.pack(id))
        case Pad():
            return _frame(0x22, b"")
        case GoAway(last_stream, code, text):
            return _frame(0x23, _GOAWAY.pack(last_stream, code) + _text(text))
        case Signal(envelope):
            return _sized(0x24, envelope, 1, ENVELOPE_MAX)
        case Close(code, text):
            return _frame(0x25, _CLOSE.pack(code) + _text(text))
        case _:
            return _sized(0x80, _ID.pack(frame.stream) + frame.json, 4, INFO_MAX)


def encode_data(frame: Data) -> bytes:
    """The same for what is sent most."""
    stream, off, fin, payload = frame
    size = _DATA_BODY.size + len(payload)
    if size > MESSAGE_MAX - HEADER:
        raise LocalProtocolError(f"a DATA frame of {len(payload)} bytes")
    return _DATA.pack(0x10, size, stream, off, fin) + payload


def decode(message: bytes) -> list[Frame]:
    """Every frame of one message, unknown optional types left out.

    RemoteProtocolError when a frame is cut, malformed, oversized, or of an unknown
    type below 0x80.
    """
    if len(message) > MESSAGE_MAX:
        raise RemoteProtocolError(f"a message of {len(message)} bytes")
    frames: list[Frame] = []
    at, end = 0, len(message)
    while at < end:
        if end - at < HEADER:
            raise RemoteProtocolError("a message ends inside a frame header")
        kind, size = _HEADER.unpack_from(message, at)
        at += HEADER
        if end - at < size:
            raise RemoteProtocolError("a message ends inside a frame")
        if kind == 0x10:
            frames.append(_decode_data(message, at, size))
        else:
            frame = _decode(kind, message[at : at + size])
            if frame is not None:
                frames.append(frame)
        at += size
    return frames


def _frame(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


def _sized(kind: int, payload: bytes, least: int, most: int) -> bytes:
    if not least <= len(payload) <= most:
        raise LocalProtocolError(f"a frame of type {kind:#x} and {len(payload)} bytes")
    return _frame(kind, payload)


def _pack_states(states: tuple[StreamState, ...]) -> bytes:
    if len(states) > RESUME_STREAMS_MAX:
        raise LocalProtocolError(f"{len(states)} streams in one RESUME")
    return b"".join(_STATE.pack(s.stream, s.rx, s.max, s.state) for s in states)


def _text(text: str) -> bytes:
    """At most 512 bytes, cut between characters."""
    return text.encode("utf-8", "replace")[:TEXT_MAX].decode("utf-8", "ignore").encode()


def _decode_data(message: bytes, at: int, size: int) -> Data:
    if size < _DATA_BODY.size:
        raise RemoteProtocolError("a DATA frame without its header")
    stream, off, flags = _DATA_BODY.unpack_from(message, at)
    payload = message[at + _DATA_BODY.size : at + size]
    if off + len(payload) >= OFFSET_MAX:
        raise RemoteProtocolError("an offset beyond 2^48")
    if flags > 1:
        raise RemoteProtocolError(f"unknown DATA flags {flags:#x}")
    return Data(stream, off, flags == 1, payload)


def _decode(kind: int, body: bytes) -> Frame | None:
    try:
        return _decode_control(kind, body)
    except (struct.error, ValueError) as error:
        raise RemoteProtocolError(f"a malformed frame of type {kind:#x}") from error


def _decode_control(kind: int, body: bytes) -> Frame | None:
    match kind:
        case 0x01:
            _exactly(body, HELLO_SIZE - HEADER)
            return Hello(body[0], body[1:33], body[33:])
        case 0x02:
            return Open(*_OPEN.unpack(body))
        case 0x03:
            session, epoch, count = _RESUME.unpack_from(body)
            return Resume(session, epoch, _unpack_states(body, _RESUME.size, count))
        case 0x04:
            epoch, count = _READY.unpack_from(body)
            return Ready(epoch, _unpack_states(body, _READY.size, count))
        case 0x11:
            return _decode_ack(body)
        case 0x12:
            stream, code, retryable = _RESET.unpack_from(body)
            if retryable > 1:
                raise ValueError("retryable is 0 or 1")
            return Reset(stream, _code(code), retryable == 1, _read_text(body[7:]))
        case 0x13:
            return PathAck(*_PATHACK.unpack(body))
        case 0x20:
            return Ping(*_ID.unpack(body))
        case 0x21:
            return Pong(*_ID.unpack(body))
        case 0x22:
            _exactly(body, 0)
            return Pad()
        case _:
            return _decode_rare(kind, body)


def _decode_rare(kind: int, body: bytes) -> Frame | None:
    match kind:
        case 0x23:
            last_stream, code = _GOAWAY.unpack_from(body)
            return GoAway(last_stream, _code(code), _read_text(body[6:]))
        case 0x24:
            if not 0 < len(body) <= ENVELOPE_MAX:
                raise ValueError("the size of an envelope")
            return Signal(body)
        case 0x25:
            (code,) = _CLOSE.unpack_from(body)
            return Close(_code(code), _read_text(body[2:]))
        case 0x80:
            (stream,) = _ID.unpack_from(body)
            if len(body) > INFO_MAX:
                raise ValueError("the size of an INFO")
            return Info(stream, body[4:])
    if kind < 0x80:
        raise RemoteProtocolError(f"an unknown frame type {kind:#x}")
    return None


def _decode_ack(body: bytes) -> Ack:
    stream, ack, limit = _ACK.unpack(body)
    if max(ack, limit) > OFFSET_MAX:
        raise ValueError("an offset beyond 2^48")
    return Ack(stream, ack, limit)


def _unpack_states(body: bytes, at: int, count: int) -> tuple[StreamState, ...]:
    _exactly(body, at + count * _STATE.size)
    if count > RESUME_STREAMS_MAX:
        raise ValueError("too many streams")
    states = tuple(StreamState(*fields) for fields in _STATE.iter_unpack(body[at:]))
    if any(s.state > RESET_STATE or max(s.rx, s.max) > OFFSET_MAX for s in states):
        raise ValueError("a stream's state")
    if len({s.stream for s in states}) != count:
        raise ValueError("a stream listed twice")
    return states


def _exactly(body: bytes, size: int) -> None:
    if len(body) != size:
        raise ValueError(f"{size} bytes expected")


def _code(value: int) -> Code:
    """A code of a later version means no more to us than that something failed."""
    try:
        return Code(value)
    except ValueError:
        return Code.INTERNAL


def _read_text(data: bytes) -> str:
    if len(data) > TEXT_MAX:
        raise ValueError("the size of a text")
    return data.decode("utf-8")
