"""A session: two authenticated peers and their streams; it outlives its paths.

Pure: frames and time in, frames and events out, by the table of docs/protocol.md §6.2.
The edge reads and writes through `mux`, gives the session to a path (`open_on`,
`resume_on`, or by passing OPEN and RESUME to `receive`), and sends what it builds.
"""

from __future__ import annotations

from enum import Enum

from meshllm.errors import Code, LocalProtocolError, RemoteProtocolError
from meshllm.protocol.events import (
    Activated,
    Event,
    GoingAway,
    Informed,
    SessionClosed,
    Signalled,
)
from meshllm.protocol.frames import (
    RESET_STATE,
    Ack,
    Close,
    Data,
    Frame,
    GoAway,
    Info,
    Open,
    Ready,
    Reset,
    Resume,
    Signal,
)
from meshllm.protocol.mux import STREAMS_MAX, Mux
from meshllm.protocol.path import Path, PathState

DETACHED_S = 60.0


class SessionState(Enum):
    NEW = "new"
    OPENING = "opening"
    ACTIVE = "active"
    DETACHED = "detached"
    RESUMING = "resuming"
    CLOSED = "closed"


class Session:
    """`id` is 16 random bytes, made by the client."""

    def __init__(self, id: bytes, *, is_client: bool) -> None:
        self.id = id
        self.is_client = is_client
        self.state = SessionState.NEW
        self.epoch = 0
        self.path: Path | None = None
        self.mux = Mux(is_client=is_client, say=self._queue)
        self._goaway: GoAway | None = None
        self._detached_at: float | None = None
        self._events: list[Event] = []  # not told yet; see `receive`

    # Paths

    def open_on(self, path: Path) -> None:
        """Client: begin, on the first path."""
        if self.state is not SessionState.NEW:
            raise LocalProtocolError(f"OPEN in state {self.state.value}")
        self._attach(path)
        self.epoch = 1
        self.state = SessionState.OPENING
        path.queue(Open(self.id, self.epoch))

    def resume_on(self, path: Path) -> None:
        """Client: go on, on another path. Also while an earlier RESUME is under way."""
        if self.state in (SessionState.NEW, SessionState.CLOSED):
            raise LocalProtocolError(f"RESUME in state {self.state.value}")
        self._attach(path)
        self.epoch += 1
        self.state = SessionState.RESUMING
        path.queue(Resume(self.id, self.epoch, self.mux.states()))

    def detach(self, path: Path, now: float) -> None:
        """The path is gone. Another may take over within the limits of §7."""
        if path is not self.path:
            return
        self._let_go()
        if self.state is not SessionState.CLOSED:
            if self._detached_at is None:  # a RESUME that failed gains no time
                self._detached_at = now
            self.state = SessionState.DETACHED

    def receive(self, path: Path, frames: list[Frame]) -> list[Event]:
        """What happened. RemoteProtocolError: close the path; the session lives on.

        What happened before an error is told by the next call that returns events:
        bytes that were received once are never sent again.
        """
        for frame in frames:
            if type(frame) is Data and self._flows_on(path):  # nearly always
                self._events += self.mux.on_data(frame)
            else:
                self._events += self._on_frame(path, frame)
        return self._take_events()

    # The session

    @property
    def can_open(self) -> bool:
        """Client: a stream may be opened now, whether or not a path is there."""
        return (
            self.state is not SessionState.CLOSED
            and not self.is_going_away
            and len(self.mux) < STREAMS_MAX
        )

    @property
    def is_going_away(self) -> bool:
        """The provider takes no new stream."""
        return self._goaway is not None

    def inform(self, stream: int, json: bytes) -> None:
        """Provider: advisory; lost when no path is there."""
        if stream in self.mux:
            self._queue(Info(stream, json))

    def signal(self, envelope: bytes) -> None:
        """Introduce a new path through the present one."""
        self._queue(Signal(envelope))

    def go_away(self, code: Code, text: str) -> None:
        """Provider: finish what runs, take nothing new."""
        self._goaway = GoAway(self.mux.last_stream, code, text)
        self.mux.refuse_new(code, text)
        self._queue(self._goaway)

    def close(self, code: Code, text: str) -> list[Event]:
        if self.state is not SessionState.CLOSED:
            self._queue(Close(code, text))
            self._events += self._close(code, text)
        return self._take_events()

    def on_time(self, now: float) -> list[Event]:
        """Ends slow readers, and the session when no path came back in time."""
        since = self._detached_at
        if since is not None and now - since >= DETACHED_S:
            return self.close(Code.GONE, "No path came back within 60 seconds.")
        if self.state is SessionState.ACTIVE:
            self._events += self.mux.end_slow(now)
        self._events += self.mux.take_writable()
        return self._take_events()

    # Inside

    def _flows_on(self, path: Path) -> bool:
        return path is self.path and self.state is SessionState.ACTIVE

    def _on_frame(self, path: Path, frame: Frame) -> list[Event]:
        match frame:
            case Open() | Resume() if not self.is_client:
                return self._on_attach(path, frame)
            case _ if path is not self.path or self.state is SessionState.CLOSED:
                return []  # fenced: a newer path has taken over, or all is over
            case Ready() if self.is_client:
                return self._on_ready(frame)
            case Close(code, text):
                return self._close(code, text)
            case _ if self.state is not SessionState.ACTIVE:
                raise RemoteProtocolError(f"{type(frame).__name__} before READY")
            case Ack():
                return self.mux.on_ack(frame)
            case Reset():
                return self.mux.on_reset(frame)
            case Signal(envelope):
                return [Signalled(envelope)]
            case GoAway() | Info() if self.is_client:
                return self._on_advice(frame)
        raise RemoteProtocolError(f"{type(frame).__name__} is not for us")

    def _on_advice(self, frame: GoAway | Info) -> list[Event]:
        if isinstance(frame, Info):
            return [Informed(frame.stream, frame.json)]
        self._goaway = frame
        last, code, text = frame.last_stream, frame.code, frame.text
        ended = self.mux.end_above(last, code, text, retryable=True)
        return [GoingAway(last, code, text), *ended]

    def _on_attach(self, path: Path, frame: Open | Resume) -> list[Event]:
        states = () if isinstance(frame, Open) else frame.streams
        self._check_attach(path, frame)
        self.mux.check(states)  # nothing has changed yet, should this raise
        self._attach(path)
        self.epoch = frame.epoch
        events = self.mux.on_listed(states)
        self._activate()
        path.queue(Ready(self.epoch, self.mux.states()))
        for gone in self.mux.rewind(states):
            path.queue(gone)
        if self._goaway is not None:  # its first telling may be lost
            path.queue(self._goaway)
        return [*events, Activated(resumed=isinstance(frame, Resume))]

    def _check_attach(self, path: Path, frame: Open | Resume) -> None:
        if frame.session != self.id or self.state is SessionState.CLOSED:
            raise RemoteProtocolError("another session, or one that has ended")
        if path.state is not PathState.STANDBY:
            raise RemoteProtocolError("this path already carries the session")
        if frame.epoch <= self.epoch:
            raise RemoteProtocolError(f"epoch {frame.epoch} after {self.epoch}")
        if isinstance(frame, Open) != (self.epoch == 0):
            raise RemoteProtocolError("OPEN is for new sessions, RESUME for known ones")
        if isinstance(frame, Open) and frame.epoch != 1:
            raise RemoteProtocolError("OPEN has epoch 1")

    def _on_ready(self, frame: Ready) -> list[Event]:
        if self.state not in (SessionState.OPENING, SessionState.RESUMING):
            raise RemoteProtocolError("READY twice")
        if frame.epoch != self.epoch:
            raise RemoteProtocolError(f"READY {frame.epoch} for epoch {self.epoch}")
        self.mux.check(frame.streams)
        resumed = self.state is SessionState.RESUMING
        self._activate()
        self.mux.rewind(frame.streams)
        ended: list[Event] = []
        for state in frame.streams:
            if state.state == RESET_STATE:
                gone = Reset(state.stream, Code.GONE, False, "The provider ended it.")
                ended += self.mux.on_reset(gone)
        return [Activated(resumed), *ended]

    def _attach(self, path: Path) -> None:
        if path.state is not PathState.STANDBY:
            raise LocalProtocolError(f"a path in state {path.state.value}")
        self._let_go()
        self.path = path
        path.state = PathState.ACTIVE

    def _let_go(self) -> None:
        if self.path is not None:
            self.path.source = None
            self.path.state = PathState.CLOSED
        self.path = None
        self.mux.is_live = False

    def _activate(self) -> None:
        assert self.path is not None
        self.state = SessionState.ACTIVE
        self._detached_at = None
        self.mux.on_new_path()
        self.path.source = self.mux

    def _queue(self, frame: Frame) -> None:
        if self.path is not None:
            self.path.queue(frame)

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _close(self, code: Code, text: str) -> list[Event]:
        self.state = SessionState.CLOSED
        self._detached_at = None
        return [*self.mux.end_all(code, text), SessionClosed(code, text)]
