"""Visits: opened only by whom they are for, answered only by who could open them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey

from meshllm.errors import (
    Code,
    LocalProtocolError,
    MeshError,
    NotAllowed,
    RemoteProtocolError,
    TrustError,
)
from meshllm.protocol import visit as v
from meshllm.trust import signed
from meshllm.trust.keys import b64encode
from tests.fakes.people import NOW, id_of, key

ANN, BOB, EVE, MESH = (id_of(name) for name in ("ann", "bob", "eve", "root"))
ANNS_BOX, BOBS_BOX = PrivateKey(b"a" * 32), PrivateKey(b"b" * 32)
EPHEMERAL, NONCE = PrivateKey(b"e" * 32), b"n" * 24
SALT = b"s" * 16
VISIT = v.Visit(
    sender=ANN,
    to=BOB,
    box=ANNS_BOX.public_key.encode(),
    nonce=b"o" * 32,
    ts=NOW,
    chain=("statement", "membership"),
)
REPLY = v.Reply(
    nonce=VISIT.nonce,
    announcement="announcement",
    statement="statement",
    revocations="revocations",
    membership="membership",
    server=v.Server("https://hub.example", id_of("hub")),
)


def sealed(visit: v.Visit = VISIT, revocations: str | None = "list") -> bytes:
    return v.seal_visit(
        visit, revocations, key("ann"), BOBS_BOX.public_key.encode(), EPHEMERAL, NONCE
    )


def answered(reply: v.Reply) -> bytes:
    return v.seal_reply(reply, VISIT.box, EPHEMERAL, NONCE)


def contact() -> v.Contact:
    return v.Contact.of(BOB, BOBS_BOX.public_key.encode(), SALT, MESH)


def test_a_contact_names_its_mesh_to_those_who_know_it() -> None:
    read = v.Contact.read(contact().sign(key("bob")))
    assert read == contact()
    assert read.is_in(MESH)
    assert not read.is_in(id_of("another root"))
    assert MESH not in contact().sign(key("bob"))


def test_a_contact_is_signed_by_the_node_it_names() -> None:
    with pytest.raises(TrustError):
        v.Contact.read(contact().sign(key("eve")))
    with pytest.raises(TrustError):
        v.Contact.read("no contact")


def test_a_visit_arrives_as_it_was_sent() -> None:
    assert v.open_visit(sealed(), BOBS_BOX, me=BOB) == (VISIT, "list")
    assert v.open_visit(sealed(revocations=None), BOBS_BOX, me=BOB) == (VISIT, None)


def test_a_visit_is_for_one_node() -> None:
    with pytest.raises(TrustError, match="not sealed to this node"):
        v.open_visit(sealed(), ANNS_BOX, me=BOB)
    with pytest.raises(TrustError, match="somebody else"):
        v.open_visit(sealed(), BOBS_BOX, me=EVE)


def test_nobody_visits_in_anothers_name() -> None:
    with pytest.raises(TrustError):
        v.open_visit(sealed(replace(VISIT, sender=EVE)), BOBS_BOX, me=BOB)


def test_clocks_may_differ_by_five_minutes() -> None:
    v.check_clock(VISIT, NOW + 300)
    with pytest.raises(NotAllowed, match="differ by 301 s") as refused:
        v.check_clock(VISIT, NOW - 301)
    assert refused.value.code is Code.CLOCK_SKEW


def test_a_reply_arrives_as_it_was_sent() -> None:
    assert v.open_reply(answered(REPLY), ANNS_BOX, VISIT) == REPLY
    empty = v.Reply(VISIT.nonce)
    assert v.open_reply(answered(empty), ANNS_BOX, VISIT) == empty


def test_only_who_opened_the_visit_can_reply() -> None:
    another = answered(replace(REPLY, nonce=b"?" * 32))
    with pytest.raises(TrustError, match="another visit"):
        v.open_reply(another, ANNS_BOX, VISIT)


def test_a_refusal_says_why() -> None:
    refused = v.Reply(VISIT.nonce, refused=v.Refused(Code.REVOKED, "Go away."))
    with pytest.raises(NotAllowed, match=r"Go away\.") as error:
        v.open_reply(answered(refused), ANNS_BOX, VISIT)
    assert error.value.code is Code.REVOKED


def test_a_code_of_a_later_version_is_internal() -> None:
    assert v.Refused.from_json({"code": 999, "text": ""}).code is Code.INTERNAL


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"visit": 1, "revocations": None},
        {"visit": "x", "revocations": None, "more": 1},
        {"visit": "x", "revocations": None},
    ],
)
def test_what_is_no_visit_is_refused(body: dict[str, Any]) -> None:
    data = v._seal(body, BOBS_BOX.public_key.encode(), EPHEMERAL, NONCE, v.VISIT_MAX)
    with pytest.raises((RemoteProtocolError, TrustError)):
        v.open_visit(data, BOBS_BOX, me=BOB)


def test_a_visit_holds_the_largest_list_and_no_more() -> None:
    largest = "x" * signed.LONG_TOKEN_MAX
    assert len(sealed(revocations=largest)) <= v.VISIT_MAX
    with pytest.raises(LocalProtocolError, match="too large"):
        sealed(revocations="x" * v.VISIT_MAX)


def test_a_reply_holds_the_largest_of_everything() -> None:
    long, short = "x" * signed.LONG_TOKEN_MAX, "x" * signed.TOKEN_MAX
    full = replace(
        REPLY, announcement=long, revocations=long, statement=short, membership=short
    )
    assert v.open_reply(answered(full), ANNS_BOX, VISIT) == full


def test_a_list_is_carried_unread() -> None:
    """Who issued it is its own to prove."""
    token = b64encode(b"{}") + "." + b64encode(bytes(64))
    assert v.open_visit(sealed(revocations=token), BOBS_BOX, me=BOB)[1] == token


@given(st.integers(0, 4_095), st.integers(1, 255))
def test_every_byte_of_a_visit_is_bound(at: int, change: int) -> None:
    data = bytearray(sealed())
    data[at % len(data)] ^= change
    with pytest.raises(MeshError):
        v.open_visit(bytes(data), BOBS_BOX, me=BOB)
