from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from meshllm.errors import ConfigError, TrustError
from meshllm.protocol.login import check_login, origin, sign_login, transcript
from meshllm.trust.keys import peer_id

CLIENT, HUB = (SigningKey(bytes([n]) * 32) for n in (1, 2))
FIELDS: dict[str, Any] = {
    "origin": "https://signal.example.org",
    "server": peer_id(bytes(HUB.verify_key)),
    "server_nonce": b"S" * 32,
    "client": peer_id(bytes(CLIENT.verify_key)),
    "client_nonce": b"C" * 32,
    "ts": 1_800_000_000,
}


def test_the_transcript_is_what_the_contract_says() -> None:
    """docs/protocol.md §3.1, spelled by hand."""
    assert transcript(**FIELDS) == (
        b"\x00\x1ahttps://signal.example.org"
        + (b"\x00\x20" + bytes(HUB.verify_key))
        + (b"\x00\x20" + b"S" * 32)
        + (b"\x00\x20" + bytes(CLIENT.verify_key))
        + (b"\x00\x20" + b"C" * 32)
        + b"\x00\x0a1800000000"
    )


def test_the_client_signs_its_domain_and_the_transcript() -> None:
    said = transcript(**FIELDS)

    signature = sign_login("client", said, CLIENT)

    CLIENT.verify_key.verify(b"meshllm/login-client/v1\0" + said, signature)
    check_login("client", said, signature, FIELDS["client"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("origin", "https://signal.example.com"),
        ("origin", "http://signal.example.org"),
        ("server", peer_id(b"\x09" * 32)),
        ("server_nonce", b"s" * 32),
        ("client_nonce", b"c" * 32),
        ("ts", 1_800_000_001),
    ],
)
def test_a_signature_holds_for_one_login_only(field: str, value: Any) -> None:
    signature = sign_login("client", transcript(**FIELDS), CLIENT)
    other = transcript(**(FIELDS | {field: value}))

    with pytest.raises(TrustError):
        check_login("client", other, signature, FIELDS["client"])


def test_one_sides_signature_is_not_the_others() -> None:
    said = transcript(**FIELDS)
    signature = sign_login("client", said, CLIENT)

    with pytest.raises(TrustError):
        check_login("server", said, signature, FIELDS["client"])
    with pytest.raises(TrustError):
        check_login("client", said, signature, FIELDS["server"])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Signal.Example.org", "https://signal.example.org"),
        (
            "https://signal.example.org:443/path?query#part",
            "https://signal.example.org",
        ),
        ("wss://signal.example.org", "https://signal.example.org"),
        ("ws://127.0.0.1:8080/v1/signal", "http://127.0.0.1:8080"),
        ("HTTP://localhost:80/", "http://localhost"),
        ("http://localhost:443", "http://localhost:443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://user:password@host", "https://host"),
    ],
)
def test_the_origin_of_an_address(url: str, expected: str) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    "url", ["", "signal.example.org", "ftp://host", "https://", "http://host:port"]
)
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    with pytest.raises(ConfigError, match="not an address of a signaling server"):
        origin(url)


@given(st.text(max_size=40))
def test_any_text_has_an_origin_or_none(url: str) -> None:
    for text in (url, f"https://{url}"):
        with contextlib.suppress(ConfigError):
            assert origin(origin(text)) == origin(text)


def test_a_different_length_is_a_different_transcript() -> None:
    """The lengths keep a byte from moving from one field to the next."""
    moved = FIELDS | {"server_nonce": b"S" * 31, "client_nonce": b"C" * 33}

    digests = {hashlib.sha256(transcript(**f)).digest() for f in (FIELDS, moved)}

    assert len(digests) == 2
