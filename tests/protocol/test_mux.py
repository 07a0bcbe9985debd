"""Many streams on one session: turns, limits, ends, and who may go on writing."""

from __future__ import annotations

import pytest

from meshllm.errors import Code, LocalProtocolError, RemoteProtocolError
from meshllm.protocol import mux as m
from meshllm.protocol.events import Event, Opened, Received, StreamEnded, Writable
from meshllm.protocol.frames import Ack, Data, Frame, Reset, StreamState
from meshllm.protocol.mux import Mux
from meshllm.protocol.streams import CREDIT, INITIAL_CREDIT, REPLAY_MAX, UNSENT_MAX

LARGE = 16_000


class Ends:
    """Client and provider, whose frames reach each other when a test says so."""

    def __init__(self) -> None:
        self.to_provider: list[Frame] = []
        self.to_client: list[Frame] = []
        self.client = Mux(is_client=True, say=self.to_provider.append)
        self.provider = Mux(is_client=False, say=self.to_client.append)
        self.client.on_new_path()
        self.provider.on_new_path()

    def up(self) -> list[Event]:
        """All that the client has to say reaches the provider."""
        said, self.to_provider[:] = [*self.to_provider], []
        return self._pass(self.provider, said + leaving(self.client))

    def down(self) -> list[Event]:
        said, self.to_client[:] = [*self.to_client], []
        return self._pass(self.client, said + leaving(self.provider))

    def _pass(self, to: Mux, said: list[Frame]) -> list[Event]:
        events: list[Event] = []
        for frame in said:
            events += receive(to, frame)
        return events


def receive(mux: Mux, frame: Frame) -> list[Event]:
    match frame:
        case Data():
            return mux.on_data(frame)
        case Ack():
            return mux.on_ack(frame)
        case Reset():
            return mux.on_reset(frame)
    raise AssertionError(frame)


def leaving(mux: Mux) -> list[Frame]:
    said: list[Frame] = []
    while (frame := mux.take_ack() or mux.take_data(LARGE)) is not None:
        said.append(frame)
    return said


def provider() -> Mux:
    mux = Mux(is_client=False, say=lambda reset: None)
    mux.on_new_path()
    return mux


def client(streams: int = 0) -> Mux:
    mux = Mux(is_client=True, say=lambda reset: None)
    mux.on_new_path()
    for _ in range(streams):
        mux.open()
    return mux


def state(stream: int, rx: int = 0, state: int = 0) -> StreamState:
    return StreamState(stream, rx, INITIAL_CREDIT, state)


class TestBeginning:
    def test_ids_rise_by_one_and_are_never_used_again(self) -> None:
        mux = client()
        assert [mux.open(), mux.open()] == [1, 2]
        mux.reset(2, Code.CANCELLED, "", retryable=False)
        assert mux.open() == 3

    def test_the_first_frames_leave_in_the_order_of_ids(self) -> None:
        """Else the provider would take the lower ids for ones that were cancelled."""
        ends = Ends()
        for _ in range(3):
            ends.client.open()
        ends.client.write(3, b"three")
        ends.client.write(2, b"two")
        assert ends.up() == [
            Opened(1),
            Opened(2),
            Received(2, b"two", False),
            Opened(3),
            Received(3, b"three", False),
        ]
        ends.client.write(1, b"one")
        assert ends.up() == [Received(1, b"one", False)]

    def test_a_cancel_does_not_overtake_the_begin_of_older_streams(self) -> None:
        ends = Ends()
        for stream in (1, 2, 3):
            ends.client.open()
            ends.client.write(stream, b"x")
        ends.client.reset(3, Code.CANCELLED, "", retryable=False)
        assert [e.stream for e in ends.up() if isinstance(e, Opened)] == [1, 2]
        assert 3 not in ends.provider

    def test_a_stream_that_never_began_is_cancelled_in_silence(self) -> None:
        ends = Ends()
        ends.client.open()
        ends.client.reset(1, Code.CANCELLED, "", retryable=False)
        assert ends.to_provider == []
        ends.client.write(ends.client.open(), b"x")
        assert ends.up() == [Opened(2), Received(2, b"x", False)]

    def test_the_first_frame_may_be_everything(self) -> None:
        assert provider().on_data(Data(1, 0, True, b"")) == [
            Opened(1),
            Received(1, b"", True),
        ]

    def test_a_first_frame_that_breaks_the_rules_leaves_nothing_behind(self) -> None:
        mux = provider()
        with pytest.raises(RemoteProtocolError, match="gap"):
            mux.on_data(Data(1, 7, False, b"x"))
        assert 1 not in mux
        assert mux.on_data(Data(1, 0, False, b"")) == [Opened(1)]

    def test_the_client_takes_no_streams(self) -> None:
        with pytest.raises(RemoteProtocolError, match="never opened"):
            client(1).on_data(Data(2, 0, False, b""))


class TestLimit:
    def test_the_client_opens_64(self) -> None:
        mux = client(m.STREAMS_MAX)
        with pytest.raises(LocalProtocolError, match="64"):
            mux.open()
        assert len(mux) == m.STREAMS_MAX

    def test_the_provider_takes_64(self) -> None:
        mux = provider()
        for stream in range(1, m.STREAMS_MAX + 1):
            mux.on_data(Data(stream, 0, False, b""))
        with pytest.raises(RemoteProtocolError, match="64"):
            mux.on_data(Data(m.STREAMS_MAX + 1, 0, False, b""))
        assert len(mux) == m.STREAMS_MAX

    def full_of_complete(self) -> Mux:
        """64 streams of which the client knows that they are over: after a RESUME the
        provider owes it their last ACK once more, which waits to leave."""
        mux = provider()
        for stream in range(1, m.STREAMS_MAX + 1):
            mux.on_data(Data(stream, 0, True, b""))
            mux.finish(stream)
        leaving(mux)
        mux.on_new_path()
        mux.rewind(tuple(state(n, 1, 1) for n in range(1, m.STREAMS_MAX + 1)))
        for stream in range(1, m.STREAMS_MAX + 1):
            mux.on_ack(Ack(stream, 1, 0))
        assert len(mux) == m.STREAMS_MAX
        return mux

    def test_streams_that_are_over_do_not_count(self) -> None:
        mux = self.full_of_complete()
        assert mux.on_data(Data(65, 0, False, b"")) == [Opened(65)]
        leaving(mux)
        assert len(mux) == 1

    def test_but_there_is_an_end_to_those_too(self) -> None:
        mux = self.full_of_complete()
        for stream in range(65, 129):
            mux.on_data(Data(stream, 0, True, b""))
            mux.finish(stream)
            mux.take_data(LARGE)
            mux.on_ack(Ack(stream, 1, 0))
        assert len(mux) == 128
        with pytest.raises(RemoteProtocolError, match="64"):
            mux.on_data(Data(129, 0, False, b""))


class TestForgetting:
    def test_a_stream_is_forgotten_when_both_ways_are_acknowledged(self) -> None:
        ends = Ends()
        ends.client.write(ends.client.open(), b"question")
        ends.client.finish(1)
        ends.up()
        ends.provider.consume(1, 8)
        ends.provider.write(1, b"answer")
        ends.provider.finish(1)
        ends.down()
        assert 1 in ends.client
        ends.client.consume(1, 6)
        ends.up()
        assert (len(ends.client), len(ends.provider)) == (0, 0)
        assert (ends.client.held, ends.provider.held) == (0, 0)

    def test_also_when_the_answer_came_before_the_question_was_read(self) -> None:
        ends = Ends()
        ends.client.write(ends.client.open(), b"question")
        ends.client.finish(1)
        ends.up()
        ends.provider.finish(1)
        ends.down()
        ends.up()
        assert (1 in ends.client, 1 in ends.provider) == (True, True)
        ends.provider.consume(1, 8)
        ends.down()
        assert (1 in ends.client, 1 in ends.provider) == (False, False)

    def test_ending_it_while_only_its_last_ack_is_due_says_nothing_more(self) -> None:
        ends = Ends()
        ends.client.open()
        ends.client.finish(1)
        ends.up()
        ends.provider.write(1, b"answer")
        ends.provider.finish(1)
        ends.down()
        ends.client.consume(1, 6)
        assert ends.client.is_complete(1)
        ends.client.reset(1, Code.CANCELLED, "", retryable=False)
        assert ends.to_provider == []
        assert ends.up() == []
        assert (1 in ends.client, 1 in ends.provider) == (False, False)

    def test_late_frames_of_it_change_nothing(self) -> None:
        mux = provider()
        mux.on_data(Data(1, 0, False, b"x"))
        mux.reset(1, Code.BACKEND, "", retryable=False)
        assert mux.on_data(Data(1, 1, False, b"y")) == []
        assert mux.on_ack(Ack(1, 0, 0)) == []
        assert mux.on_reset(Reset(1, Code.CANCELLED, False, "")) == []
        mux.write(1, b"late")
        mux.finish(1)
        mux.consume(1, 1)
        assert mux.can_write(1)
        assert (len(mux), mux.held, leaving(mux)) == (0, 0, [])

    def test_an_ack_of_a_stream_that_was_never_opened_is_an_error(self) -> None:
        for mux in (client(1), provider()):
            with pytest.raises(RemoteProtocolError, match="never opened"):
                mux.on_ack(Ack(2, 0, 0))


class TestResets:
    def test_it_ends_the_stream_on_both_sides_and_frees_what_was_held(self) -> None:
        ends = Ends()
        ends.client.write(ends.client.open(), bytes(1_000))
        ends.up()
        ends.client.reset(1, Code.CANCELLED, "not needed", retryable=False)
        assert ends.up() == [StreamEnded(1, Code.CANCELLED, "not needed", False)]
        assert (ends.client.held, len(ends.client), len(ends.provider)) == (0, 0, 0)

    def test_a_second_one_says_nothing(self) -> None:
        said: list[Reset] = []
        mux = Mux(is_client=False, say=said.append)
        mux.on_data(Data(1, 0, False, b""))
        mux.reset(1, Code.BUSY, "busy", retryable=True)
        mux.reset(1, Code.BACKEND, "again", retryable=False)
        assert said == [Reset(1, Code.BUSY, True, "busy")]

    def test_one_for_a_stream_that_is_done_is_no_end(self) -> None:
        """All was written and received: what is lost is no more than an ACK."""
        ends = Ends()
        ends.client.finish(ends.client.open())
        ends.up()
        ends.provider.finish(1)
        ends.down()
        assert ends.client.on_reset(Reset(1, Code.GONE, False, "")) == []
        assert 1 not in ends.client

    def test_the_writer_of_such_a_stream_waits_no_longer(self) -> None:
        mux = provider()
        mux.on_data(Data(1, 0, True, b""))
        mux.write(1, bytes(UNSENT_MAX))
        mux.finish(1)
        assert not mux.can_write(1)
        assert mux.on_reset(Reset(1, Code.CANCELLED, False, "")) == [Writable(1)]

    def test_one_for_a_stream_that_never_began_changes_nothing(self) -> None:
        mux = provider()
        assert mux.on_reset(Reset(5, Code.CANCELLED, False, "")) == []
        assert mux.on_data(Data(1, 0, False, b"")) == [Opened(1)]
        with pytest.raises(RemoteProtocolError, match="never opened"):
            client(1).on_reset(Reset(2, Code.GONE, False, ""))

    def test_what_was_held_for_it_lets_others_write(self) -> None:
        mux = full_mux()
        assert not mux.can_write(2)
        events = mux.on_reset(Reset(1, Code.CANCELLED, False, ""))
        assert events[0] == StreamEnded(1, Code.CANCELLED, "", False)
        assert Writable(2) in events

    def test_our_own_lets_others_write_once_it_was_sent(self) -> None:
        mux = full_mux()
        assert not mux.can_write(1)
        assert not mux.can_write(2)
        mux.reset(1, Code.CANCELLED, "", retryable=False)
        assert mux.take_writable() == [Writable(2)]


def full_mux() -> Mux:
    """Five streams of the provider which hold all that a peer may be owed."""
    mux = provider()
    for stream in range(1, 6):
        mux.on_data(Data(stream, 0, False, b""))
    mux.is_live = False
    for stream in (1, 3, 4, 5):
        mux.write(stream, bytes(REPLAY_MAX))
    return mux


class TestTurns:
    def test_streams_take_turns(self) -> None:
        mux = client(3)
        for stream in (1, 2, 3):
            mux.write(stream, bytes(100))
        order = []
        while (frame := mux.take_data(40)) is not None:
            order.append((frame.stream, len(frame.payload)))
        assert order == [
            (stream, size) for size in (40, 40, 20) for stream in (1, 2, 3)
        ]

    def test_a_stream_without_credit_takes_none(self) -> None:
        ends = Ends()
        for stream in (1, 2):
            ends.client.open()
            ends.client.write(stream, bytes(INITIAL_CREDIT + 5))
        ends.up()
        ends.provider.consume(2, 5)
        ends.down()
        assert ends.up() == [Received(2, bytes(5), False)]

    def test_acks_leave_once_for_all_that_was_consumed(self) -> None:
        mux = provider()
        mux.on_data(Data(1, 0, False, bytes(100)))
        mux.consume(1, 50)
        mux.consume(1, 50)
        assert mux.take_ack() == Ack(1, 100, 100 + CREDIT)
        assert mux.take_ack() is None


class TestWriters:
    def test_one_waits_while_64_kib_have_not_left(self) -> None:
        mux = client(1)
        mux.write(1, bytes(UNSENT_MAX - 1))
        assert mux.can_write(1)
        mux.write(1, b"x")
        assert not mux.can_write(1)
        assert mux.take_writable() == []
        mux.take_data(LARGE)
        assert mux.take_writable() == [Writable(1)]
        assert mux.take_writable() == []

    def test_without_a_path_what_is_unacknowledged_counts(self) -> None:
        mux = client(1)
        mux.is_live = False
        mux.write(1, bytes(REPLAY_MAX - 1))
        assert mux.can_write(1)
        mux.write(1, b"x")
        assert not mux.can_write(1)

    def test_an_ack_lets_its_writer_go_on(self) -> None:
        mux = client(1)
        mux.write(1, bytes(INITIAL_CREDIT + UNSENT_MAX))
        while mux.take_data(LARGE):
            pass
        assert not mux.can_write(1)
        assert mux.on_ack(Ack(1, 0, INITIAL_CREDIT)) == []
        assert mux.on_ack(Ack(1, INITIAL_CREDIT, INITIAL_CREDIT + CREDIT)) == []
        mux.take_data(LARGE)
        assert mux.on_ack(Ack(1, INITIAL_CREDIT, 0)) == [Writable(1)]

    def test_an_ack_lets_others_go_on_when_all_were_full(self) -> None:
        mux = full_mux()
        mux.on_new_path()
        mux.rewind(())
        mux.take_data(LARGE)
        assert not mux.can_write(2)
        assert mux.on_ack(Ack(1, 10, 0)) == [Writable(2)]

    def test_a_writer_that_waits_is_told_also_when_its_stream_is_forgotten(
        self,
    ) -> None:
        mux = full_mux()
        mux.on_data(Data(2, 0, True, b""))
        mux.finish(2)
        mux.on_new_path()
        mux.rewind(())
        while (frame := mux.take_data(LARGE)) is None or frame.stream != 2:
            pass
        assert not mux.can_write(2)
        assert mux.on_ack(Ack(2, 1, 0)) == []
        mux.take_ack()
        assert 2 not in mux
        assert mux.take_writable() == [Writable(2)]


class TestSlowReaders:
    def blocked(self) -> Mux:
        mux = client(1)
        mux.write(1, bytes(INITIAL_CREDIT + 1))
        while mux.take_data(LARGE):
            pass
        return mux

    def test_one_is_given_up_after_a_minute_without_credit(self) -> None:
        mux = self.blocked()
        assert mux.end_slow(100.0) == []
        assert mux.end_slow(159.9) == []
        (event,) = mux.end_slow(160.0)
        assert isinstance(event, StreamEnded)
        assert event.code is Code.SLOW_READER
        assert 1 not in mux

    def test_the_peer_is_told(self) -> None:
        said: list[Reset] = []
        mux = Mux(is_client=False, say=said.append)
        mux.on_data(Data(1, 0, False, b""))
        mux.write(1, bytes(INITIAL_CREDIT + 1))
        while mux.take_data(LARGE):
            pass
        mux.end_slow(0.0)
        mux.end_slow(60.0)
        assert [(reset.stream, reset.code) for reset in said] == [(1, Code.SLOW_READER)]

    def test_a_little_credit_starts_the_minute_anew(self) -> None:
        mux = self.blocked()
        mux.write(1, bytes(100))
        mux.end_slow(100.0)
        mux.on_ack(Ack(1, 0, INITIAL_CREDIT + 10))
        mux.take_data(LARGE)
        assert mux.end_slow(160.0) == []
        assert mux.end_slow(219.0) == []
        assert mux.end_slow(220.0) != []

    def test_an_idle_writer_is_not_a_slow_reader(self) -> None:
        mux = client(1)
        mux.end_slow(0.0)
        assert mux.end_slow(1_000.0) == []

    def test_one_that_reads_again_is_not_slow(self) -> None:
        mux = self.blocked()
        mux.end_slow(0.0)
        mux.on_ack(Ack(1, 0, INITIAL_CREDIT + CREDIT))
        mux.take_data(LARGE)
        assert mux.end_slow(1_000.0) == []


class TestRefusing:
    def test_streams_that_begin_later_are_reset_to_be_asked_elsewhere(self) -> None:
        said: list[Reset] = []
        mux = Mux(is_client=False, say=said.append)
        mux.on_data(Data(1, 0, False, b"x"))
        mux.refuse_new(Code.DRAINING, "shutting down")
        assert mux.on_data(Data(2, 0, False, b"x")) == []
        assert mux.on_data(Data(2, 1, True, b"x")) == []
        assert said == [Reset(2, Code.DRAINING, True, "shutting down")]
        assert mux.on_data(Data(1, 1, True, b"")) == [Received(1, b"", True)]

    def test_those_that_a_resume_brings_are_too(self) -> None:
        mux = provider()
        mux.refuse_new(Code.DRAINING, "shutting down")
        assert mux.on_listed((state(1),)) == []
        assert mux.rewind((state(1),)) == [
            Reset(1, Code.DRAINING, True, "shutting down")
        ]

    def test_a_client_ends_those_the_provider_will_not_take(self) -> None:
        mux = client(3)
        events = mux.end_above(1, Code.DRAINING, "bye", retryable=True)
        assert events == [
            StreamEnded(stream, Code.DRAINING, "bye", True) for stream in (2, 3)
        ]
        assert 1 in mux


class TestResuming:
    def test_the_client_lists_what_it_knows(self) -> None:
        ends = Ends()
        for _ in range(3):
            ends.client.open()
        ends.up()
        ends.provider.write(1, b"hello")
        ends.provider.finish(1)
        ends.provider.write(2, b"he")
        ends.down()
        assert ends.client.states() == (state(1, 6, 1), state(2, 2), state(3))

    def test_a_stream_that_a_resume_announced_is_cancelled_aloud(self) -> None:
        """The RESUME may have told the provider of it."""
        ends = Ends()
        ends.client.open()
        ends.client.states()
        ends.client.reset(1, Code.CANCELLED, "", retryable=False)
        assert ends.to_provider == [Reset(1, Code.CANCELLED, False, "")]

    def test_the_provider_cancels_what_the_client_left_out(self) -> None:
        mux = provider()
        for stream in (1, 2, 3):
            mux.on_data(Data(stream, 0, False, b""))
        events = mux.on_listed((state(2), state(3, 0, 2), state(5), state(4)))
        assert [(type(e), getattr(e, "stream", 0)) for e in events] == [
            (StreamEnded, 1),
            (StreamEnded, 3),
            (Opened, 4),
            (Opened, 5),
        ]

    def test_it_answers_for_streams_that_ended_while_nobody_heard(self) -> None:
        mux = provider()
        for stream in (1, 2):
            mux.on_data(Data(stream, 0, False, b""))
        mux.reset(1, Code.BACKEND, "the model fell over", retryable=False)
        mux.on_reset(Reset(2, Code.CANCELLED, False, ""))
        assert [
            (r.stream, r.code, r.text[:9]) for r in mux.rewind((state(1), state(2)))
        ] == [(1, Code.BACKEND, "the model"), (2, Code.GONE, "This stre")]

    def test_it_remembers_the_last_64_of_those(self) -> None:
        mux = provider()
        for stream in range(1, 66):
            mux.on_data(Data(stream, 0, False, b""))
            mux.reset(stream, Code.BACKEND, "", retryable=False)
        told = mux.rewind(tuple(state(n) for n in range(1, 66)))
        assert [r.stream for r in told if r.code is not Code.BACKEND] == [1]

    def test_streams_with_nothing_new_to_say_hold_up_none(self) -> None:
        """A RESUME announced stream 1, so its empty first frame is not due any more."""
        mux = client(2)
        mux.write(2, b"x")
        mux.states()
        mux.on_new_path()
        mux.rewind((state(1), state(2)))
        assert mux.take_data(LARGE) == Data(2, 0, False, b"x")

    def test_both_go_on_from_what_the_other_holds(self) -> None:
        ends = Ends()
        ends.client.write(ends.client.open(), b"hello world")
        leaving(ends.client)
        ends.client.on_new_path()
        assert ends.client.take_data(LARGE) is None
        ends.client.rewind((state(1, 5),))
        assert ends.client.take_data(LARGE) == Data(1, 5, False, b" world")

    @pytest.mark.parametrize(
        "listed",
        [
            (state(1, 4),),
            (state(1, 6),),
            (state(2, 1),),
            tuple(state(n) for n in range(1, 66)),
        ],
        ids=["let go", "never sent", "of a new stream", "too many"],
    )
    def test_a_list_that_cannot_be_true_changes_nothing(
        self, listed: tuple[StreamState, ...]
    ) -> None:
        mux = provider()
        mux.on_data(Data(1, 0, False, b""))
        mux.write(1, b"hello")
        mux.take_data(LARGE)
        mux.on_ack(Ack(1, 5, 0))
        with pytest.raises(RemoteProtocolError):
            mux.check(listed)

    def test_a_list_may_name_what_is_known_forgotten_or_new(self) -> None:
        mux = provider()
        for stream in (1, 2):
            mux.on_data(Data(stream, 0, False, b""))
        mux.reset(1, Code.BACKEND, "", retryable=False)
        mux.check((state(1, 77), state(2), state(3)))

    def test_the_provider_opens_no_streams_by_ready(self) -> None:
        with pytest.raises(RemoteProtocolError, match="cannot resume"):
            client(1).check((state(2),))

    def test_the_minute_of_a_slow_reader_begins_anew(self) -> None:
        mux = client(1)
        mux.write(1, bytes(INITIAL_CREDIT + 1))
        while mux.take_data(LARGE):
            pass
        mux.end_slow(0.0)
        mux.on_new_path()
        mux.rewind((state(1, INITIAL_CREDIT),))
        assert mux.end_slow(61.0) == []


def test_one_frame_costs_the_same_however_many_streams_there_are() -> None:
    """No walk over the table on the way of DATA and ACK: the dict is never iterated."""

    class Unwalkable(dict):  # type: ignore[type-arg]
        def _refuse(self) -> None:
            raise AssertionError("a walk over all streams")

        __iter__ = items = values = keys = _refuse  # type: ignore[assignment]

    ends = Ends()
    for stream in range(1, 61):
        ends.client.open()
        ends.client.write(stream, b"x")
    ends.up()
    for mux in (ends.client, ends.provider):
        mux._streams = Unwalkable(mux._streams)
    ends.provider.consume(7, 1)
    ends.client.write(7, bytes(100_000))
    assert not ends.client.can_write(7)
    ends.up()
    ends.provider.consume(7, 60_000)
    ends.down()
    ends.client.take_writable()
    assert ends.up() != []
