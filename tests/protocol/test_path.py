"""A path: HELLO before all else, its window, its pings, and whole messages."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshllm.errors import Code, MeshError, RemoteProtocolError, TrustError
from meshllm.protocol import frames as f
from meshllm.protocol import path as p
from meshllm.protocol.path import Path, PathState
from tests.fakes.frames import frames
from tests.fakes.wire import SESSION, greeted_paths, new_path

HELLO = f.encode(f.Hello(1, bytes(32), bytes(64)))
OPEN = f.Open(SESSION, 1)
any_frame = frames(session=st.just(SESSION))


class Pipe:
    """A source with these bytes of one stream and these ACKs to send."""

    def __init__(self, size: int = 0, acks: int = 0, *, fin: bool = False) -> None:
        self.left = size
        self.fin = fin
        self.acks = deque(f.Ack(n + 1, 1, 2) for n in range(acks))
        self.at = 0

    @property
    def has_data(self) -> bool:
        return bool(self.left or self.fin)

    def take_ack(self) -> f.Ack | None:
        return self.acks.popleft() if self.acks else None

    def take_data(self, room: int) -> f.Data | None:
        if not self.left and not self.fin:
            return None
        size = min(self.left, room, f.DATA_MAX)
        self.left -= size
        last = self.fin and not self.left
        self.fin = self.fin and not last
        frame = f.Data(1, self.at, last, bytes(size))
        self.at += size
        return frame


def message(*said: f.Frame) -> bytes:
    return b"".join(map(f.encode, said))


def carrying(pipe: Pipe, *, is_client: bool = True) -> Path:
    """A path that a session has taken, with nothing left to say of its own."""
    path = greeted_paths()[0 if is_client else 1]
    while path.next_message(0.0) is not None:
        pass
    path.state = PathState.ACTIVE
    path.source = pipe
    return path


def said_by(path: Path, now: float = 0.0) -> list[f.Frame]:
    """The frames of the next message."""
    return f.decode(path.next_message(now) or b"")


def all_said_by(path: Path, now: float = 0.0) -> list[f.Frame]:
    said: list[f.Frame] = []
    while (data := path.next_message(now)) is not None:
        said += f.decode(data)
    return said


class TestHello:
    def test_it_is_the_first_message_and_alone_in_it(self) -> None:
        path = new_path(is_client=True)
        path.queue(OPEN)
        assert [type(frame) for frame in said_by(path)] == [f.Hello]
        assert said_by(path) == [OPEN]

    def test_after_it_the_path_stands_by(self) -> None:
        path = new_path(is_client=False)
        assert path.receive(HELLO, 0.0) == []
        assert path.state is PathState.STANDBY

    @pytest.mark.parametrize(
        "first",
        [
            message(OPEN),
            message(f.Ping(1)),
            message(f.Data(1, 0, False, b"x")),
            HELLO + message(f.Pad()),
            message(f.Pad()) + HELLO,
            message(f.Data(1, 0, False, bytes(len(HELLO) - 16))),
            b"",
        ],
    )
    def test_nothing_else_is_read_before_it(self, first: bytes) -> None:
        path = new_path(is_client=False)
        with pytest.raises(RemoteProtocolError, match="one HELLO"):
            path.receive(first, 0.0)
        assert path.state is PathState.HELLO

    def test_what_verify_raises_comes_out(self) -> None:
        def refuse(hello: f.Hello) -> None:
            raise TrustError("not who it says")

        path = Path(f.Hello(1, bytes(32), bytes(64)), refuse, is_client=True)
        with pytest.raises(TrustError):
            path.receive(HELLO, 0.0)
        assert path.state is PathState.HELLO

    def test_a_second_one_is_an_error(self) -> None:
        path = greeted_paths()[1]
        with pytest.raises(RemoteProtocolError, match="second HELLO"):
            path.receive(HELLO, 0.0)

    def test_it_is_late_after_three_seconds(self) -> None:
        path = new_path(is_client=False)
        assert not path.is_hello_late(100.0)
        path.next_message(100.0)
        assert not path.is_hello_late(102.9)
        assert path.is_hello_late(103.0)
        path.receive(HELLO, 103.0)
        assert not path.is_hello_late(200.0)


class TestStandby:
    @pytest.mark.parametrize("first", [OPEN, f.Resume(SESSION, 2, ())])
    def test_the_provider_takes_open_or_resume_and_what_follows(
        self, first: f.Frame
    ) -> None:
        path = greeted_paths()[1]
        reset = f.Reset(1, Code.CANCELLED, False, "")
        assert path.receive(message(first, reset), 0.0) == [first, reset]

    @pytest.mark.parametrize(
        "frame",
        [
            f.Data(1, 0, True, b""),
            f.Ack(1, 0, 0),
            f.Close(Code.GONE, ""),
            f.Ready(1, ()),
        ],
    )
    def test_the_provider_takes_nothing_else(self, frame: f.Frame) -> None:
        path = greeted_paths()[1]
        with pytest.raises(RemoteProtocolError, match="no session yet"):
            path.receive(message(frame, OPEN), 0.0)

    @pytest.mark.parametrize("frame", [f.Ready(1, ()), OPEN, f.Info(1, b"{}")])
    def test_the_client_takes_nothing_before_it_attached(self, frame: f.Frame) -> None:
        path = greeted_paths()[0]
        with pytest.raises(RemoteProtocolError, match="no session yet"):
            path.receive(message(frame), 0.0)

    def test_pings_pads_and_path_acks_pass(self) -> None:
        path = greeted_paths()[1]
        assert path.receive(message(f.Ping(7), f.Pad(), f.PathAck(0)), 0.0) == []
        assert said_by(path) == [f.Pong(7)]


def test_a_closed_path_neither_hears_nor_speaks() -> None:
    client, provider = greeted_paths()
    provider.queue(f.Ping(1))
    provider.state = PathState.CLOSED
    assert provider.receive(b"\x00 not even a frame", 1.0) == []
    assert provider.next_message(1.0) is None
    client.state = PathState.CLOSED
    assert client.next_time() is None


class TestPing:
    def test_the_client_pings_once_at_hello_to_know_the_round_trip(self) -> None:
        client, provider = greeted_paths(10.0)
        assert client.rtt_s is None
        provider.receive(client.next_message(10.0) or b"", 10.1)
        client.receive(provider.next_message(10.1) or b"", 10.25)
        assert client.rtt_s == pytest.approx(0.25)

    def test_the_client_pings_every_two_seconds(self) -> None:
        client, _ = greeted_paths(10.0)
        client.next_message(10.0)
        assert client.next_time() == 12.0
        client.on_time(11.9)
        assert client.next_message(11.9) is None
        client.on_time(12.0)
        assert said_by(client, 12.0) == [f.Ping(2)]
        assert client.next_time() == 14.0
        client.receive(message(f.Pong(2)), 13.0)
        assert client.next_time() == 14.0
        assert client.rtt_s == 1.0

    def test_a_client_that_only_listens_is_heard_all_the_same(self) -> None:
        """Few bytes need no ACK: a slow answer must not look like a lost client."""
        client, provider = greeted_paths(10.0)
        for second in range(10, 60):
            now = float(second)
            client.receive(message(f.Pad()), now)
            client.on_time(now)
            if said := client.next_message(now):
                provider.receive(said, now)
            assert provider.silence_s(now) < 4.0

    def test_an_answer_to_another_ping_says_nothing(self) -> None:
        client, _ = greeted_paths(10.0)
        client.receive(message(f.Pong(9)), 11.0)
        assert client.rtt_s is None

    def test_the_provider_answers_and_never_asks(self) -> None:
        path = carrying(Pipe(), is_client=False)
        assert path.next_time() is None
        path.on_time(1_000.0)
        assert path.next_message(1_000.0) is None
        path.receive(message(f.Ping(5), f.Pong(6)), 1_000.0)
        assert said_by(path, 1_000.0) == [f.Pong(5)]
        assert path.rtt_s is None


def test_silence_counts_from_the_last_message() -> None:
    path = new_path(is_client=False)
    assert path.silence_s(5.0) == 0.0
    path.next_message(5.0)
    assert path.silence_s(7.0) == 2.0
    path.receive(HELLO, 8.0)
    assert path.silence_s(9.0) == 1.0


class TestWindow:
    def test_no_more_than_the_window_leaves_unreported(self) -> None:
        path = carrying(Pipe(10_000_000))
        sent = len(message(*all_said_by(path)))
        assert p.WINDOW - f.DATA_OVERHEAD <= sent <= p.WINDOW
        assert path.window == p.WINDOW - sent

    def test_a_report_lets_more_leave(self) -> None:
        path = carrying(Pipe(10_000_000))
        all_said_by(path)
        path.receive(message(f.PathAck(100_000)), 0.0)
        assert len(message(*all_said_by(path))) == 100_000

    def test_an_older_report_changes_nothing(self) -> None:
        path = carrying(Pipe(10_000_000))
        all_said_by(path)
        path.receive(message(f.PathAck(100_000), f.PathAck(50_000)), 0.0)
        assert path.window == 100_000

    def test_a_report_of_more_than_was_sent_is_an_error(self) -> None:
        path = carrying(Pipe(10))
        all_said_by(path)
        path.receive(message(f.PathAck(26)), 0.0)
        with pytest.raises(RemoteProtocolError, match="beyond what was sent"):
            path.receive(message(f.PathAck(27)), 0.0)

    def test_control_and_acks_pass_a_full_window(self) -> None:
        pipe = Pipe(10_000_000)
        path = carrying(pipe)
        all_said_by(path)
        pipe.acks.append(f.Ack(1, 2, 3))
        path.queue(f.Signal(b"x"))
        assert said_by(path) == [f.Signal(b"x"), f.Ack(1, 2, 3)]

    @example([[5_000, 5_000, 5_000]] * 20)
    @given(st.lists(st.lists(st.integers(0, 5_000), max_size=3), max_size=40))
    def test_both_ends_count_the_same_bytes(self, sizes: list[list[int]]) -> None:
        """Whatever frames share a message: reports come each 32 KiB and are right."""
        path = carrying(Pipe(), is_client=False)
        sent = reported = 0
        for message_sizes in sizes:
            said = [f.Data(1, 0, False, bytes(size)) for size in message_sizes]
            path.receive(message(*said, f.Ack(1, 0, 0), f.Pad()), 0.0)
            sent += len(message(*said))
            reports = [r.rx for r in all_said_by(path) if isinstance(r, f.PathAck)]
            assert reports in ([], [sent])
            if reports:
                assert sent - reported >= p.WINDOW_STEP
                reported = sent
            assert sent - reported < p.WINDOW_STEP


class TestMessages:
    def test_a_frame_that_does_not_fit_waits_and_nothing_overtakes_it(self) -> None:
        """READY behind many PONGs: the DATA of its path must not come first."""
        path = carrying(Pipe(100))
        ready = f.Ready(1, tuple(f.StreamState(n, 0, 0, 0) for n in range(1, 129)))
        for n in range(2_000):
            path.queue(f.Pong(n))
        path.queue(ready)
        first, second = said_by(path), said_by(path)
        assert {type(frame) for frame in first} == {f.Pong}
        assert second[-2:] == [ready, f.Data(1, 0, False, bytes(100))]

    @given(
        st.lists(st.integers(1, f.ENVELOPE_MAX), max_size=8),
        st.integers(0, 800),
        st.integers(0, 60_000),
        st.booleans(),
    )
    def test_everything_leaves_in_messages_of_the_allowed_size(
        self, envelopes: list[int], acks: int, size: int, fin: bool
    ) -> None:
        path = carrying(Pipe(size, acks, fin=fin))
        for length in envelopes:
            path.queue(f.Signal(bytes(length)))
        said: list[f.Frame] = []
        while (data := path.next_message(0.0)) is not None:
            assert 0 < len(data) <= f.MESSAGE_MAX
            said += f.decode(data)
        found = [len(s.envelope) for s in said if isinstance(s, f.Signal)]
        assert found == envelopes
        assert sum(isinstance(frame, f.Ack) for frame in said) == acks
        data_frames = [frame for frame in said if isinstance(frame, f.Data)]
        assert sum(len(frame.payload) for frame in data_frames) == size
        assert [frame.fin for frame in data_frames if frame.fin] == [True] * fin

    def test_a_full_message_is_filled_to_its_last_byte(self) -> None:
        path = carrying(Pipe(100_000, acks=3))
        assert len(path.next_message(0.0) or b"") == f.MESSAGE_MAX


class TestPads:
    def sent(self, path: Path, now: float) -> list[f.Frame]:
        return said_by(path, now)

    def test_three_follow_a_fin_ten_milliseconds_apart(self) -> None:
        path = carrying(Pipe(5, fin=True), is_client=False)
        assert said_by(path, 1.0) == [f.Data(1, 0, True, bytes(5))]
        assert path.next_time() == 1.0 + p.PAD_S
        assert path.next_message(1.009) is None
        for n in (1, 2, 3):
            assert said_by(path, 1.0 + n * 0.0101) == [f.Pad()]
        assert path.next_time() is None
        assert path.next_message(2.0) is None

    def test_later_data_makes_them_needless(self) -> None:
        pipe = Pipe(5, fin=True)
        path = carrying(pipe, is_client=False)
        path.next_message(1.0)
        pipe.left = 5
        path.next_message(1.001)
        assert path.next_time() is None

    def test_data_in_the_same_message_does_not(self) -> None:
        class FinThenMore(Pipe):
            def take_data(self, room: int) -> f.Data | None:
                self.at += 1
                return f.Data(self.at, 0, self.at == 1, b"x") if self.at < 4 else None

        path = carrying(FinThenMore(), is_client=False)
        assert len(said_by(path, 1.0)) == 3
        assert said_by(path, 1.0 + p.PAD_S) == [f.Pad()]

    def test_an_ack_does_not(self) -> None:
        pipe = Pipe(5, fin=True)
        path = carrying(pipe, is_client=False)
        path.next_message(1.0)
        pipe.acks.append(f.Ack(1, 1, 1))
        assert said_by(path, 1.02) == [f.Ack(1, 1, 1)]
        assert said_by(path, 1.02) == [f.Pad()]


class TestFloods:
    def test_a_thousand_control_frames_a_second_are_taken_and_no_more(self) -> None:
        path = carrying(Pipe(), is_client=False)
        path.receive(message(*[f.Pad()] * 1_000), 5.0)
        with pytest.raises(RemoteProtocolError, match="control frames"):
            path.receive(message(f.Pad()), 5.9)

    def test_the_next_second_counts_anew(self) -> None:
        path = carrying(Pipe(), is_client=False)
        path.receive(message(*[f.Pad()] * 1_000), 5.0)
        path.receive(message(*[f.Pad()] * 1_000), 6.0)

    def test_acks_reports_data_and_infos_do_not_count(self) -> None:
        path = carrying(Pipe(), is_client=False)
        each = (f.Ack(1, 0, 0), f.PathAck(0), f.Data(1, 0, False, b""), f.Info(1, b""))
        for _ in range(30):
            path.receive(message(*each * 50), 5.0)

    def test_a_peer_that_pings_on_but_never_reads_is_dropped(self) -> None:
        path = carrying(Pipe(), is_client=False)
        with pytest.raises(RemoteProtocolError, match="does not read"):
            for second in range(60):
                path.receive(message(*map(f.Ping, range(1_000))), float(second))

    def test_one_that_reads_may_ping_for_ever(self) -> None:
        path = carrying(Pipe(), is_client=False)
        for second in range(60):
            path.receive(message(*map(f.Ping, range(1_000))), float(second))
            assert len(all_said_by(path, float(second))) == 1_000


@given(
    st.booleans(),
    st.booleans(),
    st.lists(
        st.binary(max_size=60)
        | st.lists(any_frame, max_size=4).map(lambda said: message(*said)),
        max_size=6,
    ),
)
def test_no_bytes_raise_anything_but_errors_of_the_peer(
    is_client: bool, is_greeted: bool, messages: list[bytes]
) -> None:
    path = greeted_paths()[not is_client] if is_greeted else new_path(is_client=True)
    for now, data in enumerate(messages):
        try:
            path.receive(data, float(now))
        except MeshError as error:
            assert isinstance(error, RemoteProtocolError)
        path.on_time(float(now))
        path.next_message(float(now))
        assert path.window <= p.WINDOW


class TestDue:
    def test_control_frames_and_data_are_due(self) -> None:
        path = carrying(Pipe(size=1))
        assert path.is_due
        path.next_message(0.0)
        assert not path.is_due
        path.queue(f.Ping(1))
        assert path.is_due

    def test_an_ack_alone_may_wait_for_company(self) -> None:
        path = carrying(Pipe(acks=1))
        assert not path.is_due
        assert path.next_message(0.0) == message(f.Ack(1, 1, 2))

    def test_without_a_session_only_control_frames_are(self) -> None:
        path, _ = greeted_paths()
        while path.next_message(0.0) is not None:
            pass
        assert not path.is_due
