"""What a session tells its edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from meshllm.errors import Code


@dataclass(frozen=True, slots=True)
class Activated:
    """READY was said: streams flow on this path."""

    resumed: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """Provider: the client began this stream."""

    stream: int


class Received(NamedTuple):  # one a token
    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Reset by the peer, or with the session. Nothing more comes of this stream.

    Not said of a stream whose two ways have both had their FIN: that one is complete.
    """

    stream: int
    code: Code
    text: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Writable:
    """A writer that was told to wait may go on."""

    stream: int


@dataclass(frozen=True, slots=True)
class Informed:
    stream: int
    json: bytes


@dataclass(frozen=True, slots=True)
class GoingAway:
    last_stream: int
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Signalled:
    """An envelope for a new path came through this one."""

    envelope: bytes


@dataclass(frozen=True, slots=True)
class SessionClosed:
    code: Code
    text: str


Event = (
    Activated
    | Opened
    | Received
    | StreamEnded
    | Writable
    | Informed
    | GoingAway
    | Signalled
    | SessionClosed
)
