"""Every way to have no connection, and the sentence a person reads about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshllm.protocol.description import Candidate
from meshllm.transport.policy import Policy
from meshllm.transport.verdict import Asked, Attempt, Stage, explain

Kinds = tuple[str, ...]
Servers = tuple[Asked, ...]

NONE: Servers = ()
STUN = Asked("udp", is_relay=False, has_answered=True)
STUN_SILENT = Asked("udp", is_relay=False, has_answered=False)
TURN = Asked("udp", is_relay=True, has_answered=True)
TURN_SILENT = Asked("udp", is_relay=True, has_answered=False)
TCP_SILENT = Asked("tcp", is_relay=True, has_answered=False)
TLS = Asked("tls", is_relay=True, has_answered=True)
TLS_SILENT = Asked("tls", is_relay=True, has_answered=False)

HOST: Kinds = ("host",)
SRFLX: Kinds = ("host", "srflx")
RELAY: Kinds = ("host", "srflx", "relay")
ONLY_RELAY: Kinds = ("relay",)

OWNER_TLS = "no TURN over TLS is configured on the server: ask its owner to run"
OWNER_TURN = "no TURN server is configured on the server: ask its owner to run"


def candidates(kinds: Kinds, host: str = "192.0.2.1") -> list[Candidate]:
    return [Candidate("1", "udp", 100, host, 5_000, kind) for kind in kinds]


def path(
    servers: Servers,
    local: Kinds,
    remote: Kinds,
    policy: Policy = "all",
    *,
    is_heard: bool = False,
) -> Attempt:
    return Attempt(
        Stage.PATH,
        policy,
        servers,
        candidates(local),
        candidates(remote),
        is_heard=is_heard,
    )


WITHOUT_A_PATH = [
    (path(NONE, HOST, HOST), ["names no STUN or TURN server", "--stun", "--turn"]),
    (
        path((STUN_SILENT,), HOST, SRFLX),
        [
            "UDP is blocked here and no TURN over TLS is configured on the server:"
            " ask its owner to run `meshllm signal --coturn`, or to give it"
            " `--turn turns:…`"
        ],
    ),
    (path((STUN_SILENT,), HOST, HOST), ["UDP seems to be blocked", OWNER_TLS]),
    (path((STUN_SILENT, TURN_SILENT), HOST, SRFLX), ["UDP is blocked", OWNER_TLS]),
    (
        path((STUN_SILENT, TURN_SILENT, TLS_SILENT), HOST, SRFLX),
        ["UDP is blocked here, and no TURN server answered over TCP or TLS either"],
    ),
    (
        path((STUN_SILENT, TCP_SILENT), HOST, RELAY),
        ["UDP is blocked here, and no TURN server answered over TCP or TLS either"],
    ),
    (
        path((STUN_SILENT, TLS_SILENT), HOST, HOST),
        ["no STUN or TURN server answers here", "they are down, or this network"],
    ),
    (path((STUN_SILENT,), HOST, RELAY), ["UDP is blocked here", OWNER_TLS]),
    (path((STUN,), SRFLX, SRFLX), ["NATs of the two networks", OWNER_TURN]),
    (
        path((STUN, TURN_SILENT, TLS_SILENT), SRFLX, SRFLX),
        ["NATs of the two networks", "no TURN server answered: `meshllm doctor`"],
    ),
    (
        path((STUN,), SRFLX, SRFLX, is_heard=True),
        ["the peer's packets arrive here, but ours do not", OWNER_TURN],
    ),
    (
        path((STUN,), SRFLX, HOST),
        ["the peer reaches no STUN or TURN server", OWNER_TLS],
    ),
    (
        path((STUN, TURN_SILENT), SRFLX, HOST),
        ["none gave us a relay: run `meshllm doctor` on the peer's machine"],
    ),
    (
        path((STUN, TURN), RELAY, HOST),
        ["the peer itself reaches no STUN or TURN server", "on the peer's machine"],
    ),
    (path((STUN, TURN), RELAY, RELAY), ["a relay is there", "denied peers"]),
    (path((STUN_SILENT, TLS), (*HOST, "relay"), SRFLX), ["a relay is there"]),
    (path((STUN, TURN), RELAY, ONLY_RELAY), ["a relay is there"]),
    (path((STUN,), SRFLX, RELAY), ["a relay is there"]),
    (path((TURN,), ONLY_RELAY, HOST, "relay"), ["the peer itself reaches no STUN"]),
    (
        path((STUN,), SRFLX, SRFLX, "direct"),
        ["no direct path through, and this node uses no relay", "--direct-only"],
    ),
    (
        path((STUN_SILENT,), HOST, SRFLX, "direct"),
        ["UDP is blocked here, so there is no direct path", "--direct-only"],
    ),
]


@pytest.mark.parametrize(("attempt", "said"), WITHOUT_A_PATH)
def test_without_a_path(attempt: Attempt, said: list[str]) -> None:
    for words in said:
        assert words in explain(attempt)


@pytest.mark.parametrize(
    ("policy", "servers", "said"),
    [
        ("all", NONE, "check its network, or set MESHLLM_LOOPBACK=1"),
        ("relay", NONE, "names no TURN server: ask its owner"),
        ("relay", (STUN_SILENT,), "names no TURN server: ask its owner"),
        ("relay", (TURN_SILENT, TLS_SILENT), "no TURN server answered"),
        ("direct", NONE, "uses no relay: check its network"),
    ],
)
def test_without_an_address_to_offer(
    policy: Policy, servers: Servers, said: str
) -> None:
    assert said in explain(Attempt(Stage.ADDRESS, policy, servers))


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Stage.ANSWER, "has not answered the offer"),
        (Stage.HANDSHAKE, "small MTU"),
        (Stage.CERTIFICATE, "certificate is not the one it announced"),
        (Stage.CHANNEL, "did not open its data channel"),
        (Stage.PROOF, "did not prove who it is"),
    ],
)
def test_with_a_path_or_before_one_is_looked_for(stage: Stage, said: str) -> None:
    assert said in explain(Attempt(stage))


def test_two_that_have_no_kind_of_address_in_common() -> None:
    here, there = candidates(HOST), candidates(HOST, "2001:db8::1")
    said = explain(Attempt(Stage.PATH, local=here, remote=there))
    assert "no kind of address in common" in said


def test_a_name_of_the_lan_may_be_of_either_kind() -> None:
    here, there = candidates(HOST), candidates(HOST, "7b3e.local")
    said = explain(Attempt(Stage.PATH, local=here, remote=there))
    assert "no kind of address in common" not in said


def test_the_docs_have_a_row_for_each() -> None:
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8")
    _, _, section = page.partition("## Why there is no connection")
    rows = [line.split(" | ")[0] for line in section.split("\n## ")[0].splitlines()]
    words = [word for row in rows for word in row.removeprefix("| ").split(" · ")]
    listed = [word for word in words if len(word) > 10]
    attempts = [attempt for attempt, _ in WITHOUT_A_PATH]
    attempts += [Attempt(stage) for stage in Stage]
    attempts += [Attempt(Stage.ADDRESS, policy) for policy in ("relay", "direct")]
    for attempt in attempts:
        assert any(word in explain(attempt) for word in listed), explain(attempt)


def test_every_verdict_says_what_to_do_and_leaves_the_full_stop_to_the_caller() -> None:
    for stage in Stage:
        said = explain(Attempt(stage, local=candidates(HOST), remote=candidates(HOST)))
        assert ":" in said
        assert not said.endswith(".")
