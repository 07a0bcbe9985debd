"""The two halves of a stream: offsets, credit, FIN, and going back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshllm.errors import LocalProtocolError, RemoteProtocolError
from meshllm.protocol.frames import DATA_MAX, OFFSET_MAX, Ack, Data
from meshllm.protocol.streams import (
    CREDIT,
    CREDIT_STEP,
    INITIAL_CREDIT,
    RecvHalf,
    SendHalf,
    Stream,
)
from tests.fakes.wire import pattern

LARGE = 1 << 20


def sender(data: bytes = b"", *, fin: bool = False) -> SendHalf:
    half = SendHalf(1, is_announced=True)
    half.write(data)
    if fin:
        half.finish()
    return half


def received(*frames: Data) -> RecvHalf:
    half = RecvHalf(1)
    for frame in frames:
        half.on_data(frame)
    return half


def taken(half: SendHalf, room: int = LARGE) -> list[Data]:
    frames = []
    while (frame := half.take(room)) is not None:
        frames.append(frame)
    return frames


class TestSending:
    def test_bytes_leave_in_frames_that_fit_a_message(self) -> None:
        data = pattern(1, "a", 40_000)
        frames = taken(sender(data))
        assert b"".join(frame.payload for frame in frames) == data
        assert [frame.off for frame in frames] == [0, DATA_MAX, 2 * DATA_MAX]
        assert not any(frame.fin for frame in frames)

    def test_a_frame_is_no_larger_than_its_room(self) -> None:
        assert sender(b"hello").take(2) == Data(1, 0, False, b"he")

    def test_fin_comes_with_the_last_bytes(self) -> None:
        assert taken(sender(b"hello", fin=True), 3) == [
            Data(1, 0, False, b"hel"),
            Data(1, 3, True, b"lo"),
        ]

    def test_fin_comes_alone_when_the_bytes_have_gone(self) -> None:
        half = sender(b"hello")
        taken(half)
        half.finish()
        assert taken(half) == [Data(1, 5, True, b"")]
        assert not half.is_sendable

    def test_an_empty_body_is_one_fin(self) -> None:
        assert taken(sender(fin=True)) == [Data(1, 0, True, b"")]

    def test_a_stream_the_peer_does_not_know_begins_with_an_empty_frame(self) -> None:
        half = SendHalf(1, is_announced=False)
        assert taken(half) == [Data(1, 0, False, b"")]

    def test_one_with_bytes_begins_with_those(self) -> None:
        half = SendHalf(1, is_announced=False)
        half.write(b"x")
        assert taken(half) == [Data(1, 0, False, b"x")]

    def test_credit_stops_bytes_but_not_fin(self) -> None:
        half = sender(bytes(INITIAL_CREDIT), fin=True)
        assert taken(half)[-1].fin
        half = sender(bytes(INITIAL_CREDIT + 1), fin=True)
        assert sum(len(frame.payload) for frame in taken(half)) == INITIAL_CREDIT
        assert half.is_blocked
        half.on_ack(0, INITIAL_CREDIT + 1)
        assert taken(half) == [Data(1, INITIAL_CREDIT, True, b"\0")]
        assert not half.is_blocked

    def test_credit_never_shrinks(self) -> None:
        half = sender(bytes(INITIAL_CREDIT))
        half.on_ack(0, 1)
        assert half.limit == INITIAL_CREDIT

    def test_acknowledged_bytes_are_let_go(self) -> None:
        half = sender(b"hello", fin=True)
        taken(half)
        half.on_ack(3, 0)
        assert (half.unacked, half.is_complete) == (2, False)
        half.on_ack(2, 0)
        assert half.unacked == 2
        half.on_ack(5, 0)
        assert (half.unacked, half.is_complete) == (0, False)
        half.on_ack(6, 0)
        assert half.is_complete

    @pytest.mark.parametrize("ack", [4, 5, 6])
    def test_an_ack_of_what_was_never_sent_is_an_error(self, ack: int) -> None:
        half = sender(b"hello", fin=True)
        half.take(3)
        with pytest.raises(RemoteProtocolError, match="beyond what was sent"):
            half.on_ack(ack, LARGE)
        assert (half.unacked, half.limit) == (5, INITIAL_CREDIT)

    def test_nothing_is_written_after_fin(self) -> None:
        with pytest.raises(LocalProtocolError, match="after FIN"):
            sender(fin=True).write(b"x")

    def test_no_stream_reaches_the_last_offset(self) -> None:
        half = sender()
        half.end = OFFSET_MAX - 2
        with pytest.raises(LocalProtocolError, match=r"2\^48"):
            half.write(b"xx")

    def test_after_going_back_the_same_bytes_leave_again(self) -> None:
        half = sender(b"hello world", fin=True)
        taken(half)
        half.on_ack(2, 0)
        half.rewind(4, 0)
        assert taken(half) == [Data(1, 4, True, b"o world")]

    def test_after_fin_was_received_nothing_leaves_again(self) -> None:
        half = sender(b"hello", fin=True)
        taken(half)
        half.rewind(6, LARGE)
        assert taken(half) == []
        assert half.limit == LARGE

    def test_fin_leaves_also_where_the_peer_never_granted_the_bytes(self) -> None:
        half = sender(bytes(INITIAL_CREDIT + 9), fin=True)
        half.rewind(INITIAL_CREDIT + 9, 0)
        assert taken(half) == [Data(1, INITIAL_CREDIT + 9, True, b"")]

    def test_it_goes_back_only_to_what_it_holds(self) -> None:
        half = sender(b"hello")
        taken(half)
        half.on_ack(2, 0)
        assert [rx for rx in range(8) if half.can_rewind(rx)] == [2, 3, 4, 5]
        half.finish()
        assert half.can_rewind(6)
        assert not half.can_rewind(7)


class TestReceiving:
    def test_bytes_in_order_are_new(self) -> None:
        half = RecvHalf(1)
        assert half.on_data(Data(1, 0, False, b"he")) == b"he"
        assert half.on_data(Data(1, 2, True, b"llo")) == b"llo"
        assert (half.rx, half.size) == (6, 5)

    def test_what_overlaps_is_trimmed(self) -> None:
        half = received(Data(1, 0, False, b"hello"))
        assert half.on_data(Data(1, 0, False, b"hel")) == b""
        assert half.on_data(Data(1, 3, False, b"lo wo")) == b" wo"
        assert half.rx == 8

    def test_everything_may_come_twice(self) -> None:
        frames = [Data(1, 0, False, b"he"), Data(1, 2, True, b"llo")]
        half = received(*frames)
        assert [half.on_data(frame) for frame in frames] == [b"", b""]
        assert half.on_data(Data(1, 5, True, b"")) == b""
        assert half.rx == 6

    @pytest.mark.parametrize(
        ("frame", "why"),
        [
            (Data(1, 6, False, b""), "gap"),
            (Data(1, 6, False, b"x"), "gap"),
            (Data(1, 5, False, bytes(INITIAL_CREDIT - 4)), "credit"),
            (Data(1, 0, True, b"hell"), "FIN before"),
        ],
    )
    def test_what_breaks_the_order_is_an_error(self, frame: Data, why: str) -> None:
        half = received(Data(1, 0, False, b"hello"))
        with pytest.raises(RemoteProtocolError, match=why):
            half.on_data(frame)
        assert (half.rx, half.size) == (5, None)

    @pytest.mark.parametrize(
        "frame",
        [Data(1, 5, False, b"!"), Data(1, 0, True, b"hell"), Data(1, 6, True, b"")],
    )
    def test_nothing_follows_fin(self, frame: Data) -> None:
        half = received(Data(1, 0, True, b"hello"))
        with pytest.raises(RemoteProtocolError):
            half.on_data(frame)

    def test_the_whole_credit_may_be_used(self) -> None:
        half = received(Data(1, 0, True, bytes(INITIAL_CREDIT)))
        assert half.rx == INITIAL_CREDIT + 1

    def test_what_is_consumed_is_acknowledged_and_grants_more(self) -> None:
        half = received(Data(1, 0, False, bytes(50_000)))
        assert not half.is_report_due
        half.consume(10)
        assert half.is_report_due  # from the first 64 KiB to the whole window
        assert half.report() == Ack(1, 10, 10 + CREDIT)
        half.consume(CREDIT_STEP - 1)
        assert not half.is_report_due
        half.consume(1)
        assert half.report() == Ack(1, CREDIT_STEP + 10, CREDIT_STEP + 10 + CREDIT)

    def test_fin_is_acknowledged_when_all_before_it_was_consumed(self) -> None:
        half = received(Data(1, 0, True, b"hello"))
        half.consume(4)
        assert not half.is_complete
        assert half.report().ack == 4
        half.consume(1)
        assert half.is_complete
        assert half.is_report_due
        assert not half.is_reported
        assert half.report().ack == 6
        assert half.is_reported
        assert not half.is_report_due

    def test_an_empty_body_is_acknowledged_at_once(self) -> None:
        half = received(Data(1, 0, True, b""))
        assert half.is_report_due
        assert half.report() == Ack(1, 1, INITIAL_CREDIT)

    def test_taking_nothing_grants_nothing(self) -> None:
        half = received(Data(1, 0, False, b"x"))
        half.consume(0)
        assert half.max == INITIAL_CREDIT

    def test_no_more_is_consumed_than_was_received(self) -> None:
        half = received(Data(1, 0, True, b"hello"))
        with pytest.raises(LocalProtocolError):
            half.consume(6)
        assert half.consumed == 0

    def test_credit_ends_with_the_last_offset(self) -> None:
        half = RecvHalf(1)
        half.rx = half.consumed = OFFSET_MAX - 10
        half.consume(0)
        assert half.max == OFFSET_MAX

    def test_on_a_new_path_the_last_word_is_said_again(self) -> None:
        half = received(Data(1, 0, True, b"hello"))
        half.consume(5)
        half.report()
        half.on_new_path()
        assert not half.is_reported
        assert half.is_report_due
        assert half.report().ack == 6


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 30_000), max_size=8),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=20),
    st.lists(st.integers(1, 5_000), min_size=1),
    st.lists(st.integers(0, 100_000), max_size=3),
)
def test_any_split_into_writes_frames_and_reads_gives_the_same_bytes(
    writes: list[int], rooms: list[int], reads: list[int], rewinds: list[int]
) -> None:
    data = pattern(1, "a", sum(writes))
    send, recv, got, at, turn = sender(), RecvHalf(1), b"", 0, 0
    for size in writes:
        send.write(data[at : at + size])
        at += size
    send.finish()
    while not send.is_complete:
        if (frame := send.take(rooms[turn % len(rooms)])) is not None:
            got += recv.on_data(frame)
        recv.consume(min(reads[turn % len(reads)], len(got) - recv.consumed))
        if rewinds and turn % 7 == 6:
            recv.on_new_path()
            back = max(send.acked, recv.rx - rewinds.pop())
            send.rewind(back, recv.max)
        elif recv.is_report_due or frame is None:
            ack = recv.report()
            send.on_ack(min(ack.ack, send.next), ack.max)
        turn += 1
    assert got == data
    assert (recv.size, recv.consumed, send.unacked) == (len(data), len(data), 0)


def test_a_stream_is_done_before_it_is_complete() -> None:
    stream = Stream(1, is_announced=True)
    stream.recv.on_data(Data(1, 0, True, b"question"))
    assert not stream.is_done
    stream.send.finish()
    assert stream.is_done
    stream.send.take(1)
    stream.send.on_ack(1, 0)
    assert not stream.is_complete
    stream.recv.consume(8)
    assert stream.is_complete
