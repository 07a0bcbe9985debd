"""Descriptions: read strictly, written as SDP, read back the same."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import MeshError, ProtocolError, RemoteProtocolError
from meshllm.protocol.description import (
    CANDIDATES_MAX,
    Candidate,
    Description,
    from_sdp,
    to_sdp,
)

LAN = Candidate("1f", "udp", 2_130_706_431, "192.168.1.7", 50_000, "host")
NAMED = Candidate("2", "udp", 2_113_937_151, "7b3e9d52-a1.local", 50_001, "host")
RELAY = Candidate(
    "r+/", "udp", 16_777_215, "2001:db8::9", 3_478, "relay", "192.0.2.4", 0
)
OFFER = Description(
    fingerprint=bytes(range(32)),
    ufrag="q8Xz",
    pwd="0123456789abcdefghijKL",
    setup="actpass",
    candidates=(LAN, NAMED, RELAY),
)
# What Chromium 130 says, cut down to one candidate of each sort.
CHROMIUM = """v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS
m=application 50001 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 198.51.100.3
a=candidate:2823455 1 udp 2113937151 7b3e9d52-a1.local 50001 typ host \
generation 0 network-cost 999
a=candidate:842163049 1 udp 1677729535 198.51.100.3 50001 typ srflx raddr 0.0.0.0 \
rport 0 generation 0 network-cost 999
a=candidate:995 1 tcp 1518214911 7b3e9d52-a1.local 9 typ host tcptype active
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=ice-options:trickle
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14\
:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=setup:actpass
a=mid:0
a=sctp-port:5000
a=max-message-size:262144
"""

ice_text = st.text("abcXYZ019+/", min_size=1, max_size=32)
hosts = st.one_of(
    st.ip_addresses(v=4, network="10.0.0.0/8").map(str),
    st.ip_addresses(v=6, network="2001:db8::/32").map(str),
    st.from_regex(r"[a-z0-9-]{1,40}\.local", fullmatch=True),
)
candidates = st.builds(
    Candidate,
    foundation=ice_text,
    transport=st.just("udp"),
    priority=st.integers(1, 2**31 - 1),
    host=hosts,
    port=st.integers(1, 65_535),
    kind=st.sampled_from(["host", "srflx", "prflx", "relay"]),
    related_host=st.none() | st.ip_addresses().map(str),
    related_port=st.none() | st.integers(0, 65_535),
)
descriptions = st.builds(
    Description,
    fingerprint=st.binary(min_size=32, max_size=32),
    ufrag=st.text("abcXYZ019+/", min_size=4, max_size=40),
    pwd=st.text("abcXYZ019+/", min_size=22, max_size=60),
    setup=st.sampled_from(["actpass", "active", "passive"]),
    candidates=st.lists(candidates, max_size=6).map(tuple),
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def changed(**fields: Any) -> dict[str, Any]:
    return OFFER.to_json() | fields


def with_candidate(**fields: Any) -> dict[str, Any]:
    candidate = OFFER.to_json()["candidates"][0] | fields
    return changed(candidates=[candidate])


@given(descriptions)
def test_json_says_the_same_again(description: Description) -> None:
    assert Description.from_json(description.to_json()) == description


@given(descriptions)
def test_sdp_says_the_same_again(description: Description) -> None:
    kind: Any = "offer" if description.setup == "actpass" else "answer"
    assert from_sdp(to_sdp(description, kind=kind)) == description


@given(st.dictionaries(st.text(), anything))
def test_any_object_is_read_or_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        Description.from_json(fields)


@given(st.sampled_from(sorted(OFFER.to_json())), anything)
def test_any_value_in_any_field_is_read_or_refused(key: str, value: Any) -> None:
    try:
        read = Description.from_json(changed(**{key: value}))
    except MeshError:
        return
    assert Description.from_json(read.to_json()) == read


@given(st.sampled_from(sorted(OFFER.to_json()["candidates"][0])), anything)
def test_any_value_in_any_candidate_is_read_or_refused(key: str, value: Any) -> None:
    try:
        read = Description.from_json(with_candidate(**{key: value}))
    except MeshError:
        return
    assert Description.from_json(read.to_json()) == read


@given(st.text())
def test_any_text_as_sdp_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        from_sdp(text)


@given(st.integers(0, len(CHROMIUM)), st.text(max_size=20))
def test_any_text_inside_sdp_is_read_or_refused(at: int, text: str) -> None:
    try:
        read = from_sdp(CHROMIUM[:at] + text + CHROMIUM[at:])
    except MeshError:
        return
    assert Description.from_json(read.to_json()) == read


@pytest.mark.parametrize(
    "fields",
    [
        changed(ufrag="abc"),
        changed(ufrag="a" * 257),
        changed(ufrag="abcd\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host"),
        changed(ufrag="abcd\n"),
        changed(ufrag="ab-d"),
        changed(pwd="short"),
        changed(pwd="0123456789abcdefghij\nKL"),
        changed(pwd="é" * 22),
        changed(fingerprint="AA"),
        changed(fingerprint=None),
        changed(setup="holdconn"),
        changed(setup="actpass\r\na=ice-lite"),
        changed(setup=["actpass"]),
        changed(candidates={}),
        changed(candidates=["host"]),
        changed(candidates=[OFFER.to_json()["candidates"][0]] * (CANDIDATES_MAX + 1)),
        changed(extra=1),
        {k: v for k, v in OFFER.to_json().items() if k != "pwd"},
    ],
)
def test_a_malformed_description_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        Description.from_json(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"foundation": ""},
        {"foundation": "a" * 33},
        {"foundation": "1 1 udp"},
        {"transport": "UDP"},
        {"transport": "sctp"},
        {"priority": 0},
        {"priority": 2**31},
        {"priority": True},
        {"priority": 1.0},
        {"port": 0},
        {"port": 65_536},
        {"port": "80"},
        {"kind": "host generation 0"},
        {"host": "example.org"},
        {"host": "a.b.local"},
        {"host": "x.local\n"},
        {"host": "x.local."},
        {"host": "10.0.0.1\r\na=x"},
        {"host": "10.0.0.1 9 typ host"},
        {"host": "10.1"},
        {"host": "fe80::1%eth0"},
        {"host": "fe80::1%0\r\na=ice-lite"},
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "224.0.0.251"},
        {"host": "ff02::fb"},
        {"host": "255.255.255.255"},
        {"host": "::ffff:127.0.0.1"},
        {"host": 2_130_706_433},
        {"host": "a" * 64 + ".local"},
        {"related_host": "fe80::1%\n"},
        {"related_host": ""},
        {"related_port": -1},
        {"component": 1},
    ],
)
def test_a_malformed_candidate_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        Description.from_json(with_candidate(**fields))


def test_an_address_is_read_in_its_shortest_spelling() -> None:
    read = Description.from_json(with_candidate(host="2001:DB8:0:0::0001"))
    assert read.candidates[0].host == str(ipaddress.ip_address("2001:db8::1"))


def test_the_offer_of_a_browser_is_read() -> None:
    read = from_sdp(CHROMIUM.replace("\n", "\r\n"))
    assert [one.is_named for one in read.candidates] == [True, False]
    assert read == Description(
        fingerprint=bytes(range(32)),
        ufrag="EsAw",
        pwd="P2uYro0UCOQ4zxjKXaWCBui1",
        setup="actpass",
        candidates=(
            Candidate("2823455", "udp", 2113937151, "7b3e9d52-a1.local", 50001, "host"),
            Candidate(
                "842163049",
                "udp",
                1677729535,
                "198.51.100.3",
                50001,
                "srflx",
                "0.0.0.0",
                0,
            ),
        ),
        is_complete=False,
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a=ice-pwd:", "a=ice-password:"),
        ("a=ice-ufrag:EsAw", "a=ice-ufrag:EsAw\na=ice-ufrag:Other"),
        ("a=fingerprint:sha-256 00:", "a=fingerprint:sha-256 "),
        ("a=fingerprint:sha-256 00:", "a=fingerprint:sha-256 zz:"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
        ("m=application", "m=audio 9 X 0\nm=application"),
        ("m=application", "m=video"),
        ("a=setup:actpass", "a=setup:holdconn"),
        ("typ srflx", "type srflx"),
        ("198.51.100.3 50001 typ", "198.51.100.300 50001 typ"),
    ],
)
def test_sdp_that_is_unclear_is_refused(old: str, new: str) -> None:
    assert old in CHROMIUM
    with pytest.raises(RemoteProtocolError):
        from_sdp(CHROMIUM.replace(old, new))


def test_sdp_of_a_novel_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="characters"):
        from_sdp(CHROMIUM + "a=x\n" * 20_000)


@pytest.mark.parametrize(
    "description",
    [
        replace(OFFER, ufrag="abcd\r\na=ice-lite"),
        replace(OFFER, candidates=(replace(LAN, host="10.0.0.1\r\na=ice-lite"),)),
        replace(OFFER, candidates=(replace(LAN, kind="host\r\na=ice-lite"),)),
    ],
)
def test_sdp_is_never_written_from_what_would_not_be_read(
    description: Description,
) -> None:
    with pytest.raises(ProtocolError):
        to_sdp(description, kind="offer")


def test_an_offer_leaves_the_dtls_role_open_and_an_answer_takes_one() -> None:
    with pytest.raises(ProtocolError):
        to_sdp(OFFER, kind="answer")
    with pytest.raises(ProtocolError):
        to_sdp(replace(OFFER, setup="active"), kind="offer")


def test_tcp_candidates_are_not_written_into_sdp() -> None:
    tcp = replace(LAN, transport="tcp", port=9)
    assert " tcp " not in to_sdp(replace(OFFER, candidates=(tcp,)), kind="offer")


def test_while_more_follow_the_end_is_not_told() -> None:
    open_ended = replace(OFFER, is_complete=False)
    sdp = to_sdp(open_ended, kind="offer")
    assert "a=end-of-candidates" not in sdp
    assert from_sdp(sdp).is_complete is False
