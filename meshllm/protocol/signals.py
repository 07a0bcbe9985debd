"""Pure: every signaling message, as values (docs/protocol.md §3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from meshllm.errors import Code
from meshllm.trust.keys import PeerId

CLIENT_MESSAGE_BYTES: Final = 65_536
HUB_MESSAGE_BYTES: Final = 4 << 20  # a welcome carries the whole roster
VERSIONS: Final = (1, 1)


@dataclass(frozen=True, slots=True)
class Challenge:
    server: PeerId
    nonce: bytes
    ts: int
    versions: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Login:
    id: PeerId
    nonce: bytes
    conn: bytes
    sig: bytes
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ice:
    """One entry of RTCConfiguration.iceServers."""

    urls: tuple[str, ...]
    username: str | None
    credential: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Welcome:
    sig: bytes
    roster: tuple[str, ...]
    ice: tuple[Ice, ...]
    statement: str | None
    revocations: str | None


@dataclass(frozen=True, slots=True)
class Announce:
    re: int
    card: str | None


@dataclass(frozen=True, slots=True)
class Roster:
    joined: tuple[str, ...]
    left: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """Told to those who announce: a connection of the mesh has ended, whoever's it
    was. A hint to look, nothing more."""

    conn: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """`sealed` stays the base64url it came as: the hub has no use for the bytes."""

    re: int
    to: PeerId
    conn: bytes | None
    sealed: str


@dataclass(frozen=True, slots=True)
class Signal:
    sender: PeerId
    conn: bytes
    sealed: str


@dataclass(frozen=True, slots=True)
class PutTicket:
    re: int
    id: bytes
    sealed: str
    until: int


@dataclass(frozen=True, slots=True)
class GetTicket:
    re: int
    id: bytes


@dataclass(frozen=True, slots=True)
class SealedTicket:
    re: int
    sealed: str


@dataclass(frozen=True, slots=True)
class LeaveCard:
    re: int
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CardLeft:
    chain: tuple[str, ...]
    conflict: bool


@dataclass(frozen=True, slots=True)
class Grant:
    re: int
    membership: str


@dataclass(frozen=True, slots=True)
class Granted:
    membership: str
    statement: str


@dataclass(frozen=True, slots=True)
class Register:
    re: int
    setup: bytes | None
    statement: str


@dataclass(frozen=True, slots=True)
class Revoke:
    re: int
    revocations: str


@dataclass(frozen=True, slots=True)
class Revoked:
    revocations: str


@dataclass(frozen=True, slots=True)
class NewStatement:
    statement: str


@dataclass(frozen=True, slots=True)
class OpenMailbox:
    re: int


@dataclass(frozen=True, slots=True)
class JoinMailbox:
    re: int
    number: int


@dataclass(frozen=True, slots=True)
class Post:
    """`letter` stays the base64url it came as, like `sealed`."""

    re: int
    letter: str


@dataclass(frozen=True, slots=True)
class Mailbox:
    re: int
    number: int


@dataclass(frozen=True, slots=True)
class Letter:
    letter: str


@dataclass(frozen=True, slots=True)
class MailboxClosed:
    code: Code


@dataclass(frozen=True, slots=True)
class Done:
    re: int


@dataclass(frozen=True, slots=True)
class Refused:
    re: int | None
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Ping:
    re: int


@dataclass(frozen=True, slots=True)
class Pong:
    re: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind that is not ours to know: a newer version speaks."""

    t: str
    re: int | None


Request: TypeAlias = (
    Announce
    | Send
    | PutTicket
    | GetTicket
    | LeaveCard
    | Grant
    | Register
    | Revoke
    | OpenMailbox
    | JoinMailbox
    | Post
)
ClientMessage: TypeAlias = Login | Request | Ping | Pong
HubMessage: TypeAlias = (
    Challenge
    | Welcome
    | Roster
    | Left
    | Signal
    | SealedTicket
    | CardLeft
    | Granted
    | Revoked
    | NewStatement
    | Mailbox
    | Letter
    | MailboxClosed
    | Done
    | Refused
    | Ping
    | Pong
)
Message: TypeAlias = ClientMessage | HubMessage
