"""Pure: signaling messages to JSON and strictly back (docs/protocol.md §3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, cast

import orjson

from meshllm.errors import Code, MeshError, RemoteProtocolError
from meshllm.protocol import signals as s
from meshllm.protocol.pairing_messages import LETTER_MAX, MAILBOX_MAX, MAILBOX_MIN
from meshllm.trust.announcement import versions
from meshllm.trust.keys import PEER_ID_CHARS, b64encode, read_peer_id
from meshllm.trust.signed import limit
from meshllm.trust.strict import (
    b64,
    boolean,
    integer,
    listed,
    nested,
    nullable,
    parse_object,
    take,
    text,
)

SEALED_TICKET_CHARS: Final = 40_960  # a statement and a ticket of the largest size
ROSTER_MAX: Final = 4_096  # announcements or ids in one message
TEXT_CHARS: Final = 512
_B32: Final = b"abcdefghijklmnopqrstuvwxyz234567"
_B64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _passed_on(alphabet: bytes, most: int, least: int = 1) -> Callable[[Any], str]:
    """Text that others verify, open or look up: here only its size and alphabet
    count. The hub reads 40,000 of them a second."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise RemoteProtocolError(f"text of {least} to {most} characters expected")
        if not value.isascii() or value.encode().translate(None, alphabet):
            raise RemoteProtocolError("base64url or base32 expected")
        return value

    return read


def _read_code(value: Any) -> Code:
    return Code(integer(min(Code), max(Code))(value))


def _read_ice(value: dict[str, Any]) -> s.Ice:
    readers = {"urls": listed(_text, 16), "username": _nullable_text}
    return s.Ice(**take(value, readers | {"credential": _nullable_text}))


_re = integer(1, 2**31 - 1)
_time = integer()
_text = text(TEXT_CHARS)
_nullable_text = nullable(_text)
_conn = b64(16)
_receiver = _passed_on(_B32, PEER_ID_CHARS, PEER_ID_CHARS)
_statement = _passed_on(_B64 + b".", limit("statement"))
_membership = _passed_on(_B64 + b".", limit("membership"))
_announcement = _passed_on(_B64 + b".", limit("announcement"))
_revocations = _passed_on(_B64 + b".", limit("revocations"))
_chain = listed(_membership, 3)
_roster = listed(_announcement, ROSTER_MAX)
_envelope = _passed_on(_B64, s.CLIENT_MESSAGE_BYTES)
_ticket = _passed_on(_B64, SEALED_TICKET_CHARS)
_letter = _passed_on(_B64, -(-LETTER_MAX * 4 // 3))
_mailbox = integer(MAILBOX_MIN, MAILBOX_MAX)


@dataclass(frozen=True, slots=True)
class _Form:
    """A row of the tables of §3: a message's `t`, its class, its fields' readers, which
    are in the order of the class's own."""

    t: str
    of: Callable[..., Any]
    readers: dict[str, Callable[[Any], Any]]
    attributes: tuple[tuple[str, str], ...]  # keys in JSON, names in Python

    def read(self, fields: dict[str, Any]) -> Any:
        return self.of(*take(fields, self.readers).values())

    def write(self, message: s.Message) -> dict[str, Any]:
        return {key: getattr(message, name) for key, name in self.attributes}


def _form(t: str, of: type[Any], **readers: Callable[[Any], Any]) -> _Form:
    names = (field.name for field in fields(of))
    return _Form(t, of, readers, tuple(zip(readers, names, strict=True)))


_PING = _form("ping", s.Ping, re=_re)
_PONG = _form("pong", s.Pong, re=_re)
_CLIENT: Final = (
    _form(
        "login",
        s.Login,
        id=read_peer_id,
        nonce=b64(32),
        conn=_conn,
        sig=b64(64),
        chain=_chain,
    ),
    _form("announce", s.Announce, re=_re, card=nullable(_announcement)),
    _form("send", s.Send, re=_re, to=_receiver, conn=nullable(_conn), sealed=_envelope),
    _form("put_ticket", s.PutTicket, re=_re, id=b64(8), sealed=_ticket, until=_time),
    _form("get_ticket", s.GetTicket, re=_re, id=b64(8)),
    _form("leave_card", s.LeaveCard, re=_re, chain=_chain),
    _form("grant", s.Grant, re=_re, membership=_membership),
    _form(
        "register", s.Register, re=_re, setup=nullable(b64(16)), statement=_statement
    ),
    _form("revoke", s.Revoke, re=_re, revocations=_revocations),
    _form("open_mailbox", s.OpenMailbox, re=_re),
    _form("join_mailbox", s.JoinMailbox, re=_re, number=_mailbox),
    _form("post", s.Post, re=_re, letter=_letter),
    _PING,
    _PONG,
)
_HUB: Final = (
    _form(
        "challenge",
        s.Challenge,
        server=read_peer_id,
        nonce=b64(32),
        ts=_time,
        versions=versions,
    ),
    _form(
        "welcome",
        s.Welcome,
        sig=b64(64),
        roster=_roster,
        ice=listed(nested(_read_ice), 16),
        statement=nullable(_statement),
        revocations=nullable(_revocations),
    ),
    _form("roster", s.Roster, joined=_roster, left=listed(read_peer_id, ROSTER_MAX)),
    _form("left", s.Left, conn=_conn),
    _form("signal", s.Signal, **{"from": read_peer_id}, conn=_conn, sealed=_envelope),
    _form("ticket", s.SealedTicket, re=_re, sealed=_ticket),
    _form("card", s.CardLeft, chain=_chain, conflict=boolean),
    _form("membership", s.Granted, membership=_membership, statement=_statement),
    _form("revoked", s.Revoked, revocations=_revocations),
    _form("statement", s.NewStatement, statement=_statement),
    _form("mailbox", s.Mailbox, re=_re, number=_mailbox),
    _form("letter", s.Letter, letter=_letter),
    _form("mailbox_closed", s.MailboxClosed, code=_read_code),
    _form("done", s.Done, re=_re),
    _form("error", s.Refused, re=nullable(_re), code=_read_code, text=_text),
    _PING,
    _PONG,
)
_CLIENT_FORMS: Final = {form.t: form for form in _CLIENT}
_HUB_FORMS: Final = {form.t: form for form in _HUB}
_FORM_OF: Final = {form.of: form for form in (*_CLIENT, *_HUB)}


def decode_client(data: str | bytes) -> s.ClientMessage | s.Unknown:
    """What a client sent to the hub. Raises RemoteProtocolError."""
    message = _decode(data, s.CLIENT_MESSAGE_BYTES, _CLIENT_FORMS)
    return cast(s.ClientMessage | s.Unknown, message)


def decode_hub(data: str | bytes) -> s.HubMessage | s.Unknown:
    """What the hub sent to a client. Raises RemoteProtocolError."""
    message = _decode(data, s.HUB_MESSAGE_BYTES, _HUB_FORMS)
    return cast(s.HubMessage | s.Unknown, message)


def _decode(data: str | bytes, most: int, forms: dict[str, _Form]) -> object:
    # What cannot be UTF-8 becomes what strict JSON refuses.
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    body = parse_object(raw, max_bytes=most)
    t = body.pop("t", None)
    if not isinstance(t, str):
        raise RemoteProtocolError("A message without its kind in `t`.")
    form = forms.get(t)
    if form is None:
        re = body.get("re")
        return s.Unknown(t[:64], re if type(re) is int and 0 < re < 2**31 else None)
    try:
        return form.read(body)
    except MeshError as exc:
        raise RemoteProtocolError(f"A malformed `{t}` message: {exc}") from exc


def encode(message: s.Message) -> str:
    form = _FORM_OF[type(message)]
    body = {"t": form.t, **form.write(message)}
    return orjson.dumps(body, default=b64encode).decode()  # bytes are what it lacks
