"""Peer ids and base64url: one spelling each."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import TrustError
from meshllm.trust.keys import (
    PEER_ID_CHARS,
    b64decode,
    b64encode,
    peer_id,
    public_key,
    read_peer_id,
    short,
)

ID = peer_id(bytes(range(32)))


@given(st.binary(min_size=32, max_size=32))
def test_an_id_spells_its_whole_key(public: bytes) -> None:
    id = peer_id(public)

    assert len(id) == PEER_ID_CHARS
    assert public_key(id) == public
    assert read_peer_id(id) == id


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_only_32_bytes_have_an_id(size: int) -> None:
    with pytest.raises(TrustError, match="32"):
        peer_id(bytes(size))


@pytest.mark.parametrize(
    "id",
    [
        "",
        ID[:-1],
        ID + "a",
        ID.upper(),
        ID[:-1] + "b",  # the last character has trailing bits: they must be zero
        "1" + ID[1:],
        " " + ID[1:],
        ID[:-1] + "\n",
        "ſ" + ID[1:],  # its upper case is S
        "\ud800" + ID[1:],
        ID[:-4] + "====",
    ],
)
def test_an_id_has_one_spelling(id: str) -> None:
    with pytest.raises(TrustError, match="peer id"):
        public_key(id)
    with pytest.raises(TrustError, match="peer id"):
        read_peer_id(id)


@pytest.mark.parametrize("value", [None, 5, True, [ID], {"id": ID}, ID.encode()])
def test_an_id_in_json_is_text(value: object) -> None:
    with pytest.raises(TrustError, match="peer id"):
        read_peer_id(value)


@given(st.text())
def test_no_text_crashes_the_reading_of_an_id(text: str) -> None:
    with contextlib.suppress(TrustError):
        assert peer_id(public_key(text)) == text


def test_people_see_eight_characters() -> None:
    assert short(ID) == ID[:8]


@given(st.binary(max_size=100))
def test_base64url_comes_back(data: bytes) -> None:
    text = b64encode(data)

    assert not set(text) & set("+/=")
    assert b64decode(text) == data
    assert b64decode(text, len(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "A",  # six bits are no byte
        "AB",  # set trailing bits
        "AA==",  # padding
        "AA=",
        "A+/A",  # the other alphabet
        "AA AA",
        "AAAA\n",
        "\nAAAA",
        "AAAé",
        "AAA\ud800",
        "AA=A",
    ],
)
def test_base64url_has_one_spelling(text: str) -> None:
    with pytest.raises(TrustError, match="base64url"):
        b64decode(text)


@pytest.mark.parametrize("value", [None, 7, b"AAAA", ["AAAA"]])
def test_base64url_is_text(value: object) -> None:
    with pytest.raises(TrustError, match="text expected"):
        b64decode(value)


def test_another_size_is_refused() -> None:
    with pytest.raises(TrustError, match="16 bytes expected, 3 found"):
        b64decode("AAAA", 16)


@given(st.text())
def test_what_decodes_is_canonical(text: str) -> None:
    with contextlib.suppress(TrustError):
        assert b64encode(b64decode(text)) == text
