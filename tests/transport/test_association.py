"""SCTP as we run it, over real DTLS and UDP on loopback: what is sent, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meshllm.now import run_now
from meshllm.transport import addresses
from meshllm.transport.association import RTO_MAX_S, RTO_MIN_S
from meshllm.transport.peer import Peer
from tests.fakes.two_peers import connect


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


class Sent:
    """The packets of a peer from now on; those whose numbers are `lost` never leave."""

    def __init__(self, peer: Peer, *lost: int) -> None:
        self.count = 0
        self.first = asyncio.Event()
        self._lost = lost
        self._send: Callable[[bytes], None] = peer._connection.send_now
        peer._connection.send_now = self._pass  # type: ignore[method-assign]

    def _pass(self, data: bytes) -> None:
        self.count += 1
        self.first.set()
        if self.count not in self._lost:
            self._send(data)


async def heard(peer: Peer, count: int) -> list[bytes]:
    """The next `count` messages."""
    messages: list[bytes] = []
    is_done = asyncio.Event()

    def take(message: bytes) -> None:
        messages.append(message)
        if len(messages) == count:
            is_done.set()

    peer.on_message = take
    async with asyncio.timeout(10):
        await is_done.wait()
    return messages


def numbered(count: int, size: int = 40) -> list[bytes]:
    return [b"%d " % n * size for n in range(count)]


async def test_tokens_are_acknowledged_together() -> None:
    async with connected() as (one, other):
        acknowledged = Sent(other)
        for token in numbered(8):
            one.send(token)
        assert await heard(other, 8) == numbered(8)
        await acknowledged.first.wait()
        other.send(b"the SACK was before this")
        await heard(one, 1)
        assert acknowledged.count == 2
        assert not one._sctp._sent_queue


async def test_an_answer_takes_the_acknowledgement_along() -> None:
    async with connected() as (one, other):
        sent = Sent(other)
        one.send(b"question")
        await heard(other, 1)
        other.send(b"answer")
        assert await heard(one, 1) == [b"answer"]
        assert sent.count == 1
        assert not one._sctp._sent_queue


@pytest.mark.parametrize("lost", [(1,), (3, 4), (1, 5, 9)])
async def test_what_got_lost_is_sent_again_and_arrives_in_order(
    lost: tuple[int, ...],
) -> None:
    async with connected() as (one, other):
        Sent(one, *lost)
        for message in numbered(30):
            one.send(message)
        assert await heard(other, 30) == numbered(30)


async def test_pieces_of_large_messages_are_put_together_though_some_got_lost() -> None:
    async with connected() as (one, other):
        Sent(one, 2, 7, 20)
        large = [bytes([n]) * 16_384 for n in range(6)]
        for message in large:
            one.send(message)
        assert await heard(other, 6) == large
        assert one.buffered == 0


async def test_the_last_packet_is_repeated_when_nothing_follows_it() -> None:
    async with connected() as (one, other):
        sent = Sent(one, 1)
        one.send(b"last")
        assert await heard(other, 1) == [b"last"]
        assert sent.count >= 2


async def test_a_message_after_the_end_is_dropped_in_silence() -> None:
    async with connected() as (one, other):
        gone = asyncio.Event()
        one.on_closed = lambda reason: gone.set()
        await other.close()
        await gone.wait()
        one._sctp.send(b"nobody hears this")


async def test_a_fault_of_ours_in_taking_a_packet_ends_the_path(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected() as (one, other):
        gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        other.on_closed = gone.set_result

        def fail(message: bytes) -> None:
            raise ZeroDivisionError

        other.on_message = fail
        one.send(b"hello")
        assert await gone == "the peer closed the path"
        assert "a packet could not be taken" in caplog.text


async def test_a_coroutine_that_waits_is_no_longer_what_we_took_it_for() -> None:
    """Should a newer aiortc wait where 1.16 does not, this is how it shows."""
    with pytest.raises(RuntimeError, match="waits"):
        run_now(asyncio.sleep(1))


async def test_the_retransmission_timer_fits_what_was_measured() -> None:
    async with connected() as (one, _):
        association = one._sctp
        for rtt_s, least in ((0.01, RTO_MIN_S), (0.5, 0.5), (60.0, RTO_MAX_S)):
            association._srtt = None
            association._update_rto(rtt_s)
            assert least <= association._rto <= min(RTO_MAX_S, max(least, 3 * rtt_s))
