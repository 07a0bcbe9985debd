"""Which servers are asked, and in which order, after what was seen of them."""

from __future__ import annotations

from meshllm.transport.health import DEAD_S, STEP_S, Health
from meshllm.transport.servers import IceServer, Server, read_servers

HERE = ["192.168.1.7"]
STUN, OTHER_STUN, UDP, TCP, TLS = SERVERS = read_servers(
    [
        IceServer(("stun:a.example", "stun:b.example")),
        IceServer(
            (
                "turn:a.example",
                "turn:a.example?transport=tcp",
                "turns:a.example:443?transport=tcp",
            ),
            "user",
            "secret",
        ),
    ]
)


def at_home() -> Health:
    health = Health()
    health.at(HERE)
    return health


def delays(health: Health, now: float) -> dict[Server, float]:
    return dict(health.plan(SERVERS, now))


def test_of_unknown_servers_the_cheap_transports_begin() -> None:
    assert delays(at_home(), 0) == {
        STUN: 0,
        OTHER_STUN: 0,
        UDP: 0,
        TCP: STEP_S,
        TLS: 2 * STEP_S,
    }


def test_a_dead_server_is_left_out_for_a_minute() -> None:
    health = at_home()
    health.failed(STUN, "no answer", 10)
    assert STUN not in delays(health, 10 + DEAD_S - 1)
    assert STUN in delays(health, 10 + DEAD_S)


def test_behind_a_block_the_transport_that_works_begins() -> None:
    health = at_home()
    for server in (STUN, OTHER_STUN, UDP, TCP):
        health.failed(server, "no answer", 10)
    health.answered(TLS, 0.2, 10)
    assert delays(health, 11) == {TLS: 0}
    assert delays(health, 10 + DEAD_S) == {
        STUN: 0,
        OTHER_STUN: 0,
        TLS: 0,
        UDP: STEP_S,
        TCP: 2 * STEP_S,
    }


def test_when_all_relays_seem_dead_all_are_asked() -> None:
    health = at_home()
    for server in SERVERS:
        health.failed(server, "no answer", 10)
    assert delays(health, 11) == {UDP: 0, TCP: STEP_S, TLS: 2 * STEP_S}


def test_a_server_that_answers_again_is_asked_at_once() -> None:
    health = at_home()
    health.failed(STUN, "no answer", 10)
    health.answered(STUN, 0.04, 20)
    assert STUN in delays(health, 21)


def test_elsewhere_nothing_is_known() -> None:
    health = at_home()
    health.failed(STUN, "no answer", 10)
    health.at(HERE)
    assert STUN not in delays(health, 11)
    health.at(["10.0.0.3"])
    assert STUN in delays(health, 11)


def test_a_new_credential_is_of_the_same_server() -> None:
    health = at_home()
    health.failed(UDP, "401", 10)
    (renewed,) = read_servers([IceServer(("turn:a.example",), "user", "another")])
    assert health.is_dead(renewed, 11)


def test_what_is_known_is_told() -> None:
    health = at_home()
    health.answered(STUN, 0.0421, 10)
    health.failed(TLS, "no answer", 12)
    rows = {row["url"]: row for row in health.describe(SERVERS, 15)}
    assert rows["stun:a.example:3478"] == {
        "url": "stun:a.example:3478",
        "answers": True,
        "seconds_ago": 5,
        "ms": 42.1,
    }
    assert rows["turns:a.example:443?transport=tcp"]["why"] == "no answer"
    assert rows["turn:a.example:3478?transport=udp"]["answers"] is None
