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
        self._going_away = False
        self._detached_at: float | None = None

    # Paths

    def open_on(self, path: Path) -> None:
        """Client: begin, on the first path."""
        if self.state is not SessionState.NEW:
            raise LocalProtocolError(f"OPEN in state {self.state.value}")
        self.epoch = 1
        self._attach(path)
        self.state = SessionState.OPENING
        path.queue(Open(self.id, self.epoch))

    def resume_on(self, path: Path) -> None:
        """Client: go on, on another path. Also while an earlier RESUME is under way."""
        if self.state in (SessionState.NEW, SessionState.CLOSED):
            raise LocalProtocolError(f"RESUME in state {self.state.value}")
        self.epoch += 1
        self._attach(path)
        self.state = SessionState.RESUMING
        path.queue(Resume(self.id, self.epoch, self.mux.states()))

    def detach(self, path: Path, now: float) -> None:
        """The path is gone. Another may take over within the limits of §7."""
        if path is self.path and self.state is not SessionState.CLOSED:
            path.source = None
            self.path = None
            self._detached_at = now
            self.mux.is_live = False
            self.state = SessionState.DETACHED

    def receive(self, path: Path, frames: list[Frame]) -> list[Event]:
        """What happened. RemoteProtocolError: close the path; the session lives on."""
        events: list[Event] = []
        for frame in frames:
            match frame:
                case Open() | Resume() if not self.is_client:
                    events += self._on_attach(path, frame)
                case _ if path is not self.path:
                    continue  # fenced: a newer path has taken over
                case Data():
                    events += self.mux.on_data(frame)
                case Ack():
                    events += self.mux.on_ack(frame)
                case Reset():
                    events += self.mux.on_reset(frame)
                case _:
                    events += self._on_rare(frame)
        return events

    # The session

    @property
    def can_open(self) -> bool:
        """Client: a stream may be opened now, whether or not a path is there."""
        return (
            self.state is not SessionState.CLOSED
            and not self._going_away
            and len(self.mux) < STREAMS_MAX
        )

    def inform(self, stream: int, json: bytes) -> None:
        """Provider: advisory; lost when no path is there."""
        if stream in self.mux:
            self._queue(Info(stream, json))

    def signal(self, envelope: bytes) -> None:
        """Introduce a new path through the present one."""
        self._queue(Signal(envelope))

    def go_away(self, code: Code, text: str) -> None:
        """Provider: finish what runs, take nothing new."""
        self._going_away = True
        self._queue(GoAway(self.mux.last_stream, code, text))

    def close(self, code: Code, text: str) -> list[Event]:
        self._queue(Close(code, text))
        return self._close(code, text)

    def on_time(self, now: float) -> list[Event]:
        """Ends slow readers, and the session when no path came back in time."""
        if self._detached_at is not None:
            if now - self._detached_at < DETACHED_S:
                return []
            return self._close(Code.GONE, "No path came back within 60 seconds.")
        if self.state is SessionState.ACTIVE:
            return self.mux.end_slow(now)
        return []

    # What the path asks for

    def take_control(self) -> Ack | None:
        return self.mux.take_ack() if self.state is SessionState.ACTIVE else None

    def take_data(self, room: int) -> Data | None:
        return self.mux.take_data(room) if self.state is SessionState.ACTIVE else None

    # Inside

    def _on_attach(self, path: Path, frame: Open | Resume) -> list[Event]:
        if frame.session != self.id or self.state is SessionState.CLOSED:
            raise RemoteProtocolError("another session")
        if path.state is not PathState.STANDBY:
            raise RemoteProtocolError("this path already carries the session")
        if frame.epoch <= self.epoch:
            raise RemoteProtocolError(f"epoch {frame.epoch} after {self.epoch}")
        if isinstance(frame, Open) != (self.epoch == 0):
            raise RemoteProtocolError("OPEN is for new sessions, RESUME for known ones")
        if isinstance(frame, Open) and frame.epoch != 1:
            raise RemoteProtocolError("OPEN has epoch 1")
        states = () if isinstance(frame, Open) else frame.streams
        events = self.mux.on_listed(states)
        self.epoch = frame.epoch
        self._attach(path)
        self._activate()
        path.queue(Ready(self.epoch, self.mux.states()))
        for gone in self.mux.rewind(states):
            path.queue(gone)
        return [*events, Activated(resumed=isinstance(frame, Resume))]

    def _on_rare(self, frame: Frame) -> list[Event]:
        match frame:
            case Ready() if self.is_client:
                return self._on_ready(frame)
            case Close(code, text):
                return self._close(code, text)
            case GoAway(last_stream, code, text) if self.is_client:
                self._going_away = True
                return [GoingAway(last_stream, code, text)]
            case Info(stream, json) if self.is_client:
                return [Informed(stream, json)]
            case Signal(envelope):
                return [Signalled(envelope)]
        raise RemoteProtocolError(f"{type(frame).__name__} is not for us")

    def _on_ready(self, frame: Ready) -> list[Event]:
        if self.state not in (SessionState.OPENING, SessionState.RESUMING):
            raise RemoteProtocolError("READY twice")
        if frame.epoch != self.epoch:
            raise RemoteProtocolError(f"READY {frame.epoch} for epoch {self.epoch}")
        resumed = self.state is SessionState.RESUMING
        self._activate()
        self.mux.rewind(frame.streams)
        return [Activated(resumed)]

    def _attach(self, path: Path) -> None:
        if path.state is not PathState.STANDBY:
            raise LocalProtocolError(f"a path in state {path.state.value}")
        if self.path is not None:
            self.path.source = None
            self.path.state = PathState.CLOSED
        self.path = path
        self.mux.is_live = False
        path.source = self
        path.state = PathState.ACTIVE

    def _activate(self) -> None:
        self.state = SessionState.ACTIVE
        self._detached_at = None
        self.mux.on_new_path()

    def _queue(self, frame: Frame) -> None:
        if self.path is not None:
            self.path.queue(frame)

    def _close(self, code: Code, text: str) -> list[Event]:
        if self.state is SessionState.CLOSED:
            return []
        self.state = SessionState.CLOSED
        self._detached_at = None
        return [*self.mux.end_all(code, text), SessionClosed(code, text)]
