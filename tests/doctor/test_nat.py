"""From how a socket is seen to which NAT that is, and what a person reads."""

from __future__ import annotations

import pytest

from meshllm.doctor.check import State
from meshllm.doctor.nat import Mapping, Nat, Seen, classify, describe, judge, spelled

OWN = {"192.168.1.7", "127.0.0.1"}
ONE, TWO = "198.51.100.1", "198.51.100.2"
OUTSIDE = "203.0.113.9"


def seen(*pairs: tuple[str, int, int], by: str = OUTSIDE) -> list[Seen]:
    """By which server address and port, with which port of ours."""
    return [Seen((host, port), (by, ours)) for host, port, ours in pairs]


@pytest.mark.parametrize(
    ("found", "mapping"),
    [
        ([], Mapping.BLOCKED),
        (seen((ONE, 3478, 5000)), Mapping.UNKNOWN),
        (seen((ONE, 3478, 5000), (ONE, 3478, 5000)), Mapping.UNKNOWN),
        (seen((ONE, 3478, 5000), (ONE, 3479, 5000)), Mapping.INDEPENDENT),
        (seen((ONE, 3478, 5000), (TWO, 3478, 5000)), Mapping.INDEPENDENT),
        (seen((ONE, 3478, 5000), (TWO, 3478, 5001)), Mapping.DEPENDENT),
        (seen((ONE, 3478, 5000), (ONE, 3479, 5001)), Mapping.DEPENDENT),
        (seen((ONE, 3478, 5000), by="192.168.1.7"), Mapping.NONE),
    ],
)
def test_mappings(found: list[Seen], mapping: Mapping) -> None:
    assert classify(found, OWN).mapping is mapping


def easy(*, is_open: bool | None = None, other: str = TWO) -> Nat:
    found = seen((ONE, 3478, 5000), (other, 3479, 5000))
    return classify(found, OWN, is_open=is_open)


SYMMETRIC = classify(seen((ONE, 3478, 5000), (TWO, 3478, 5001)), OWN)
BLOCKED = classify([], OWN)


def test_an_easy_nat_is_called_so() -> None:
    assert describe(easy()) == (
        "easy NAT: direct connections work with nearly everybody"
    )
    assert describe(easy(is_open=False)) == describe(easy())
    assert describe(easy(is_open=True)).startswith("easy and open NAT")


def test_what_one_server_cannot_tell_is_said() -> None:
    assert "as far as ports of one server can tell" in describe(easy(other=ONE))
    assert "as far as" not in describe(easy())
    assert "cannot tell" in describe(classify(seen((ONE, 3478, 5000)), OWN))


def test_no_nat_promises_no_open_firewall() -> None:
    text = describe(classify(seen((ONE, 3478, 5000), by="192.168.1.7"), OWN))
    assert text.startswith("no NAT")
    assert "firewall" in text


@pytest.mark.parametrize(
    ("nat", "relays", "state", "said", "do"),
    [
        (easy(), [], State.OK, "seen from outside as 203.0.113.9", None),
        (SYMMETRIC, ["udp"], State.OK, "symmetric NAT: direct only with open", None),
        (SYMMETRIC, [], State.WARNING, "symmetric NAT", "--turn turn:"),
        (BLOCKED, ["tls", "tcp"], State.WARNING, "over TCP and TLS", "let UDP out"),
        (
            BLOCKED,
            [],
            State.ERROR,
            "there is no relay over TCP or TLS",
            "--turn turns:",
        ),
    ],
)
def test_a_relay_makes_up_for_a_difficult_nat(
    nat: Nat, relays: list[str], state: State, said: str, do: str | None
) -> None:
    check = judge(nat, relays)
    assert check.state is state
    assert said in check.text
    assert check.do is None if do is None else do in (check.do or "")


def test_relays_that_should_answer_are_not_asked_for_again() -> None:
    assert "whether they run" in (judge(BLOCKED, [], ["udp", "tls"]).do or "")
    assert "--turn turns:" in (judge(BLOCKED, [], ["udp"]).do or "")


def test_the_figures_behind_it_are_told_to_programs() -> None:
    assert judge(SYMMETRIC, ["udp"]).facts == {
        "mapping": "endpoint-dependent",
        "public_address": OUTSIDE,
        "seen": [
            {"by": "198.51.100.1:3478", "as": "203.0.113.9:5000"},
            {"by": "198.51.100.2:3478", "as": "203.0.113.9:5001"},
        ],
        "open": None,
    }


def test_transports_stand_in_the_order_of_trying() -> None:
    assert spelled({"tls"}) == "TLS"
    assert spelled({"tls", "udp", "tcp"}) == "UDP, TCP and TLS"
