"""Signaling messages: each there and back, and what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import Code, RemoteProtocolError
from meshllm.protocol import signals as s
from meshllm.protocol.signal_codec import decode_client, decode_hub, encode
from meshllm.trust.keys import b64encode, peer_id

ID = peer_id(bytes(range(32)))
CONN = bytes(range(16))
TOKEN = "Ym9keQ.c2ln"

FROM_CLIENTS: list[s.ClientMessage] = [
    s.Login(ID, bytes(32), CONN, bytes(64), ()),
    s.Login(ID, bytes(32), CONN, bytes(64), (TOKEN, TOKEN, TOKEN)),
    s.Announce(1, TOKEN),
    s.Announce(2**31 - 1, None),
    s.Send(1, ID, CONN, "c2VhbGVk"),
    s.Send(1, ID, None, "c2VhbGVk"),
    s.PutTicket(1, b"8 bytes!", "c2VhbGVk", 2_000_000_000),
    s.GetTicket(1, b"8 bytes!"),
    s.LeaveCard(1, (TOKEN, TOKEN, TOKEN)),
    s.Grant(1, TOKEN),
    s.Register(1, CONN, TOKEN),
    s.Register(1, None, TOKEN),
    s.Revoke(1, TOKEN),
    s.OpenMailbox(1),
    s.JoinMailbox(1, 412),
    s.Post(1, "x" * 10_923),
    s.Ping(1),
    s.Pong(1),
]
FROM_HUBS: list[s.HubMessage] = [
    s.Challenge(ID, bytes(32), 1_800_000_000, (1, 1)),
    s.Welcome(bytes(64), (), (), None, None),
    s.Welcome(
        bytes(64),
        (TOKEN, TOKEN),
        (
            s.Ice(("stun:stun.example.org",), None, None),
            s.Ice(("turn:a", "turns:b"), "user", "password"),
        ),
        TOKEN,
        TOKEN,
    ),
    s.Roster((TOKEN,), (ID,)),
    s.Left(CONN),
    s.Signal(ID, CONN, "c2VhbGVk"),
    s.SealedTicket(1, "c2VhbGVk"),
    s.CardLeft((TOKEN, TOKEN, TOKEN), True),
    s.Granted(TOKEN, TOKEN),
    s.Revoked(TOKEN),
    s.NewStatement(TOKEN),
    s.Mailbox(1, 999),
    s.Letter("bGV0dGVy"),
    s.MailboxClosed(Code.GONE),
    s.Done(1),
    s.Refused(None, Code.AUTH, "No."),
    s.Refused(1, Code.INTERNAL, ""),
    s.Ping(1),
    s.Pong(1),
]


@pytest.mark.parametrize("message", FROM_CLIENTS, ids=lambda m: type(m).__name__)
def test_clients_messages_go_there_and_back(message: s.ClientMessage) -> None:
    assert decode_client(encode(message)) == message
    assert decode_client(encode(message).encode()) == message


@pytest.mark.parametrize("message", FROM_HUBS, ids=lambda m: type(m).__name__)
def test_the_hubs_messages_go_there_and_back(message: s.HubMessage) -> None:
    assert decode_hub(encode(message)) == message


def test_a_message_is_what_the_contract_says() -> None:
    """docs/protocol.md §3.2, spelled by hand."""
    assert json.loads(encode(s.Signal(ID, CONN, "c2VhbGVk"))) == {
        "t": "signal",
        "from": ID,
        "conn": "AAECAwQFBgcICQoLDA0ODw",
        "sealed": "c2VhbGVk",
    }
    assert json.loads(encode(s.Refused(None, Code.GONE, "Away."))) == {
        "t": "error",
        "re": None,
        "code": 13,
        "text": "Away.",
    }
    ice = s.Ice(("stun:s",), None, None)
    assert json.loads(encode(s.Welcome(bytes(64), (), (ice,), None, None)))["ice"] == [
        {"urls": ["stun:s"], "username": None, "credential": None}
    ]


def changed(message: s.Message, **fields: Any) -> str:
    return json.dumps(json.loads(encode(message)) | fields)


def without(message: s.Message, key: str) -> str:
    body = json.loads(encode(message))
    del body[key]
    return json.dumps(body)


@pytest.mark.parametrize("message", FROM_CLIENTS, ids=lambda m: type(m).__name__)
def test_an_unknown_or_missing_key_is_refused(message: s.ClientMessage) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_client(changed(message, extra=1))
    for key in json.loads(encode(message)):
        with pytest.raises(RemoteProtocolError):
            decode_client(without(message, key))


SEND = s.Send(1, ID, CONN, "c2VhbGVk")
LOGIN = FROM_CLIENTS[0]
PUT = FROM_CLIENTS[6]


@pytest.mark.parametrize(
    "data",
    [
        changed(SEND, re=0),
        changed(SEND, re=2**31),
        changed(SEND, re=True),
        changed(SEND, re="1"),
        changed(SEND, re=None),
        changed(SEND, to=ID.upper()),
        changed(SEND, to=ID[:8]),
        changed(SEND, to=None),
        changed(SEND, conn=b64encode(bytes(15))),
        changed(SEND, conn="AAECAwQFBgcICQoLDA0ODw=="),
        changed(SEND, conn="AAECAwQFBgcICQoLDA0ODx"),  # set trailing bits
        changed(SEND, conn=7),
        changed(SEND, sealed=""),
        changed(SEND, sealed="a+b/"),
        changed(SEND, sealed="a.b"),
        changed(SEND, sealed="é"),
        changed(SEND, sealed=None),
        changed(LOGIN, sig=b64encode(bytes(63))),
        changed(LOGIN, chain=[TOKEN] * 4),
        changed(LOGIN, chain=TOKEN),
        changed(LOGIN, chain=[1]),
        changed(LOGIN, chain=["x" * 12_289]),
        changed(PUT, until=-1),
        changed(PUT, until=1.5),
        changed(PUT, sealed="x" * 40_961),
        changed(s.Announce(1, TOKEN), card="x" * 49_153),
        changed(s.Announce(1, TOKEN), card="with space"),
        changed(s.JoinMailbox(1, 412), number=99),
        changed(s.JoinMailbox(1, 412), number=1_000),
        changed(s.JoinMailbox(1, 412), number="412"),
        changed(s.Post(1, "bGV0dGVy"), letter="x" * 10_924),
        changed(s.Post(1, "bGV0dGVy"), letter=""),
    ],
)
def test_a_malformed_field_is_refused(data: str) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_client(data)


@pytest.mark.parametrize(
    "data",
    [
        changed(s.Refused(1, Code.AUTH, "No."), code=0),
        changed(s.Refused(1, Code.AUTH, "No."), code=19),
        changed(s.Refused(1, Code.AUTH, "No."), code="auth"),
        changed(s.Refused(1, Code.AUTH, "No."), text="x" * 513),
        changed(s.Refused(1, Code.AUTH, "No."), text="\x1b[2J"),
        changed(s.CardLeft((), True), conflict=1),
        changed(FROM_HUBS[0], versions=[2, 1]),
        changed(FROM_HUBS[0], versions=[1]),
        changed(FROM_HUBS[1], ice=[{"urls": ["stun:x"]}]),
        changed(FROM_HUBS[1], ice=["stun:x"]),
        changed(FROM_HUBS[1], roster={}),
    ],
)
def test_a_malformed_field_of_the_hub_is_refused(data: str) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_hub(data)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"t":1}',
        '{"t":"ping","re":1}x',
        '{"t":"ping","re":1,"re":1}',
        '{"t":"ping","t":"pong","re":1}',
        '{"t":"ping","re":NaN}',
        '{"t":"ping","re":1,"x":"\\ud800"}',
        "\ud800",
        b"\xff",
        b'\xef\xbb\xbf{"t":"ping","re":1}',
        '{"t":' * 5_000,
        '{"t":"ping","re":1}' + " " * 65_536,
    ],
)
def test_what_is_no_message_is_refused(data: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_client(data)


def test_a_client_may_not_speak_as_the_hub_nor_the_hub_as_a_client() -> None:
    assert isinstance(decode_client(encode(s.Done(1))), s.Unknown)
    assert isinstance(decode_hub(encode(s.GetTicket(1, bytes(8)))), s.Unknown)


@pytest.mark.parametrize(
    ("data", "re"),
    [
        ('{"t":"later","re":7,"new":[1]}', 7),
        ('{"t":"later"}', None),
        ('{"t":"later","re":"7"}', None),
        ('{"t":"later","re":true}', None),
        ('{"t":"later","re":0}', None),
        ('{"t":"later","re":2147483648}', None),
    ],
)
def test_a_kind_of_a_later_version_is_unknown(data: str, re: int | None) -> None:
    assert decode_client(data) == s.Unknown("later", re)


def test_an_unknown_kind_has_a_short_name() -> None:
    assert decode_client('{"t":"%s"}' % ("x" * 1000)) == s.Unknown("x" * 64, None)


def test_the_largest_welcome_passes() -> None:
    roster = tuple("x" * 49_152 for _ in range(40))

    message = s.Welcome(bytes(64), roster, (), None, "x" * 12_288)

    assert decode_hub(encode(message)) == message


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_strangers_bytes_are_a_message_or_refused(data: bytes | str) -> None:
    for decode in (decode_client, decode_hub):
        with contextlib.suppress(RemoteProtocolError):
            decode(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(message=st.sampled_from(FROM_CLIENTS + FROM_HUBS), data=st.data())
def test_any_json_in_any_field_is_a_message_or_refused(
    message: s.Message, data: st.DataObject
) -> None:
    body = json.loads(encode(message))
    key = data.draw(st.sampled_from(sorted(body)))
    body[key] = data.draw(json_values)
    for decode in (decode_client, decode_hub):
        with contextlib.suppress(RemoteProtocolError):
            decode(json.dumps(body))
