"""The mesh's STUN and TURN servers, real ones on loopback, behind NATs they play."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from meshllm.doctor import observe, servers
from meshllm.doctor.check import Check, State
from meshllm.doctor.servers import Servers
from meshllm.transport import probe
from meshllm.transport.servers import IceServer
from tests.fakes.stun import PUBLIC, Address, StunServer
from tests.fakes.turn import TurnServer

HOST = "127.0.0.1"
OWN = frozenset({"192.0.2.7"})


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER_S", 0.3)
    monkeypatch.setattr(probe, "ALLOCATE_S", 0.3)
    monkeypatch.setattr(observe, "PASS_S", 0.1)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        yield server.getsockname()[1]


def elsewhere(client: Address) -> Address:
    return PUBLIC, client[1] ^ 1


async def examined(
    *urls: str, ipv6: Sequence[str] = (), own: frozenset[str] = OWN
) -> list[Check]:
    checks: list[Check] = []
    named = [IceServer(urls, "user", "secret")]
    await Servers(named, own, ipv6, checks.append).examine()
    return checks


def only(checks: Sequence[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


async def test_two_servers_tell_an_easy_nat() -> None:
    async with StunServer.running() as one, StunServer.running() as two:
        checks = await examined(f"stun:{HOST}:{one}", f"stun:{HOST}:{two}")
    assert only(checks, "nat").facts["mapping"] == "endpoint-independent"
    assert only(checks, "nat").facts["public_address"] == PUBLIC
    assert [check.state for check in checks if check.name == "stun"] == ["ok", "ok"]


async def test_two_servers_tell_a_symmetric_nat() -> None:
    async with StunServer.running() as one, StunServer.running(elsewhere) as two:
        checks = await examined(f"stun:{HOST}:{one}", f"stun:{HOST}:{two}")
    nat = only(checks, "nat")
    assert nat.facts["mapping"] == "endpoint-dependent"
    assert nat.state is State.WARNING  # no relay makes up for it
    assert only(checks, "relay").state is State.WARNING


async def test_one_server_alone_cannot_tell() -> None:
    async with StunServer.running() as port:
        checks = await examined(f"stun:{HOST}:{port}")
    assert only(checks, "nat").facts["mapping"] == "unknown"


@pytest.mark.parametrize(
    ("behind", "mapping"),
    [(None, "endpoint-independent"), (elsewhere, "endpoint-dependent")],
)
async def test_the_other_port_of_a_server_is_asked(
    behind: object, mapping: str
) -> None:
    second = StunServer.running(elsewhere) if behind else StunServer.running()
    async with second as other, StunServer.running(other_port=other) as port:
        nat = only(await examined(f"stun:{HOST}:{port}"), "nat")
    assert nat.facts["mapping"] == mapping
    assert [seen["by"] for seen in nat.facts["seen"]] == [
        f"{HOST}:{port}",
        f"{HOST}:{other}",
    ]


async def test_a_relay_is_one_more_place_to_be_seen_from() -> None:
    async with TurnServer.running("user", "secret") as relay:
        checks = await examined(relay.url)
    nat = only(checks, "nat")
    assert nat.facts["mapping"] == "endpoint-independent"
    assert nat.facts["open"] is True
    assert len({seen["by"] for seen in nat.facts["seen"]}) == 2
    assert relay.released == 2  # the trial's and this one


async def test_a_relay_sees_another_port_behind_a_symmetric_nat() -> None:
    """The first server shows another port than the relay then sees."""
    async with (
        StunServer.running(lambda client: (HOST, client[1] ^ 1)) as port,
        TurnServer.running("user", "secret") as relay,
    ):
        relay.takes_from_anywhere = True
        nat = only(await examined(f"stun:{HOST}:{port}", relay.url), "nat")
    assert nat.facts["mapping"] == "endpoint-dependent"


async def test_where_this_machine_is_seen_as_it_is_there_is_no_nat() -> None:
    async with TurnServer.running("user", "secret") as relay:
        nat = only(await examined(relay.url, own=frozenset({HOST})), "nat")
    assert nat.facts["mapping"] == "none"


async def test_when_all_are_silent_udp_is_blocked(silent: int) -> None:
    checks = await examined(f"stun:{HOST}:{silent}", f"turn:{HOST}:{silent}")
    assert only(checks, "stun").state is State.WARNING
    assert "no answer" in only(checks, "turn").text
    assert only(checks, "relay").state is State.ERROR
    assert only(checks, "nat").state is State.ERROR
    assert only(checks, "nat").facts["mapping"] == "blocked"


async def test_a_refused_credential_is_not_taken_for_silence() -> None:
    async with TurnServer.running("user", "another") as relay:
        checks = await examined(relay.url)
    assert "refuses the credential" in only(checks, "turn").text
    assert only(checks, "nat").facts["mapping"] == "unknown"


async def test_a_name_that_is_none_says_nothing_of_udp() -> None:
    checks = await examined(f"stun:{'x' * 64}.invalid:3478")
    assert "no such host" in only(checks, "stun").text
    assert only(checks, "nat").state is State.SKIPPED


async def test_a_url_of_no_use_is_passed_over() -> None:
    checks = await examined("stuns:relay.invalid:5349")
    assert only(checks, "server").state is State.SKIPPED
    assert only(checks, "nat").state is State.SKIPPED


async def test_ipv6_is_tried_where_both_sides_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both(host: str, port: int) -> list[Address]:
        """A name, as no machine has it for sure."""
        return [(HOST, port), ("::1", port)]

    monkeypatch.setattr(servers, "resolve", both)
    async with StunServer.running(lambda client: client, host="::1") as port:
        url = f"stun:relay.invalid:{port}"
        here = only(await examined(url, ipv6=["2001:db8::7"]), "ipv6")
        without = only(await examined(url), "ipv6")
    silent = only(await examined(url, ipv6=["2001:db8::7"]), "ipv6")
    assert here.facts == {"addresses": ["2001:db8::7"], "sees": "::1"}
    assert without.text.startswith("none here")
    assert (silent.state, silent.facts["sees"]) == (State.OK, None)
    assert "::1 is not reached" in silent.text
