"""Every error this project raises on purpose, and the codes that cross the wire.

MeshError                 one clear sentence; the command line prints just that
├── ProtocolError         a frame, envelope or message broke docs/protocol.md
│   ├── RemoteProtocolError   the peer did it: the path or the request ends
│   └── LocalProtocolError    we did it: a bug
├── TrustError            a signature, chain or ticket does not hold
├── NotAllowed            valid, but not permitted here (carries a Code)
├── PeerUnreachable       no path to a peer, or it went away
│   └── PeerGone              the signaling server says that it is not there
├── StreamReset           one exchange ended early (carries a Code)
├── BackendError          the model server failed (carries an HTTP status)
└── ConfigError           something the user can mend: a file, an option, a port
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Why a stream, path or session ended (docs/protocol.md §8)."""

    PROTOCOL = 1
    VERSION = 2
    AUTH = 3
    REVOKED = 4
    FORBIDDEN = 5
    QUOTA = 6
    BUSY = 7
    NO_MODEL = 8
    BACKEND = 9
    TIMEOUT = 10
    CANCELLED = 11
    SLOW_READER = 12
    GONE = 13
    UNKNOWN_SESSION = 14
    DRAINING = 15
    TOO_LARGE = 16
    CLOCK_SKEW = 17
    INTERNAL = 18


class MeshError(Exception):
    """Says what happened and what to do about it, in one sentence or two."""


class ProtocolError(MeshError):
    """A frame, envelope or message broke docs/protocol.md."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""


class LocalProtocolError(ProtocolError):
    """We broke the protocol: a bug of ours."""


class TrustError(MeshError):
    """A signature, chain or ticket does not hold."""


class NotAllowed(MeshError):
    """Valid, but not permitted here."""

    def __init__(self, message: str, code: Code = Code.FORBIDDEN) -> None:
        super().__init__(message)
        self.code = code


class PeerUnreachable(MeshError):
    """No path to the peer, or it went away."""


class PeerGone(PeerUnreachable):
    """The signaling server was asked, and knows of no such connection."""


class StreamReset(MeshError):
    """One exchange ended before its FIN."""

    def __init__(self, code: Code, text: str, *, retryable: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.retryable = retryable


class BackendError(MeshError):
    """The model server failed; `status` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


class ConfigError(MeshError):
    """Something the user can mend: a file, an option, a port."""
