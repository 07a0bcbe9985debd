"""The signed form: what verifies is what was signed, as what it was signed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from meshllm.errors import (
    LocalProtocolError,
    MeshError,
    RemoteProtocolError,
    TrustError,
)
from meshllm.trust import signed
from meshllm.trust.keys import b64decode, b64encode, peer_id

KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
BODY = {"id": peer_id(PUBLIC), "n": 7, "name": "Käthe"}
TOKEN = signed.sign("card", BODY, KEY)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0é"


def forge(data: bytes, key: SigningKey = KEY, kind: str = "card") -> str:
    """A good signature over any bytes."""
    signature = key.sign(f"meshllm/{kind}/v1\0".encode() + data).signature
    return f"{b64encode(data)}.{b64encode(signature)}"


def test_what_was_signed_is_read() -> None:
    assert signed.read("card", TOKEN, PUBLIC) == BODY
    assert signed.read_naming("card", TOKEN, "id") == BODY


def test_the_signature_covers_the_bytes_as_they_came() -> None:
    spaced = json.dumps(BODY, indent=2).encode()

    assert signed.read("card", forge(spaced), PUBLIC) == BODY


def test_another_kind_is_another_signature() -> None:
    with pytest.raises(TrustError, match="signature of this ticket does not hold"):
        signed.read("ticket", TOKEN, PUBLIC)


def test_another_signer_is_refused() -> None:
    other = bytes(SigningKey(bytes(32)).verify_key)

    with pytest.raises(TrustError, match="does not hold"):
        signed.read("card", TOKEN, other)


@pytest.mark.parametrize(
    "signer", [b"", bytes(31), bytes(33), bytes(32), b"\1" + bytes(31)]
)
def test_what_is_no_key_signed_nothing(signer: bytes) -> None:
    with pytest.raises(TrustError, match="does not hold"):
        signed.read("card", TOKEN, signer)


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(ALPHABET))
def test_a_changed_character_is_refused(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    if changed == TOKEN:
        return
    with pytest.raises(MeshError):
        signed.read("card", changed, PUBLIC)
    with pytest.raises(MeshError):
        signed.read_naming("card", changed, "id")


@given(st.integers(0, len(TOKEN)), st.integers(0, 40), st.text(ALPHABET, max_size=40))
def test_a_cut_or_lengthened_token_is_refused(at: int, cut: int, put: str) -> None:
    changed = TOKEN[:at] + put + TOKEN[at + cut :]
    if changed == TOKEN:
        return
    with pytest.raises(MeshError):
        signed.read_naming("card", changed, "id")


@given(st.text(max_size=80) | st.binary(max_size=80) | st.integers() | st.none())
def test_rubbish_is_refused(token: object) -> None:
    with pytest.raises(MeshError):
        signed.read_naming("card", token, "id")


@given(st.binary(max_size=80))
def test_a_well_signed_body_still_has_to_be_strict_json(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(signed.read("card", forge(data), PUBLIC), dict)


def test_a_token_without_a_signature_is_refused() -> None:
    with pytest.raises(TrustError, match="no signature"):
        signed.read("card", TOKEN.partition(".")[0], PUBLIC)


@pytest.mark.parametrize(
    "body", [{"n": 1}, {"id": None}, {"id": 5}, {"id": [BODY["id"]]}]
)
def test_a_body_that_names_no_signer_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(TrustError, match="does not name its signer"):
        signed.read_naming("card", signed.sign("card", body, KEY), "id")


def test_naming_somebody_else_is_no_signature_of_theirs() -> None:
    other = peer_id(bytes(SigningKey(bytes(32)).verify_key))
    token = signed.sign("card", {"id": other}, KEY)

    with pytest.raises(TrustError, match="does not hold"):
        signed.read_naming("card", token, "id")


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("card", 12_288),
        ("offer", 12_288),
        ("announcement", 49_152),
        ("revocations", 49_152),
    ],
)
def test_each_kind_has_its_size(kind: str, most: int) -> None:
    room = (most - 1 - 86) * 3 // 4 - len('{"a":""}')
    largest = signed.sign(kind, {"a": "x" * room}, KEY)

    assert most - 4 < len(largest) <= most
    assert signed.read(kind, largest, PUBLIC)["a"] == "x" * room
    with pytest.raises(LocalProtocolError, match="too large"):
        signed.sign(kind, {"a": "x" * (room + 4)}, KEY)
    with pytest.raises(TrustError, match=f"up to {most}"):
        signed.read(kind, forge(b'{"a":"%s"}' % (b"x" * (room + 4)), kind=kind), PUBLIC)


@pytest.mark.parametrize(
    "value",
    ["\ud800", float("nan"), float("inf"), 1 << 53, [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]],
)
def test_nothing_is_signed_that_nobody_would_read(value: object) -> None:
    with pytest.raises(LocalProtocolError):
        signed.sign("card", {"a": value}, KEY)


def test_the_type_that_a_body_claims() -> None:
    token = signed.sign("offer", {"type": "offer"}, KEY)

    assert signed.peek_type(token, ("offer", "answer")) == "offer"


@pytest.mark.parametrize(
    "body", [{}, {"type": "card"}, {"type": None}, {"type": ["offer"]}]
)
def test_other_types_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(TrustError, match="not as one of: offer, answer"):
        signed.peek_type(signed.sign("offer", body, KEY), ("offer", "answer"))


@given(st.text(max_size=60))
def test_no_text_crashes_the_look_at_its_type(token: str) -> None:
    with pytest.raises(MeshError):
        signed.peek_type(token, ("offer",))


def test_the_form_is_two_halves_of_base64url() -> None:
    body, dot, signature = TOKEN.partition(".")

    assert dot
    assert json.loads(b64decode(body)) == BODY
    assert KEY.verify_key.verify(
        b"meshllm/card/v1\0" + b64decode(body), b64decode(signature, 64)
    )
