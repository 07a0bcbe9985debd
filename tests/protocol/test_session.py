"""A session: the table of docs/protocol.md §6.2, line by line, and what breaks it."""

from __future__ import annotations

import pytest

from meshllm.errors import Code, LocalProtocolError, RemoteProtocolError
from meshllm.protocol import frames as f
from meshllm.protocol.events import (
    Activated,
    Event,
    GoingAway,
    Informed,
    Opened,
    Received,
    SessionClosed,
    Signalled,
    StreamEnded,
    Writable,
)
from meshllm.protocol.path import Path, PathState
from meshllm.protocol.session import DETACHED_S, Session, SessionState
from meshllm.protocol.streams import INITIAL_CREDIT, REPLAY_MAX, UNSENT_MAX
from tests.fakes.wire import SESSION, connected, greeted_paths, new_path

OTHER = bytes(16)


def client_path() -> Path:
    return greeted_paths()[0]


def provider_path() -> Path:
    return greeted_paths()[1]


def new_client() -> Session:
    return Session(SESSION, is_client=True)


def active_client() -> tuple[Session, Path]:
    session, path = new_client(), client_path()
    session.open_on(path)
    session.receive(path, [f.Ready(1, ())])
    said_by(path)
    return session, path


def active_provider() -> tuple[Session, Path]:
    session, path = Session(SESSION, is_client=False), provider_path()
    session.receive(path, [f.Open(SESSION, 1)])
    said_by(path)
    return session, path


def said_by(path: Path) -> list[f.Frame]:
    """All frames the path has to send but those of its own."""
    said: list[f.Frame] = []
    while (message := path.next_message(0.0)) is not None:
        said += f.decode(message)
    return [frame for frame in said if not isinstance(frame, f.Ping)]


def state(stream: int, rx: int = 0, state: int = 0) -> f.StreamState:
    return f.StreamState(stream, rx, INITIAL_CREDIT, state)


class TestBeginning:
    def test_the_client_opens_and_ready_lets_streams_flow(self) -> None:
        session, path = new_client(), client_path()
        stream = session.mux.open()
        session.mux.write(stream, b"question")
        session.open_on(path)
        before = session.state
        assert said_by(path) == [f.Open(SESSION, 1)]
        assert session.receive(path, [f.Ready(1, ())]) == [Activated(resumed=False)]
        assert (before, session.state) == (SessionState.OPENING, SessionState.ACTIVE)
        assert said_by(path) == [f.Data(1, 0, False, b"question")]

    def test_the_provider_answers_open_and_goes_on_at_once(self) -> None:
        session, path = Session(SESSION, is_client=False), provider_path()
        events = session.receive(
            path, [f.Open(SESSION, 1), f.Reset(1, Code.CANCELLED, False, "")]
        )
        assert events == [Activated(resumed=False)]
        assert said_by(path) == [f.Ready(1, ())]
        assert (session.state, session.epoch) == (SessionState.ACTIVE, 1)
        assert (path.state, path.source) == (PathState.ACTIVE, session.mux)

    def test_it_opens_once(self) -> None:
        session, _ = active_client()
        with pytest.raises(LocalProtocolError, match="OPEN in state active"):
            session.open_on(client_path())

    def test_it_needs_a_path_that_stands_by(self) -> None:
        session, path = active_client()
        with pytest.raises(LocalProtocolError, match="path in state active"):
            session.resume_on(path)
        with pytest.raises(LocalProtocolError, match="path in state hello"):
            session.resume_on(new_path(is_client=True))
        assert (session.epoch, session.state) == (1, SessionState.ACTIVE)
        assert session.path is path

    @pytest.mark.parametrize("state", [SessionState.NEW, SessionState.CLOSED])
    def test_it_resumes_only_what_began_and_has_not_ended(
        self, state: SessionState
    ) -> None:
        session = new_client()
        if state is SessionState.CLOSED:
            session.close(Code.CANCELLED, "")
        with pytest.raises(LocalProtocolError, match=f"RESUME in state {state.value}"):
            session.resume_on(client_path())


class TestRefused:
    """What a provider answers with the end of the path, and nothing else changes."""

    @pytest.mark.parametrize(
        ("frame", "why"),
        [
            (f.Open(OTHER, 1), "another session"),
            (f.Open(SESSION, 2), "epoch 1"),
            (f.Resume(SESSION, 1, ()), "OPEN is for new"),
            (f.Open(SESSION, 0), "epoch 0 after 0"),
        ],
    )
    def test_to_a_new_session(self, frame: f.Frame, why: str) -> None:
        session, path = Session(SESSION, is_client=False), provider_path()
        with pytest.raises(RemoteProtocolError, match=why):
            session.receive(path, [frame])
        assert (session.state, session.epoch) == (SessionState.NEW, 0)
        assert (path.state, session.path) == (PathState.STANDBY, None)

    @pytest.mark.parametrize(
        ("frame", "why"),
        [
            (f.Resume(OTHER, 4, ()), "another session"),
            (f.Resume(SESSION, 3, ()), "epoch 3 after 3"),
            (f.Resume(SESSION, 2, ()), "epoch 2 after 3"),
            (f.Resume(SESSION, 0, ()), "epoch 0 after 3"),
            (f.Open(SESSION, 1), "epoch 1 after 3"),
            (f.Open(SESSION, 4), "OPEN is for new"),
            (f.Resume(SESSION, 4, (state(1, 99),)), "cannot resume at 99"),
            (f.Resume(SESSION, 4, (state(2, 1),)), "cannot resume at 1"),
        ],
    )
    def test_to_a_known_one(self, frame: f.Frame, why: str) -> None:
        session, _ = active_provider()
        live = provider_path()
        session.receive(live, [f.Resume(SESSION, 3, (state(1),))])
        with pytest.raises(RemoteProtocolError, match=why):
            session.receive(provider_path(), [frame])
        assert (session.epoch, session.path) == (3, live)
        assert live.state is PathState.ACTIVE
        assert session.receive(live, [f.Data(1, 0, False, b"x")]) == [
            Received(1, b"x", False)
        ]

    def test_on_the_path_it_uses(self) -> None:
        session, path = active_provider()
        with pytest.raises(RemoteProtocolError, match="already carries"):
            session.receive(path, [f.Resume(SESSION, 2, ())])

    def test_when_it_has_ended(self) -> None:
        session, _ = active_provider()
        session.close(Code.DRAINING, "")
        with pytest.raises(RemoteProtocolError, match="has ended"):
            session.receive(provider_path(), [f.Resume(SESSION, 2, ())])


class TestReady:
    def test_it_comes_once(self) -> None:
        session, path = active_client()
        with pytest.raises(RemoteProtocolError, match="READY twice"):
            session.receive(path, [f.Ready(1, ())])

    def test_it_is_for_the_epoch_that_was_said(self) -> None:
        session, _ = active_client()
        path = client_path()
        session.resume_on(path)
        with pytest.raises(RemoteProtocolError, match="READY 1 for epoch 2"):
            session.receive(path, [f.Ready(1, ())])
        assert session.state is SessionState.RESUMING

    def test_one_that_cannot_be_true_changes_nothing(self) -> None:
        session, path = new_client(), client_path()
        session.open_on(path)
        with pytest.raises(RemoteProtocolError, match="cannot resume"):
            session.receive(path, [f.Ready(1, (state(1, 5),))])
        assert session.state is SessionState.OPENING

    @pytest.mark.parametrize(
        "frame",
        [f.Data(1, 0, False, b""), f.Ack(1, 0, 0), f.Info(1, b""), f.Signal(b"x")],
    )
    def test_nothing_comes_before_it(self, frame: f.Frame) -> None:
        session, path = new_client(), client_path()
        session.mux.open()
        session.open_on(path)
        with pytest.raises(RemoteProtocolError, match="before READY"):
            session.receive(path, [frame])

    def test_nothing_leaves_before_it(self) -> None:
        session, path = active_client()
        session.mux.write(session.mux.open(), b"question")
        said_by(path)
        session.receive(path, [f.Data(1, 0, False, b"x")])
        session.mux.consume(1, 1)
        path = client_path()
        session.resume_on(path)
        session.mux.write(1, b"more")
        assert path.source is None
        assert said_by(path) == [f.Resume(SESSION, 2, session.mux.states())]
        session.receive(path, [f.Ready(2, (state(1, 8),))])
        assert path.is_due
        assert [type(frame) for frame in said_by(path)] == [f.Ack, f.Data]
        assert not path.is_due

    def test_a_stream_it_calls_reset_has_ended(self) -> None:
        session, path = active_client()
        session.mux.open()
        path = client_path()
        session.resume_on(path)
        events = session.receive(path, [f.Ready(2, (state(1, 0, f.RESET_STATE),))])
        assert events == [
            Activated(resumed=True),
            StreamEnded(1, Code.GONE, "The provider ended it.", False),
        ]


class TestSwitching:
    def test_a_new_path_takes_over_and_the_old_one_is_fenced(self) -> None:
        session, old = active_client()
        session.mux.open()
        new = client_path()
        session.resume_on(new)
        assert (old.state, old.source) == (PathState.CLOSED, None)
        assert session.receive(old, [f.Data(1, 0, True, b"late"), f.Ready(2, ())]) == []
        assert session.receive(new, [f.Ready(2, (state(1),))]) == [
            Activated(resumed=True)
        ]

    def test_the_provider_fences_too(self) -> None:
        session, old = active_provider()
        session.receive(old, [f.Data(1, 0, False, b"he")])
        session.mux.write(1, b"answer")
        new = provider_path()
        session.receive(new, [f.Resume(SESSION, 2, (state(1),))])
        late: list[f.Frame] = [
            f.Data(1, 2, True, b"llo"),
            f.Reset(1, Code.CANCELLED, False, ""),
            f.Close(Code.CANCELLED, ""),
        ]
        assert session.receive(old, late) == []
        assert old.next_message(0.0) is None
        assert said_by(new) == [
            f.Ready(2, (state(1, 2),)),
            f.Data(1, 0, False, b"answer"),
        ]

    def test_a_resume_that_comes_late_is_refused(self) -> None:
        """RESUME 2 was on its way when RESUME 3 took another, faster path."""
        session, _ = active_provider()
        fast, slow = provider_path(), provider_path()
        session.receive(fast, [f.Resume(SESSION, 3, ())])
        with pytest.raises(RemoteProtocolError, match="epoch 2 after 3"):
            session.receive(slow, [f.Resume(SESSION, 2, ())])
        assert session.path is fast

    def test_resume_during_resume_waits_for_the_newer_ready(self) -> None:
        session, _ = active_client()
        first, second = client_path(), client_path()
        session.resume_on(first)
        session.resume_on(second)
        assert session.receive(first, [f.Ready(2, ())]) == []
        assert session.state is SessionState.RESUMING
        assert session.receive(second, [f.Ready(3, ())]) == [Activated(resumed=True)]

    def test_the_provider_answers_for_streams_it_no_longer_knows(self) -> None:
        session, path = active_provider()
        session.receive(path, [f.Data(1, 0, False, b"")])
        session.detach(path, 0.0)
        session.mux.reset(1, Code.BACKEND, "the model fell over", retryable=False)
        path = provider_path()
        session.receive(path, [f.Resume(SESSION, 2, (state(1),))])
        assert said_by(path) == [
            f.Ready(2, ()),
            f.Reset(1, Code.BACKEND, False, "the model fell over"),
        ]

    def test_a_stream_cancelled_while_no_path_was_there_is_cancelled(self) -> None:
        session, path = active_provider()
        session.receive(path, [f.Data(1, 0, False, b"")])
        (ended, activated) = session.receive(
            provider_path(), [f.Resume(SESSION, 2, ())]
        )
        assert isinstance(ended, StreamEnded)
        assert ended.code is Code.CANCELLED
        assert activated == Activated(resumed=True)


class TestDetached:
    def test_streams_may_be_opened_and_wait(self) -> None:
        session, path = active_client()
        session.detach(path, 0.0)
        assert (session.state, session.path) == (SessionState.DETACHED, None)
        assert (path.state, path.source) == (PathState.CLOSED, None)
        assert session.can_open
        session.mux.write(session.mux.open(), b"x")
        session.signal(b"lost")
        new = client_path()
        session.resume_on(new)
        session.receive(new, [f.Ready(2, (state(1),))])
        assert said_by(new)[-1] == f.Data(1, 0, False, b"x")

    def test_another_path_that_ends_changes_nothing(self) -> None:
        session, path = active_client()
        session.detach(client_path(), 0.0)
        assert (session.state, session.path) == (SessionState.ACTIVE, path)

    def test_after_a_minute_it_is_over(self) -> None:
        session, path = active_client()
        session.mux.open()
        session.detach(path, 100.0)
        assert session.on_time(100.0 + DETACHED_S - 0.1) == []
        ended, closed = session.on_time(100.0 + DETACHED_S)
        assert isinstance(ended, StreamEnded)
        assert isinstance(closed, SessionClosed)
        assert ended.code is closed.code is Code.GONE
        assert session.state is SessionState.CLOSED
        assert not session.can_open

    def test_a_resume_that_fails_gains_no_time(self) -> None:
        session, path = active_client()
        session.detach(path, 100.0)
        for now in (130.0, 150.0):
            path = client_path()
            session.resume_on(path)
            session.detach(path, now)
        assert session.on_time(160.0) != []

    def test_a_resume_that_gets_no_answer_ends_with_a_close(self) -> None:
        session, path = active_client()
        session.detach(path, 100.0)
        path = client_path()
        session.resume_on(path)
        assert session.on_time(160.0) != []
        assert isinstance(said_by(path)[-1], f.Close)

    def test_a_resume_that_works_ends_the_minute(self) -> None:
        session, path = active_client()
        session.detach(path, 100.0)
        path = client_path()
        session.resume_on(path)
        session.receive(path, [f.Ready(2, ())])
        assert session.on_time(1_000.0) == []

    def test_a_writer_may_run_on_to_one_mebibyte(self) -> None:
        session, path = active_client()
        stream = session.mux.open()
        session.mux.write(stream, bytes(UNSENT_MAX))
        assert not session.mux.can_write(stream)
        session.detach(path, 0.0)
        assert session.on_time(0.0) == [Writable(stream)]
        session.mux.write(stream, bytes(REPLAY_MAX - UNSENT_MAX))
        assert not session.mux.can_write(stream)
        assert session.on_time(1.0) == []


class TestClosing:
    def test_the_peer_is_told_once_and_streams_end(self) -> None:
        session, path = active_client()
        session.mux.open()
        events = session.close(Code.CANCELLED, "the client has ended")
        assert events == [
            StreamEnded(1, Code.CANCELLED, "the client has ended", False),
            SessionClosed(Code.CANCELLED, "the client has ended"),
        ]
        assert session.close(Code.GONE, "again") == []
        assert said_by(path) == [f.Close(Code.CANCELLED, "the client has ended")]

    def test_a_close_of_the_peer_ends_streams(self) -> None:
        session, path = active_client()
        session.mux.open()
        events = session.receive(path, [f.Close(Code.DRAINING, "bye")])
        assert [type(event) for event in events] == [StreamEnded, SessionClosed]
        assert said_by(path) == []

    def test_it_may_come_instead_of_ready(self) -> None:
        session, path = new_client(), client_path()
        session.open_on(path)
        frame = f.Close(Code.UNKNOWN_SESSION, "not known")
        assert session.receive(path, [frame]) == [
            SessionClosed(Code.UNKNOWN_SESSION, "not known")
        ]

    def test_nothing_is_taken_after_it(self) -> None:
        session, path = active_provider()
        session.close(Code.DRAINING, "")
        assert session.receive(path, [f.Data(1, 0, False, b"x"), f.Ack(9, 9, 9)]) == []
        assert len(session.mux) == 0

    def test_the_path_of_a_closed_session_may_go(self) -> None:
        session, path = active_client()
        session.close(Code.CANCELLED, "")
        session.detach(path, 0.0)
        assert (session.state, session.path) == (SessionState.CLOSED, None)
        assert session.on_time(1_000.0) == []


class TestGoingAway:
    def test_the_client_is_told_and_opens_no_more(self) -> None:
        session, path = active_client()
        session.mux.open()
        session.mux.open()
        events = session.receive(path, [f.GoAway(1, Code.DRAINING, "bye")])
        assert events == [
            GoingAway(1, Code.DRAINING, "bye"),
            StreamEnded(2, Code.DRAINING, "bye", True),
        ]
        assert not session.can_open
        assert 1 in session.mux

    def test_the_provider_finishes_what_runs_and_takes_nothing_new(self) -> None:
        session, path = active_provider()
        session.receive(path, [f.Data(1, 0, False, b"")])
        session.go_away(Code.DRAINING, "bye")
        begun = [f.Data(2, 0, False, b"x"), f.Data(1, 0, True, b"y")]
        assert session.receive(path, [*begun]) == [Received(1, b"y", True)]
        assert said_by(path) == [
            f.GoAway(1, Code.DRAINING, "bye"),
            f.Reset(2, Code.DRAINING, True, "bye"),
        ]

    def test_it_is_said_again_on_a_new_path(self) -> None:
        session, path = active_provider()
        session.detach(path, 0.0)
        session.go_away(Code.DRAINING, "bye")
        path = provider_path()
        session.receive(path, [f.Resume(SESSION, 2, (state(1),))])
        assert said_by(path) == [
            f.Ready(2, ()),
            f.Reset(1, Code.DRAINING, True, "bye"),
            f.GoAway(0, Code.DRAINING, "bye"),
        ]


class TestOtherFrames:
    def test_an_info_reaches_the_client(self) -> None:
        provider, path = active_provider()
        provider.receive(path, [f.Data(1, 0, False, b"")])
        provider.inform(1, b"{}")
        provider.inform(2, b"of a stream nobody knows")
        assert said_by(path) == [f.Info(1, b"{}")]
        client, path = active_client()
        assert client.receive(path, [f.Info(1, b"{}")]) == [Informed(1, b"{}")]

    def test_an_envelope_reaches_either_side(self) -> None:
        for session, path in (active_client(), active_provider()):
            session.signal(b"sealed")
            assert said_by(path) == [f.Signal(b"sealed")]
            assert session.receive(path, [f.Signal(b"other")]) == [Signalled(b"other")]

    @pytest.mark.parametrize(
        "frame",
        [f.Ready(1, ()), f.GoAway(1, Code.DRAINING, ""), f.Info(1, b"")],
    )
    def test_the_provider_takes_none_of_its_own(self, frame: f.Frame) -> None:
        session, path = active_provider()
        with pytest.raises(RemoteProtocolError, match="not for us"):
            session.receive(path, [frame])

    @pytest.mark.parametrize("frame", [f.Open(SESSION, 2), f.Resume(SESSION, 2, ())])
    def test_the_client_takes_none_of_its_own(self, frame: f.Frame) -> None:
        session, path = active_client()
        with pytest.raises(RemoteProtocolError, match="not for us"):
            session.receive(path, [frame])

    def test_a_slow_reader_is_given_up(self) -> None:
        session, path = active_client()
        session.mux.write(session.mux.open(), bytes(INITIAL_CREDIT + 1))
        said_by(path)
        assert session.on_time(0.0) == []
        (ended,) = session.on_time(60.0)
        assert isinstance(ended, StreamEnded)
        assert said_by(path) == [
            f.Reset(1, Code.SLOW_READER, False, ended.text),
        ]


KEPT: list[Event] = [Opened(1), Received(1, b"kept", False)]


class TestErrors:
    """What came before an error has happened: those bytes are never sent again."""

    def broken(self) -> Session:
        session, path = active_provider()
        with pytest.raises(RemoteProtocolError):
            session.receive(path, [f.Data(1, 0, False, b"kept"), f.Ack(1, 99, 0)])
        session.detach(path, 0.0)
        return session

    def test_it_is_told_by_the_next_frames(self) -> None:
        session = self.broken()
        frame = f.Resume(SESSION, 2, (state(1),))
        events = session.receive(provider_path(), [frame])
        assert events == [*KEPT, Activated(resumed=True)]

    def test_or_by_the_clock(self) -> None:
        session = self.broken()
        assert session.on_time(1.0) == KEPT
        assert session.on_time(2.0) == []

    def test_or_by_the_end(self) -> None:
        events = self.broken().close(Code.GONE, "")
        assert events[:2] == KEPT


def test_ids_held_back_by_the_client_are_given_when_streams_end() -> None:
    net = connected()
    while net.client.session.can_open:
        net.ask([b"x"])
    assert len(net.client.session.mux) == 64
    net.settle()
    net.provider.write(7, [b"answer"])
    net.settle()
    assert net.client.session.can_open
    assert net.ask([b"y"]) == 65
    net.settle()
    assert net.provider.read[65] == b"y"
    assert net.errors == []


def test_opening_and_ending_at_full_load_never_breaks_the_limit() -> None:
    """Completions under way on both sides, a path lost now and then."""
    net = connected()
    asked: list[int] = []
    answered = 0
    for round in range(40):
        while net.client.session.can_open:
            asked.append(net.ask([b"x"]))
        net.turn()
        ready = net.provider.opened[answered : answered + 20]
        answered += len(ready)
        for stream in ready:
            net.provider.write(stream, [b"answer"])
        if round % 5 == 3:
            net.lose(provider=False)
            net.connect()
    net.settle()
    for stream in net.provider.opened[answered:]:
        net.provider.write(stream, [b"answer"])
    net.settle()
    assert len(asked) > 200
    for stream in asked:
        assert net.provider.read[stream] == b"x"
        assert net.client.fins[stream] == net.provider.fins[stream] == 1
    assert net.errors == []
