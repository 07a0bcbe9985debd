from __future__ import annotations

import base64
import hashlib
import hmac

from signaling.turn import credentials, ice_servers
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
