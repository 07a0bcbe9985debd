"""Peers on this machine: real ICE, DTLS and SCTP over loopback."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aioice.ice
import pytest
import uvloop
from aiortc import (
    RTCConfiguration,
    RTCDtlsTransport,
    RTCPeerConnection,
    RTCSessionDescription,
)

from meshllm.errors import LocalProtocolError, PeerUnreachable
from meshllm.protocol.description import Description, from_sdp, to_sdp
from meshllm.transport import addresses, ice
from meshllm.transport.addresses import Machine
from meshllm.transport.inbox import EARLY_BYTES
from meshllm.transport.peer import IceServer, Peer
from meshllm.transport.policy import Policy
from tests.fakes.turn import TurnServer
from tests.fakes.two_peers import connect

NOWHERE = Machine(usable=(), own=frozenset(), is_alone=False)


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.LOOPBACK_ENV, "1")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Peer, Peer]]:
    one, other = await connect()
    try:
        yield one, other
    finally:
        await asyncio.gather(one.close(), other.close())


class Heard:
    """What a peer was told, and a way to wait for the n-th message."""

    def __init__(self, peer: Peer) -> None:
        self.messages: list[bytes] = []
        self._more = asyncio.Condition()
        self._woken: set[asyncio.Task[None]] = set()
        peer.on_message = self._take

    def _take(self, message: bytes) -> None:
        self.messages.append(message)
        task = asyncio.create_task(self._wake())
        self._woken.add(task)
        task.add_done_callback(self._woken.discard)

    async def _wake(self) -> None:
        async with self._more:
            self._more.notify_all()

    async def until(self, count: int) -> list[bytes]:
        async with self._more:
            await self._more.wait_for(lambda: len(self.messages) >= count)
        return self.messages


def ended(peer: Peer) -> asyncio.Future[str]:
    """Done when `on_closed` is called; a second call would fail it."""
    end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    peer.on_closed = end.set_result
    return end


async def test_messages_arrive_in_order_both_ways() -> None:
    async with connected() as (one, other):
        at_one, at_other = Heard(one), Heard(other)
        sent = [bytes([n % 256]) * size for n, size in enumerate([1, 16_384, 7] * 20)]
        for message in sent:
            one.send(message)
            other.send(message[::-1])
        assert await at_other.until(len(sent)) == sent
        assert await at_one.until(len(sent)) == [message[::-1] for message in sent]


async def test_each_sees_the_certificate_the_other_shows() -> None:
    async with connected() as (one, other):
        assert one.observed_fingerprint == other.own_fingerprint
        assert other.observed_fingerprint == one.own_fingerprint
        assert one.own_fingerprint == one.local.fingerprint
        assert one.own_fingerprint != other.own_fingerprint


async def test_both_name_the_same_pair_of_addresses() -> None:
    async with connected() as (one, other):
        assert one.kind == other.kind == "host"
        assert one.candidates["local"] == other.candidates["remote"]
        assert one.candidates["remote"] == other.candidates["local"]
        assert one.candidates["local"].startswith("host 127.0.0.1:")


async def test_what_is_gathered_is_a_description_others_accept() -> None:
    peer = await Peer.offer([])
    try:
        assert Description.from_json(peer.local.to_json()) == peer.local
        assert peer.local.setup == "actpass"
        assert [c.host for c in peer.local.candidates] == ["127.0.0.1"]
    finally:
        await peer.close()


async def test_messages_wait_for_a_listener() -> None:
    async with connected() as (one, other):
        replies = Heard(one)
        for n in range(10):
            one.send(b"%d" % n)
        other.send(b"go")
        await replies.until(1)
        heard = Heard(other)
        one.send(b"10")
        assert await heard.until(11) == [b"%d" % n for n in range(11)]


async def test_a_peer_that_talks_too_much_before_it_is_heard_is_dropped() -> None:
    async with connected() as (one, other):
        end = ended(other)
        for _ in range(EARLY_BYTES // 16_384 + 1):
            one.send(bytes(16_384))
        assert "too much" in await end


async def test_low_is_told_when_everything_was_handed_over() -> None:
    async with connected() as (one, other):
        heard = Heard(other)
        low = asyncio.Event()
        one.on_low = low.set
        one.send(bytes(16_384))
        one.send(bytes(16_384))
        assert one.buffered == 16_384  # the first is on its way
        await low.wait()
        assert one.buffered == 0
        await heard.until(2)


async def test_a_message_above_the_limit_is_our_bug() -> None:
    async with connected() as (one, _):
        with pytest.raises(LocalProtocolError):
            one.send(bytes(16_385))


async def test_the_other_side_sees_a_close_once() -> None:
    async with connected() as (one, other):
        own, others = ended(one), ended(other)
        await one.close()
        assert await others == "the peer closed the path"
        await one.close()
        await other.close()
        assert not own.done()


async def test_a_close_before_anybody_listened_is_told_later() -> None:
    async with connected() as (one, other):
        first = ended(other)
        await one.close()
        await first
        assert await ended(other) == "the peer closed the path"


async def test_sending_after_the_end_does_nothing() -> None:
    async with connected() as (one, other):
        end = ended(other)
        await one.close()
        await end
        other.send(b"too late")
        one.send(b"too late")


async def test_another_certificate_than_announced_is_refused() -> None:
    one = await Peer.offer([])
    other = await Peer.answer(one.local, [])
    try:
        await one.accept(replace(other.local, fingerprint=bytes(32)))
        with pytest.raises(PeerUnreachable, match="not the one it announced"):
            await one.opened(10)
    finally:
        await asyncio.gather(one.close(), other.close())


async def test_the_observed_certificate_is_not_taken_from_the_description(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        RTCDtlsTransport, "_validate_peer_identity", lambda self, parameters: None
    )
    one = await Peer.offer([])
    other = await Peer.answer(one.local, [])
    try:
        await one.accept(replace(other.local, fingerprint=bytes(32)))
        await asyncio.gather(one.opened(10), other.opened(10))
        assert one.observed_fingerprint == other.own_fingerprint != bytes(32)
    finally:
        await asyncio.gather(one.close(), other.close())


async def test_before_dtls_there_is_no_certificate_to_observe() -> None:
    peer = await Peer.offer([])
    try:
        with pytest.raises(LocalProtocolError):
            _ = peer.observed_fingerprint
    finally:
        await peer.close()


async def test_who_never_answers_is_named_in_the_error() -> None:
    peer = await Peer.offer([])
    try:
        with pytest.raises(PeerUnreachable, match="has not answered"):
            await peer.opened(0.01)
    finally:
        await peer.close()


async def test_a_wrong_password_ends_in_no_path() -> None:
    one = await Peer.offer([])
    other = await Peer.answer(one.local, [])
    try:
        await one.accept(replace(other.local, pwd="x" * 22))
        with pytest.raises(PeerUnreachable, match="no STUN or TURN server"):
            await one.opened(0.3)  # ICE itself would try for half a minute
    finally:
        await asyncio.gather(one.close(), other.close())


async def test_the_verdict_knows_which_servers_answered() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        stun = IceServer((f"stun:127.0.0.1:{silent.getsockname()[1]}",))
        one = await Peer.offer([stun])
        other = await Peer.answer(one.local, [])
        try:
            await one.accept(replace(other.local, pwd="x" * 22))
            with pytest.raises(PeerUnreachable, match="UDP seems to be blocked here"):
                await one.opened(0.3)
        finally:
            await asyncio.gather(one.close(), other.close())


async def test_the_verdict_outlives_the_end() -> None:
    peer = await Peer.offer([])
    before = peer.verdict()
    await peer.close()
    assert "has not answered" in before
    assert peer.verdict() == before


async def test_closing_wakes_whoever_waits() -> None:
    peer = await Peer.offer([])
    waiting = asyncio.create_task(peer.opened(10))
    await asyncio.sleep(0)
    await peer.close()
    with pytest.raises(PeerUnreachable, match="closed"):
        await waiting


async def test_without_any_address_there_is_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshllm.transport.peer.read_machine", lambda: NOWHERE)
    with pytest.raises(PeerUnreachable, match="MESHLLM_LOOPBACK"):
        await Peer.offer([])


@pytest.mark.parametrize(
    ("policy", "advice"),
    [("relay", "names no TURN server"), ("direct", "without --direct-only")],
)
async def test_a_policy_that_leaves_nothing_says_so(
    policy: Policy, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshllm.transport.peer.read_machine", lambda: NOWHERE)
    with pytest.raises(PeerUnreachable, match=advice):
        await Peer.offer([], policy=policy)


async def test_behind_a_relay_no_address_of_ours_is_told() -> None:
    async with (
        TurnServer.running("user", "secret") as relay,
        relayed(relay) as (one, _),
    ):
        (shown,) = one.local.candidates
        assert shown.kind == "relay"
        assert (shown.related_host, shown.related_port) == ("0.0.0.0", 9)


async def test_whoever_uses_no_relay_refuses_a_peer_that_has_only_one() -> None:
    async with TurnServer.running("user", "secret") as relay:
        servers = [IceServer((relay.url,), "user", "secret")]
        one = await Peer.offer(servers, policy="relay")
        try:
            said = replace(one.local, is_complete=True)
            with pytest.raises(PeerUnreachable, match="relay only"):
                await Peer.answer(said, servers, policy="direct")
        finally:
            await one.close()


async def test_the_pair_is_still_named_after_the_end() -> None:
    async with connected() as (one, other):
        await asyncio.gather(one.close(), other.close())
        assert one.candidates["local"] == other.candidates["remote"]


async def test_the_pair_in_use_is_named_also_when_it_changes() -> None:
    async with (
        TurnServer.running("user", "secret") as relay,
        relayed(relay) as (_, other),
    ):
        assert other.kind == "relay"
        (used,) = other._connection._nominated.values()
        used.remote_candidate.type = "prflx"
        assert other.kind == "prflx"


async def test_an_offer_without_an_address_that_we_may_dial_is_refused() -> None:
    one = await Peer.offer([])
    empty = replace(one.local, candidates=())
    try:
        with pytest.raises(PeerUnreachable):
            await Peer.answer(empty, [])
    finally:
        await one.close()


async def test_an_offer_is_accepted_once() -> None:
    async with connected() as (one, other):
        with pytest.raises(LocalProtocolError):
            await one.accept(other.local)


async def test_thirty_connections_leave_no_task_behind() -> None:
    before = asyncio.all_tasks()
    for _ in range(30):
        async with connected():
            pass
    assert asyncio.all_tasks() == before


async def test_closing_while_connecting_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    one = await Peer.offer([])
    other = await Peer.answer(one.local, [])
    await one.accept(other.local)
    await asyncio.gather(one.close(), other.close())
    assert asyncio.all_tasks() == before


async def test_strangers_packets_are_not_kept() -> None:
    one = await Peer.offer([])
    target = ("127.0.0.1", one.local.candidates[0].port)
    junk = bytes([22]) + bytes(1_199)  # looks like DTLS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        tracemalloc.start()
        try:
            start, _ = tracemalloc.get_traced_memory()
            for sent in range(1, 20_001):
                stranger.sendto(junk, target)
                if sent % 50 == 0:  # the kernel's buffer holds that many
                    while one.dropped < sent:
                        await asyncio.sleep(0)
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert one.dropped == 20_000
    assert now - start < 1_000_000
    other = await Peer.answer(one.local, [])
    try:
        await one.accept(other.local)
        await asyncio.gather(one.opened(10), other.opened(10))
    finally:
        await asyncio.gather(one.close(), other.close())


async def test_a_second_channel_ends_the_path() -> None:
    async with connected() as (one, other):
        end = ended(other)
        await one._sctp._send(2, 53, b"on another stream")
        assert await end == "the peer opened another channel"


async def test_text_ends_the_path() -> None:
    async with connected() as (one, other):
        end = ended(other)
        one._channel.send("text")
        assert "no message of ours" in await end


async def test_messages_that_never_end_end_the_path() -> None:
    async with connected() as (one, other):
        end = ended(other)
        # aiortc's sender does not mind its peer's window, so it can be the attacker.
        one._sctp._remote_max_message_size = 0
        one._channel.send(bytes(3_000_000))
        assert await end == "the peer sent more than its window allows"


@asynccontextmanager
async def relayed(
    relay: TurnServer,
) -> AsyncIterator[tuple[Peer, Peer]]:
    """The offerer shows no address but the relay's."""
    servers = [IceServer((relay.url,), "user", "secret")]
    one = await Peer.offer(servers, policy="relay")
    other = await Peer.answer(one.local, [])
    try:
        await one.accept(other.local)
        await asyncio.gather(one.opened(10), other.opened(10))
        yield one, other
    finally:
        await asyncio.gather(one.close(), other.close())


async def test_a_relay_carries_messages_and_both_sides_know() -> None:
    async with (
        TurnServer.running("user", "secret") as relay,
        relayed(relay) as (one, other),
    ):
        heard = Heard(other)
        for n in range(100):
            one.send(b"%d" % n * 1_000)
        assert await heard.until(100) == [b"%d" % n * 1_000 for n in range(100)]
        assert one.kind == other.kind == "relay"
        assert one.candidates["local"] == other.candidates["remote"]
    assert relay.released == 1


async def test_a_relay_that_vanished_does_not_hold_up_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ice, "RELEASE_S", 0.1)
    before = asyncio.all_tasks()
    async with TurnServer.running("user", "secret") as relay:
        async with relayed(relay) as (one, _):
            relay.is_silent = True
            async with asyncio.timeout(4):  # upstream tries for a minute
                await one.close()
        assert relay.released == 0
    assert asyncio.all_tasks() == before


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain aiortc offers no loopback address by itself."""
    monkeypatch.setattr(
        aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    )


@pytest.mark.usefixtures("foreign")
async def test_another_webrtc_stack_connects_through_sdp() -> None:
    browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channel = browser.createDataChannel("any", negotiated=True, id=0)
    said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    channel.on("message", said.set_result)
    await browser.setLocalDescription(await browser.createOffer())
    peer = await Peer.answer(from_sdp(browser.localDescription.sdp), [])
    try:
        answer = to_sdp(peer.local, kind="answer")
        await browser.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await peer.opened(10)
        peer.send(b"hello")
        assert await said == b"hello"
        heard = Heard(peer)
        channel.send(b"hello yourself")
        assert await heard.until(1) == [b"hello yourself"]
    finally:
        await peer.close()
        await browser.close()


@pytest.mark.usefixtures("foreign")
async def test_our_offer_is_answered_by_another_webrtc_stack() -> None:
    peer = await Peer.offer([])
    browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        browser.createDataChannel("any", negotiated=True, id=0)
        offer = to_sdp(peer.local, kind="offer")
        await browser.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await browser.setLocalDescription(await browser.createAnswer())
        await peer.accept(from_sdp(browser.localDescription.sdp))
        await peer.opened(10)
        end = ended(peer)
        await browser.close()
        assert await end == "the peer closed the path"
    finally:
        await peer.close()
        await browser.close()


def test_uvloop_serves_as_well() -> None:
    async def talk() -> None:
        async with connected() as (one, other):
            heard, end = Heard(other), ended(other)
            for _ in range(50):
                one.send(bytes(16_384))
            assert len(await heard.until(50)) == 50
            await one.close()
            assert await end == "the peer closed the path"

    uvloop.run(talk())


@pytest.fixture
def lonely_namespace() -> Iterator[str]:
    """A network namespace in which only loopback is up."""
    name = f"meshllm-lo-{os.getpid()}"
    reason = ""
    if not shutil.which("ip") or os.geteuid() != 0:
        reason = "network namespaces need root and the ip command"
    else:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True)
        if made.returncode:
            reason = f"no network namespace: {made.stderr.decode().strip()}"
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.real
def test_with_only_loopback_peers_of_one_machine_connect(lonely_namespace: str) -> None:
    program = [sys.executable, "-W", "error", "-m", "tests.fakes.two_peers"]
    child = subprocess.run(
        ["ip", "netns", "exec", lonely_namespace, *program],
        env={k: v for k, v in os.environ.items() if k != addresses.LOOPBACK_ENV},
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["heard"] == "hello"
    assert found["local"].startswith("host 127.0.0.1:")
