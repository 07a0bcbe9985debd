"""Links: read back as printed; whatever is no link says what one looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import MeshError, RemoteProtocolError, TrustError
from meshllm.trust.keys import b64encode
from meshllm.trust.link import (
    Invitation,
    OfflineLink,
    SetupLink,
    ShortLink,
    open_invitation,
    parse_link,
    seal_invitation,
)
from tests.fakes.people import id_of, key

HUB = "https://hub.example.org"
KEY, NONCE = bytes(range(16)), bytes(range(24))
INVITATION = Invitation(id_of("hub"), "statement", "ticket", bytes(key("seed")))
SHORT = ShortLink(HUB, bytes(8), KEY)
SETUP = SetupLink(HUB, KEY, id_of("hub"))
OFFLINE = OfflineLink(HUB, INVITATION)
LAN = OfflineLink(None, Invitation(None, "statement", "ticket", bytes(32)))


@pytest.mark.parametrize("link", [SHORT, SETUP, OFFLINE, LAN])
def test_a_link_is_read_as_it_was_printed(
    link: ShortLink | SetupLink | OfflineLink,
) -> None:
    assert parse_link(str(link)) == link
    assert parse_link(f"  {link}\n") == link


def test_what_links_look_like() -> None:
    assert str(SHORT) == f"{HUB}/#v1.AAAAAAAAAAA.AAECAwQFBgcICQoLDA0ODw"
    assert str(SETUP) == f"{HUB}/#s1.AAECAwQFBgcICQoLDA0ODw.{id_of('hub')}"
    assert str(OFFLINE).startswith(f"{HUB}/#v1o.")
    assert str(LAN).startswith("meshllm:/#v1o.")


@pytest.mark.parametrize(
    ("typed", "hub"),
    [
        ("HTTPS://Hub.Example:8443/", "https://hub.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://hub.example?", "https://hub.example"),
        ("https://höhle.example", "https://höhle.example"),
    ],
)
def test_a_hub_is_an_origin(typed: str, hub: str) -> None:
    parsed = parse_link(f"{typed}#v1.AAAAAAAAAAA.AAECAwQFBgcICQoLDA0ODw")

    assert parsed == ShortLink(hub, bytes(8), KEY)


@pytest.mark.parametrize(
    "hub",
    [
        "",
        "hub.example",
        "meshllm:",
        "ftp://hub.example",
        "javascript://hub.example",
        "https://",
        "https:///",
        "https://hub.example/path",
        "https://hub.example/?query",
        "https://user:word@hub.example",
        "https://hub.example\\@evil.example",
        "https://hub example",
        "https://hub.example:port",
        "https://hub.example:99999",
        "https://hub.example:0",
        "https://[::1",
        "https://[hub]",
        "https://hub%2eexample",
        "https://hub.example℀",
    ],
)
def test_what_is_no_origin_is_no_hub(hub: str) -> None:
    fields = INVITATION.to_json() | {"hub": hub}
    for link in (
        f"{hub}#v1.AAAAAAAAAAA.AAECAwQFBgcICQoLDA0ODw",
        f"{hub}#s1.AAECAwQFBgcICQoLDA0ODw.{id_of('hub')}",
        f"meshllm:/#v1o.{b64encode(json.dumps(fields).encode())}",
    ):
        with pytest.raises(TrustError, match="no meshllm link"):
            parse_link(link)


@pytest.mark.parametrize(
    "link",
    [
        "",
        "hello",
        HUB,
        f"{HUB}/#",
        f"{HUB}/#v1",
        f"{HUB}/#v1.AAAAAAAAAAA",
        f"{HUB}/#v1.AAAAAAAAAAA.AAECAwQFBgcICQoLDA0ODw.more",
        f"{HUB}/#v1.AAAAAAAAAA.AAECAwQFBgcICQoLDA0ODw",
        f"{HUB}/#v1.AAAAAAAAAAA.AAECAwQFBgcICQoLDA0O",
        f"{HUB}/#v2.AAAAAAAAAAA.AAECAwQFBgcICQoLDA0ODw",
        f"{HUB}/#s1.AAECAwQFBgcICQoLDA0ODw.{id_of('hub')[:-1]}",
        f"{HUB}/#v1o.",
        f"{HUB}/#v1o.e30",
        f"{HUB}/#v1o.W10",
        str(OFFLINE)[:-1],
    ],
)
def test_what_is_no_whole_link_is_refused(link: str) -> None:
    with pytest.raises(TrustError, match="no meshllm link"):
        parse_link(link)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hub": 5},
        {"hub": {}},
        {"hub": "https://" + "h" * 600},
        {"server": "somebody"},
        {"server": 1},
        {"statement": ""},
        {"ticket": "x" * 12_289},
        {"seed": "AAAA"},
        {"more": 1},
    ],
)
def test_an_offline_link_carries_exactly_an_invitation(wrong: dict[str, Any]) -> None:
    fields = INVITATION.to_json() | {"hub": None} | wrong

    with pytest.raises(TrustError, match="no meshllm link"):
        parse_link(f"{HUB}/#v1o.{b64encode(json.dumps(fields).encode())}")


def test_an_offline_link_says_whether_it_has_a_hub() -> None:
    fields = json.dumps(INVITATION.to_json()).encode()

    with pytest.raises(TrustError, match="no meshllm link"):
        parse_link(f"{HUB}/#v1o.{b64encode(fields)}")


@given(st.text(max_size=80))
def test_no_text_crashes_the_reading_of_a_link(tail: str) -> None:
    for start in ("", "http://", f"{HUB}/#v1.", f"{HUB}/#v1o.", "http://["):
        with pytest.raises(TrustError):
            parse_link(start + tail)


def test_the_hub_keeps_what_only_the_link_opens() -> None:
    sealed = seal_invitation(INVITATION, KEY, NONCE)

    assert sealed[:24] == NONCE
    assert b"statement" not in sealed
    assert open_invitation(sealed, KEY) == INVITATION


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_does_not_open(at: int, change: int) -> None:
    sealed = bytearray(seal_invitation(INVITATION, KEY, NONCE))
    sealed[at % len(sealed)] ^= change

    with pytest.raises(TrustError, match="does not open with this link"):
        open_invitation(bytes(sealed), KEY)


@pytest.mark.parametrize("sealed", [b"", bytes(23), bytes(24), bytes(39), bytes(40)])
def test_rubbish_does_not_open(sealed: bytes) -> None:
    with pytest.raises(TrustError, match="does not open"):
        open_invitation(sealed, KEY)


def test_another_links_key_does_not_open() -> None:
    with pytest.raises(TrustError, match="does not open"):
        open_invitation(seal_invitation(INVITATION, KEY, NONCE), bytes(16))


def test_what_was_sealed_has_to_be_an_invitation() -> None:
    broken = Invitation(id_of("hub"), "", "ticket", bytes(32))

    with pytest.raises(RemoteProtocolError, match="statement"):
        open_invitation(seal_invitation(broken, KEY, NONCE), KEY)
    with pytest.raises(MeshError):
        Invitation.from_json({})
