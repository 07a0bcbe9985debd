from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from meshllm.errors import ConfigError
from signaling.turn import check_url, credentials, ice_servers
from tests.fakes.hubs import id_of

SECRET = b"shared with the TURN server"


def test_the_password_is_what_coturn_computes_from_the_username() -> None:
    username, password = credentials(SECRET, id_of("ann"), 1_800_000_000.9)

    digest = hmac.new(SECRET, username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(password) == digest


def test_credentials_last_an_hour() -> None:
    username, _ = credentials(SECRET, id_of("ann"), 1_800_000_000.9)

    assert username.split(":")[0] == "1800003600"


def test_the_tag_is_one_per_person_and_does_not_say_who() -> None:
    def tag(name: str, now: float, secret: bytes = SECRET) -> str:
        return credentials(secret, id_of(name), now)[0].split(":")[1]

    assert tag("ann", 1) == tag("ann", 99_999)
    assert tag("ann", 1) != tag("bob", 1)
    assert tag("ann", 1) != tag("ann", 1, b"another secret")
    assert id_of("ann") not in tag("ann", 1)


def test_only_configured_servers_are_handed_out() -> None:
    ann = id_of("ann")
    stun, turn = ("stun:s.example.org",), ("turn:t.example.org", "turns:t.example.org")

    assert ice_servers((), (), None, ann, 0) == ()
    assert ice_servers((), turn, None, ann, 0) == ()
    [plain] = ice_servers(stun, (), SECRET, ann, 0)
    assert (plain.urls, plain.username, plain.credential) == (stun, None, None)
    _, relay = ice_servers(stun, turn, SECRET, ann, 0)
    assert relay.urls == turn
    assert (relay.username, relay.credential) == credentials(SECRET, ann, 0)


@pytest.mark.parametrize(
    "url",
    [
        *("turn:r.example", "turn:r.example:3478", "turn:192.0.2.1?transport=udp"),
        *("turns:r.example:443?transport=tcp", "turn:[2001:db8::1]:3478?transport=tcp"),
    ],
)
def test_every_kind_of_turn_url_is_taken(url: str) -> None:
    assert check_url("turn", url) == url


@pytest.mark.parametrize("url", ["stun:r.example", "stuns:[::1]:5349", "stun:a:3478"])
def test_a_stun_url_is_taken(url: str) -> None:
    assert check_url("stun", url) == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "r.example",
            "turn:",
            "turn://r.example",
            "turn:r.example:0",
            "stun:r.example",
        ),
        *("turn:r.example:70000", "turn:r.example:", "turn:user@r.example", "turn:[1]"),
        *(
            "turn:r.example?transport=sctp",
            "turn:r.example?x=y",
            "turn:::1",
            "turn:a b",
        ),
        *("turn:[2001:db8::1", "http:r.example", "turn:r.example\n"),
    ],
)
def test_what_is_no_turn_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write it like turn:relay\.example:3478"):
        check_url("turn", url)


def test_a_stun_url_names_no_transport() -> None:
    with pytest.raises(ConfigError, match=r"like stun:relay\.example:3478\.$"):
        check_url("stun", "stun:r.example?transport=udp")


def test_a_credential_is_not_shown_by_accident() -> None:
    for server in ice_servers((), ("turn:r.example",), SECRET, id_of("ann"), 0):
        assert server.credential is not None
        assert server.credential not in repr(server)
