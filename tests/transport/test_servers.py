"""STUN and TURN URLs as people write them (RFC 7064, RFC 7065)."""

from __future__ import annotations

import pytest

from meshllm.transport.servers import IceServer, read_servers


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("stun:a.example", "stun:a.example:3478"),
        ("stun:192.0.2.1:19302", "stun:192.0.2.1:19302"),
        ("turn:a.example", "turn:a.example:3478?transport=udp"),
        ("turn:a.example:80?transport=tcp", "turn:a.example:80?transport=tcp"),
        ("turns:a.example", "turns:a.example:5349?transport=tcp"),
        (
            "turn:[2001:DB8:0::1]:443?transport=udp",
            "turn:[2001:db8::1]:443?transport=udp",
        ),
        ("turns:[2001:db8::1]", "turns:[2001:db8::1]:5349?transport=tcp"),
    ],
)
def test_a_url_is_read_with_what_it_leaves_out(url: str, read: str) -> None:
    (server,) = read_servers([IceServer((url,), "user", "secret")])
    assert server.url == read
    assert (server.username, server.credential) == ("user", "secret")


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example",
        "stun:",
        "stun:a.example?transport=udp",
        "turn:a.example:port",
        "turn:a.example:65536",
        "turn:[2001:db8::1::2]",
        "turn:2001:db8::1",
        "turn:a.example?transport=sctp",
    ],
)
def test_what_is_no_url_is_named_in_the_log(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_servers([IceServer((url,))]) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert repr(url) in caplog.text


@pytest.mark.parametrize(
    "url", ["stuns:a.example", "turns:a.example?transport=udp", "stun:[2001:db8::1]"]
)
def test_what_only_browsers_use_is_passed_over_in_silence(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_servers([IceServer((url,))]) == []
    assert caplog.records == []


def test_one_bad_url_does_not_take_the_others_away() -> None:
    urls = ("turn:nowhere:at:all", "turn:a.example")
    (server,) = read_servers([IceServer(urls)])
    assert server.address == ("a.example", 3478)
