"""Our ICE connection: which addresses, which servers, which packets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aioice
import aioice.ice
import aioice.stun
import ifaddr
import pytest

from meshllm.protocol.description import Candidate
from meshllm.transport import checks, gather, ice
from meshllm.transport.addresses import LOOPBACK, Machine, choose, read_machine
from meshllm.transport.health import Health
from meshllm.transport.ice import IceConnection
from meshllm.transport.pair import to_aioice
from meshllm.transport.policy import Policy
from meshllm.transport.servers import IceServer
from tests.fakes.stun import StunServer, keeps_the_port
from tests.fakes.turn import HOST, Address, TurnServer, address_of, bind

LO = ("lo", "127.0.0.1")
LAN = ("eth0", "192.168.1.7")
NO_WAY_OUT = "127.0.0.2"  # what it sends is never answered
DOCKER = ("docker0", "172.17.0.1")


def candidate(host: str, kind: str = "host") -> Candidate:
    return Candidate("1", "udp", 100, host, 5_000, kind)


@asynccontextmanager
async def gathered(
    *servers: IceServer,
    controlling: bool = True,
    policy: Policy = "all",
    hosts: Sequence[str] = (LOOPBACK,),
    health: Health | None = None,
) -> AsyncIterator[IceConnection]:
    connection = IceConnection(
        servers, hosts, controlling=controlling, policy=policy, health=health
    )
    try:
        await connection.bind()
        await connection.gather()
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK, 0))
        yield server.getsockname()[1]


def outside(client: Address) -> Address | None:
    return None if client[0] == NO_WAY_OUT else keeps_the_port(client)


@pytest.fixture
async def stun_port() -> AsyncIterator[int]:
    async with StunServer.running(outside) as port:
        yield port


def test_virtual_interfaces_are_not_offered_but_are_ours() -> None:
    virtual = [("br-12ab", "172.18.0.1"), ("veth1", "10.0.9.1"), ("virbr0", "10.9.0.1")]
    machine = choose([LO, LAN, DOCKER, *virtual], is_forced=False)
    assert machine.hosts(None) == ["192.168.1.7"]
    assert "172.17.0.1" in machine.own


@pytest.mark.parametrize(
    "name",
    ["tun0", "tap1", "utun4", "wg0", "ppp0", "tailscale0", "ztabcdef12", "nordlynx"],
)
def test_a_vpn_is_offered_when_it_is_named_or_the_way_out(name: str) -> None:
    found = [LO, LAN, (name, "10.8.0.2")]
    both = ["192.168.1.7", "10.8.0.2"]
    assert choose(found, is_forced=False).hosts(None) == ["192.168.1.7"]
    assert choose(found, is_forced=False, named=[name]).hosts(None) == both
    assert choose(found, is_forced=False, ways_out=["10.8.0.2"]).hosts(None) == both
    assert choose(found, is_forced=False, named=["tun"]).hosts(None) == ["192.168.1.7"]


def test_interfaces_are_named_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read() -> list[str]:
        return read_machine().hosts(None)

    adapters = [
        ifaddr.Adapter(name, name, [ifaddr.IP(address, 24, name)])
        for name, address in (("eth9", "192.168.7.7"), ("wg7", "10.9.0.7"))
    ]
    monkeypatch.setattr("ifaddr.get_adapters", lambda: adapters)
    monkeypatch.delenv("MESHLLM_LOOPBACK", raising=False)
    assert read() == ["192.168.7.7"]
    monkeypatch.setenv("MESHLLM_INTERFACES", "eth1, wg7")
    assert read() == ["192.168.7.7", "10.9.0.7"]


def test_with_nothing_but_loopback_loopback_is_offered() -> None:
    assert choose([LO], is_forced=False).hosts(None) == [LOOPBACK]
    assert choose([LO, LAN], is_forced=False).hosts(None) == ["192.168.1.7"]


def test_where_all_is_virtual_that_is_offered() -> None:
    assert choose([LO, DOCKER], is_forced=False).hosts(None) == ["172.17.0.1"]


def test_when_told_so_loopback_is_offered_instead() -> None:
    assert choose([LO, LAN], is_forced=True).hosts(None) == [LOOPBACK]


def test_many_addresses_are_cut_to_eight_and_ipv4_stays() -> None:
    ipv6 = [("eth0", f"2001:db8::{n}") for n in range(20)]
    hosts = choose([*ipv6, LAN], is_forced=False).hosts(None)
    assert len(hosts) == 8
    assert hosts[0] == "192.168.1.7"


@pytest.mark.parametrize(
    ("offer", "hosts"),
    [
        ([LOOPBACK], [LOOPBACK]),
        (["192.168.1.7"], [LOOPBACK]),
        (["192.168.1.7", "::1"], [LOOPBACK]),
        (["192.168.1.8"], ["192.168.1.7"]),
        (["192.168.1.8", LOOPBACK], ["192.168.1.7"]),
        (["7b3e.local"], ["192.168.1.7"]),
        ([], [LOOPBACK, "192.168.1.7"]),  # its addresses come later
    ],
)
def test_an_answer_offers_loopback_to_this_machine_only(
    offer: list[str], hosts: list[str]
) -> None:
    machine = choose([LO, LAN], is_forced=True)
    assert machine.hosts([candidate(host) for host in offer]) == hosts


@pytest.mark.parametrize(
    ("machine", "offer", "dialled"),
    [
        (choose([LO, LAN], is_forced=False), [LOOPBACK], []),
        (choose([LO, LAN], is_forced=True), [LOOPBACK], [LOOPBACK]),
        (choose([LO], is_forced=False), [LOOPBACK], [LOOPBACK]),
        (
            choose([LO, LAN], is_forced=False),
            ["192.168.1.7", LOOPBACK],
            ["192.168.1.7", LOOPBACK],
        ),
        (
            choose([LO, LAN], is_forced=True),
            ["192.168.1.8", LOOPBACK, "::1", "127.8.8.8"],
            ["192.168.1.8"],
        ),
        (choose([LO, LAN], is_forced=False), ["7b3e.local"], ["7b3e.local"]),
        (choose([LO], is_forced=False), ["7b3e.local"], ["7b3e.local"]),
    ],
)
def test_a_peer_elsewhere_cannot_aim_us_at_our_own_loopback(
    machine: Machine, offer: list[str], dialled: list[str]
) -> None:
    found = machine.reachable([candidate(host) for host in offer])
    assert [c.host for c in found] == dialled


def test_tcp_candidates_are_not_dialled() -> None:
    tcp = Candidate("1", "tcp", 100, "192.168.1.8", 9, "host")
    assert choose([LO, LAN], is_forced=False).reachable([tcp]) == []


async def test_a_stun_server_shows_the_address_outside(stun_port: int) -> None:
    server = IceServer((f"stun:{LOOPBACK}:{stun_port}",))
    async with gathered(server) as connection:
        host, reflexive = connection.offered
        assert (host.host, host.kind) == (LOOPBACK, "host")
        assert (reflexive.host, reflexive.kind) == ("203.0.113.9", "srflx")
        assert (reflexive.related_host, reflexive.related_port) == (LOOPBACK, host.port)


async def test_a_second_stun_server_serves_when_the_first_is_silent(
    silent: int, stun_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "STUN_S", 60.0)  # not waited for
    monkeypatch.setattr(gather, "STUN_MORE_S", 60.0)
    urls = (f"stun:{LOOPBACK}:{silent}", f"stun:{LOOPBACK}:{stun_port}")
    async with gathered(IceServer(urls)) as connection:
        assert [c.kind for c in connection.offered] == ["host", "srflx"]


async def test_a_relay_is_allocated_with_the_credential() -> None:
    async with TurnServer.running("user", "secret") as relay:
        for credential, kinds in (("secret", ["host", "relay"]), ("wrong", ["host"])):
            server = IceServer((relay.url,), "user", credential)
            async with gathered(server) as connection:
                assert [c.kind for c in connection.offered] == kinds


async def test_another_relay_serves_when_the_first_is_silent(silent: int) -> None:
    async with TurnServer.running("user", "secret") as relay:
        urls = (f"turn:{LOOPBACK}:{silent}", relay.url)
        async with gathered(IceServer(urls, "user", "secret")) as connection:
            assert [c.kind for c in connection.offered] == ["host", "relay"]


async def test_silent_servers_do_not_hold_up_gathering(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "STUN_S", 0.05)
    monkeypatch.setattr(gather, "RELAY_S", 0.1)
    monkeypatch.setattr(gather, "RELAY_ONLY_S", 0.2)
    before = asyncio.all_tasks()
    server = IceServer(
        (f"stun:{LOOPBACK}:{silent}", f"turn:{LOOPBACK}:{silent}"), "user", "secret"
    )
    async with asyncio.timeout(4):  # upstream waits for five seconds
        async with gathered(server) as connection:
            assert [c.kind for c in connection.offered] == ["host"]
    assert asyncio.all_tasks() == before


async def test_an_address_without_a_way_out_costs_little(
    stun_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "STUN_S", 60.0)
    monkeypatch.setattr(gather, "STUN_MORE_S", 0.01)
    monkeypatch.setattr(gather, "_can_reflect", lambda host, server: True)
    server = IceServer((f"stun:{LOOPBACK}:{stun_port}",))
    async with gathered(server, hosts=[LOOPBACK, NO_WAY_OUT]) as connection:
        assert [c.kind for c in connection.offered] == ["host", "host", "srflx"]


async def test_a_silent_relay_costs_little_when_udp_is_known_to_work(
    silent: int, stun_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "RELAY_S", 0.05)
    monkeypatch.setattr(gather, "RELAY_ONLY_S", 60.0)
    urls = (f"stun:{LOOPBACK}:{stun_port}", f"turn:{LOOPBACK}:{silent}")
    async with gathered(IceServer(urls, "user", "secret")) as connection:
        assert [c.kind for c in connection.offered] == ["host", "srflx"]


async def test_a_slow_relay_is_waited_for_when_udp_may_be_blocked(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "STUN_S", 0.05)
    monkeypatch.setattr(gather, "RELAY_S", 0.05)
    async with TurnServer.running("user", "secret") as relay:
        relay.is_silent = True  # its first request is lost, the next one is not
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, setattr, relay, "is_silent", False)
        urls = (f"stun:{LOOPBACK}:{silent}", relay.url)
        async with gathered(IceServer(urls, "user", "secret")) as connection:
            assert [c.kind for c in connection.offered] == ["host", "relay"]


@pytest.mark.parametrize(
    ("policy", "kinds"), [("direct", ["host", "srflx"]), ("relay", ["relay"])]
)
async def test_only_what_the_policy_allows_is_gathered(
    policy: Policy, kinds: list[str], stun_port: int
) -> None:
    async with TurnServer.running("user", "secret") as relay:
        urls = (f"stun:{LOOPBACK}:{stun_port}", relay.url)
        server = IceServer(urls, "user", "secret")
        async with gathered(server, policy=policy) as connection:
            assert [c.kind for c in connection.offered] == kinds
        assert relay.released == kinds.count("relay")


async def test_cancelled_gathering_leaves_no_task_behind(silent: int) -> None:
    before = asyncio.all_tasks()
    server = IceServer((f"stun:{LOOPBACK}:{silent}",))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), gathered(server):
            pass
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    "url", ["http://example.org", "stun:", "turn:host:port", "stuns:a", "turns:a:1?x"]
)
async def test_a_server_of_no_use_is_passed_over(url: str) -> None:
    async with gathered(IceServer((url,))) as connection:
        assert [c.kind for c in connection.offered] == ["host"]


def test_credentials_do_not_show_in_logs() -> None:
    assert "secret" not in repr(IceServer(("turn:a",), "user", "secret"))


async def join(one: IceConnection, other: IceConnection) -> None:
    for here, there in ((one, other), (other, one)):
        here.remote_username = there.local_username
        here.remote_password = there.local_password
        await here.add(there.offered, is_all=True)
    await asyncio.gather(one.connect(), other.connect())


async def test_nothing_but_dtls_of_a_known_peer_is_queued() -> None:
    async with gathered() as one, gathered(controlling=False) as other:
        one.data_received(b"\x16 of a stranger", 1)
        assert one.dropped == 1
        await join(one, other)
        for first in (19, 64, 128, 200, 255):
            one.data_received(bytes([first]), 1)
        one.data_received(b"", 1)
        assert one.dropped == 7
        await other.send(b"\x16 of the peer")
        assert await one.recv() == b"\x16 of the peer"


async def test_packets_too_large_for_a_data_channel_are_not_queued() -> None:
    async with gathered() as one, gathered(controlling=False) as other:
        await join(one, other)
        one.data_received(b"\x16" + bytes(ice.PACKET_MAX), 1)
        assert one.dropped == 1


async def test_the_only_pair_is_awaited_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "PACE_S", 1_000.0)
    async with gathered() as one, gathered(controlling=False) as other:
        async with asyncio.timeout(5):
            await join(one, other)
        assert one.kind == "host"


async def test_a_pair_that_comes_after_a_pause_is_tried_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "PACE_S", 0.0)
    async with gathered() as connection:
        turn = asyncio.create_task(connection._next_turn())
        await passed(5)
        assert not turn.done()  # there is nothing to try
        await connection.add([candidate("192.168.1.8")], is_all=False)
        await passed(5)
        assert turn.done()


async def test_pairs_that_come_together_are_tried_at_a_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "PACE_S", 1_000.0)
    async with gathered() as connection:
        await connection.add([candidate("192.168.1.8")], is_all=False)
        turn = asyncio.create_task(connection._next_turn())
        await connection.add([candidate("192.168.1.9")], is_all=False)
        await passed(5)
        assert not turn.done()
        await connection.close()  # as any outcome
        await passed(5)
        assert turn.done()


async def passed(turns: int) -> None:
    """Turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_a_relay_never_takes_the_place_of_a_direct_path() -> None:
    async with TurnServer.running("user", "secret") as turn:
        server = IceServer((turn.url,), "user", "secret")
        async with gathered(server) as connection:
            direct, relayed = (
                aioice.ice.CandidatePair(protocol, to_aioice(candidate("192.168.1.8")))
                for protocol in connection._protocols
            )
            for pair, used in (
                (relayed, relayed),
                (direct, direct),
                (relayed, direct),
            ):
                pair.state = aioice.ice.CandidatePair.State.SUCCEEDED
                pair.nominated = True
                connection.check_complete(pair)
                assert connection._nominated == {1: used}


async def test_a_path_moves_from_the_relay_to_a_direct_pair_that_comes_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ice, "SETTLE_S", 0.01)
    async with TurnServer.running("user", "secret") as turn:
        server = IceServer((turn.url,), "user", "secret")
        async with gathered(server) as one, gathered(controlling=False) as other:
            direct, relay = one.offered
            for here, there in ((one, other), (other, one)):
                here.remote_username = there.local_username
                here.remote_password = there.local_password
            one._policy = "all"
            await other.add([relay], is_all=False)
            hidden = one._protocols.pop(0)  # our own address is not known to us yet
            await one.add(other.offered, is_all=False)
            await asyncio.gather(one.connect(), other.connect())
            assert one.kind == other.kind == "relay"
            one._protocols.insert(0, hidden)
            one._remote_candidates.clear()
            await one.add(other.offered, is_all=True)
            await other.add([direct], is_all=True)
            async with asyncio.timeout(5):
                while {one.kind, other.kind} != {"host"} or not turn.released:
                    await asyncio.sleep(0.01)


async def test_what_may_be_a_relay_takes_no_direct_pairs_place() -> None:
    """A check may come before the candidate that it comes from."""
    async with gathered() as connection:
        (protocol,) = connection._protocols

        def pair(kind: str) -> aioice.ice.CandidatePair:
            made = aioice.ice.CandidatePair(
                protocol, to_aioice(candidate("192.168.1.8", kind))
            )
            made.state, made.nominated = aioice.ice.CandidatePair.State.SUCCEEDED, True
            return made

        unnamed, direct, another = pair("prflx"), pair("host"), pair("prflx")
        for found, used in ((unnamed, unnamed), (direct, direct), (another, direct)):
            connection.check_complete(found)
            assert connection._nominated == {1: used}
        await connection.add([], is_all=True)  # now it is the peer behind its NAT
        connection.check_complete(another)
        assert connection._nominated == {1: another}


async def test_a_peer_with_another_address_is_followed() -> None:
    """As after a NAT forgot: the same sender, seen at another port."""
    async with gathered() as one, gathered(controlling=False) as other:
        await join(one, other)
        (pair,) = one._nominated.values()
        await one.get_component_candidates(1, [LOOPBACK])
        moved = aioice.ice.CandidatePair(one._protocols[1], pair.remote_candidate)
        one._nominated[1] = moved
        request = one.build_request(moved, nominate=False)
        assert "USE-CANDIDATE" in request.attributes
        assert one.remote_password is not None
        await moved.protocol.request(
            request, moved.remote_addr, integrity_key=one.remote_password.encode()
        )
        async with asyncio.timeout(5):
            while other._nominated[1].remote_addr != moved.local_addr:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def streaming(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[IceConnection, IceConnection]]:
    """To the first from the second, for more than a moment; then no more."""
    monkeypatch.setattr(checks, "TICK_S", 0.02)
    async with gathered() as one, gathered(controlling=False) as other:
        await join(one, other)
        for number in range(8):
            await other.send(b"\x16%d" % number)
            await asyncio.sleep(0.01)
        yield one, other


async def test_a_stream_that_breaks_off_stalls_when_the_peer_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with streaming(monkeypatch) as (one, other):
        monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.02)
        stalled = asyncio.Event()
        one.on_stall = stalled.set
        await other.close()
        async with asyncio.timeout(5):
            await stalled.wait()
        assert one.is_stalled


async def test_a_stream_that_ends_is_asked_after_and_does_not_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with streaming(monkeypatch) as (one, other):
        asked = asyncio.Event()
        check_incoming = other.check_incoming

        def incoming(*args: Any) -> None:
            check_incoming(*args)
            asked.set()

        monkeypatch.setattr(other, "check_incoming", incoming)
        async with asyncio.timeout(5):
            await asked.wait()
        await asyncio.sleep(0.2)
        assert not one.is_stalled


async def test_a_path_stalls_when_this_machine_cannot_send_any_more() -> None:
    async with gathered() as one, gathered(controlling=False) as other:
        await join(one, other)
        stalls: list[bool] = []
        one.on_stall = lambda: stalls.append(one.is_stalled)
        (pair,) = one._nominated.values()
        for _ in range(2):
            pair.protocol.error_received(OSError(22, "Invalid argument"))
        assert stalls == [True]
        await other.send(b"\x16 heard again")
        await one.recv()
        assert not one.is_stalled


async def test_a_check_that_a_nat_dropped_is_repeated_when_the_peer_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 60.0)
    got: asyncio.Queue[aioice.stun.Message] = asyncio.Queue()

    def receive(data: bytes, addr: Address) -> None:
        got.put_nowait(aioice.stun.parse_message(data))

    peer = await bind(receive)
    async with gathered() as connection:
        connection.remote_username, connection.remote_password = "peer", "p" * 22
        shown = replace(candidate(HOST), port=address_of(peer)[1])
        await connection.add([shown], is_all=True)
        connecting = asyncio.create_task(connection.connect())
        check = await got.get()
        assert check.message_class == aioice.stun.Class.REQUEST
        own = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
        own.attributes["USERNAME"] = f"{connection.local_username}:peer"
        own.attributes["PRIORITY"] = 100
        own.attributes["ICE-CONTROLLED"] = 1
        own.add_message_integrity(connection.local_password.encode())
        to = connection.offered[0]
        peer.transport.sendto(bytes(own), (to.host, to.port))
        answer, again = await got.get(), await got.get()
        assert answer.message_class == aioice.stun.Class.RESPONSE
        assert again.transaction_id == check.transaction_id
        await connection.close()
        with pytest.raises(ConnectionError):
            await connecting
    peer.transport.close()


async def test_where_our_checks_are_refused_the_peers_own_find_the_way() -> None:
    """So a browser does that answers from another address than it named."""
    async with gathered(controlling=False) as one, gathered() as other:

        def refuse(data: bytes, addr: Address) -> None:
            check = aioice.stun.parse_message(data)
            answer = aioice.stun.Message(
                check.message_method, aioice.stun.Class.ERROR, check.transaction_id
            )
            answer.attributes["ERROR-CODE"] = (400, "Bad Request")
            answer.add_message_integrity(other.local_password.encode())
            stranger.transport.sendto(bytes(answer), addr)

        stranger = await bind(refuse)
        for here, there in ((one, other), (other, one)):
            here.remote_username = there.local_username
            here.remote_password = there.local_password
        shown = replace(candidate(HOST), port=address_of(stranger)[1])
        await one.add([shown], is_all=True)
        await other.add(one.offered, is_all=True)
        connecting = asyncio.create_task(one.connect())
        while not any(pair.state is checks.State.FAILED for pair in one._check_list):
            await asyncio.sleep(0.01)
        await asyncio.gather(connecting, other.connect())
        assert one.selected is not None
        assert one.selected.remote.port == other.offered[0].port
        stranger.transport.close()


async def test_whoever_uses_no_relay_does_not_hear_the_peers() -> None:
    relay, host = candidate("192.0.2.1", "relay"), candidate("192.168.1.8")
    check = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
    check.attributes["PRIORITY"] = 100
    cases: list[tuple[Policy, list[str]]] = [
        ("direct", [host.host]),
        ("all", [relay.host, host.host]),
    ]
    for policy, heard in cases:
        async with gathered(controlling=False, policy=policy) as connection:
            await connection.add([relay, host], is_all=True)
            (protocol,) = connection._protocols
            connection.check_incoming(check, (relay.host, relay.port), protocol)
            assert [c.host for c in connection.remote_candidates] == heard
            assert [p.remote_addr[0] for p in connection._check_list] == heard


async def test_the_queue_has_an_end() -> None:
    async with gathered() as one, gathered(controlling=False) as other:
        await join(one, other)
        for _ in range(1_000):
            one.data_received(b"\x16", 1)
        assert one.dropped == 1_000 - ice.QUEUE_PACKETS


async def test_a_name_is_asked_for_while_addresses_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    class Lan:
        async def resolve(self, name: str) -> str:
            asked.set()
            await answered.wait()
            return "192.168.1.8"

    async def lan(subscriber: object) -> Lan:
        return Lan()

    monkeypatch.setattr(aioice.ice, "get_or_create_mdns_protocol", lan)
    monkeypatch.setattr(ice, "NAMED_S", 0.0)
    async with gathered() as connection:
        adding = asyncio.create_task(
            connection.add(
                [candidate("7b3e.local"), candidate("192.168.1.9")], is_all=True
            )
        )
        await asked.wait()
        assert [c.host for c in connection.remote_candidates] == ["192.168.1.9"]
        answered.set()
        await adding
        assert [c.host for c in connection.remote_candidates] == [
            "192.168.1.9",
            "7b3e.local",
        ]


async def test_a_lan_without_multicast_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lan(subscriber: object) -> None:
        raise OSError("port 5353 is taken")

    monkeypatch.setattr(aioice.ice, "get_or_create_mdns_protocol", lan)
    monkeypatch.setattr(ice, "NAMED_S", 0.0)
    async with gathered() as connection:
        await connection.add(
            [candidate("7b3e.local"), candidate("192.168.1.9")], is_all=True
        )
        assert [c.host for c in connection.remote_candidates] == ["192.168.1.9"]
