"""The streams of one session: who may send next, who owes an ACK, who has ended.

Knows nothing of paths or epochs: the session says whether one is there (`is_live`) and
passes frames. docs/protocol.md §6.1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshllm.errors import Code, LocalProtocolError, RemoteProtocolError
from meshllm.protocol.events import Event, Opened, Received, StreamEnded, Writable
from meshllm.protocol.frames import (
    FIN_STATE,
    OPEN_STATE,
    Ack,
    Data,
    Reset,
    StreamState,
)
from meshllm.protocol.streams import REPLAY_MAX, UNSENT_MAX, RecvHalf, SendHalf

STREAMS_MAX = 64
PEER_REPLAY_MAX = 4 << 20
SLOW_READER_S = 60.0
RESETS_KEPT = 64  # told again after a RESUME, should the first telling be lost


@dataclass(slots=True)
class _Stream:
    send: SendHalf
    recv: RecvHalf
    is_paused: bool = False  # its writer was told to wait
    blocked_at: float | None = None


class Mux:
    """`say` sends a RESET now, or loses it when no path is there."""

    def __init__(self, *, is_client: bool, say: Callable[[Reset], None]) -> None:
        self.is_live = False
        self.last_stream = 0
        self.held = 0  # bytes kept for replay, over all streams
        self._is_client = is_client
        self._say = say
        self._streams: dict[int, _Stream] = {}
        self._resets: OrderedDict[int, Reset] = OrderedDict()
        # Ordered sets of ids: who has DATA to send, who owes the peer an ACK.
        self._sendable: OrderedDict[int, None] = OrderedDict()
        self._ackable: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, stream: int) -> bool:
        return stream in self._streams

    def __len__(self) -> int:
        return len(self._streams)

    # What writers and readers do

    def open(self) -> int:
        """Client: a new stream's id."""
        if len(self._streams) >= STREAMS_MAX:
            raise LocalProtocolError(f"more than {STREAMS_MAX} streams")
        self._add(self.last_stream + 1)
        return self.last_stream

    def write(self, stream: int, data: bytes) -> None:
        """Ignored when the stream has ended: its writer is told by an event."""
        if (found := self._streams.get(stream)) and data:
            found.send.write(data)
            self.held += len(data)
            self._mark_sendable(stream, found)

    def finish(self, stream: int) -> None:
        if found := self._streams.get(stream):
            found.send.finish()
            self._mark_sendable(stream, found)

    def can_write(self, stream: int) -> bool:
        """False: wait for Writable. True for ended streams, where writes vanish.

        With a path, what is not yet sent counts; without one, what the peer has not
        acknowledged, which would be lost with us.
        """
        found = self._streams.get(stream)
        if found is None:
            return True
        may = found.send.unacked < REPLAY_MAX and self.held < PEER_REPLAY_MAX
        if self.is_live:
            may = may and found.send.unsent < UNSENT_MAX
        found.is_paused = not may
        return may

    def consume(self, stream: int, count: int) -> None:
        """The reader holds these bytes safely: acknowledge, and grant more."""
        if found := self._streams.get(stream):
            found.recv.consume(count)
            self._mark_ackable(stream, found)

    def reset(self, stream: int, code: Code, text: str, *, retryable: bool) -> None:
        """End it now, both ways. Nothing to do when it has ended."""
        if self._pop(stream):
            frame = Reset(stream, code, retryable, text)
            self._resets[stream] = frame
            if len(self._resets) > RESETS_KEPT:
                self._resets.popitem(last=False)
            self._say(frame)

    # What a path takes

    def take_ack(self) -> Ack | None:
        while self._ackable:
            id, _ = self._ackable.popitem(last=False)
            stream = self._streams[id]
            if stream.recv.is_report_due:
                ack = stream.recv.report()
                self._forget_if_complete(id, stream)
                return ack
        return None

    def take_data(self, room: int) -> Data | None:
        """At most `room` bytes of the next stream in turn."""
        while self._sendable:
            id, _ = self._sendable.popitem(last=False)
            stream = self._streams[id]
            if (frame := stream.send.take(room)) is not None:
                self._mark_sendable(id, stream)
                return frame
        return None

    def take_writable(self) -> list[Event]:
        """Writers that waited and may go on, now that something was sent."""
        return [
            Writable(id)
            for id, stream in self._streams.items()
            if stream.is_paused and self.can_write(id)
        ]

    # Frames

    def on_data(self, frame: Data) -> list[Event]:
        events: list[Event] = []
        stream = self._streams.get(frame.stream)
        if stream is None:
            if frame.stream <= self.last_stream:
                return events  # it ended here while this was under way
            stream = self.on_opened(frame.stream)
            events.append(Opened(frame.stream))
        had_fin = stream.recv.size is not None
        data = stream.recv.on_data(frame)
        fin = stream.recv.size is not None and not had_fin
        if data or fin:
            events.append(Received(frame.stream, data, fin))
        self._mark_ackable(frame.stream, stream)
        return events

    def on_opened(self, stream: int) -> _Stream:
        """The peer's first word of a stream."""
        if self._is_client:
            raise RemoteProtocolError("a stream that was never opened")
        if len(self._streams) >= STREAMS_MAX:
            raise RemoteProtocolError(f"more than {STREAMS_MAX} streams")
        return self._add(stream)

    def on_ack(self, frame: Ack) -> list[Event]:
        stream = self._streams.get(frame.stream)
        if stream is None:
            if frame.stream > self.last_stream:
                raise RemoteProtocolError("ACK of a stream that was never opened")
            return []
        held = stream.send.unacked
        stream.send.on_ack(frame.ack, frame.max)
        self.held -= held - stream.send.unacked
        self._mark_sendable(frame.stream, stream)
        self._forget_if_complete(frame.stream, stream)
        if stream.is_paused and self.can_write(frame.stream):
            return [Writable(frame.stream)]
        return []

    def on_reset(self, frame: Reset) -> list[Event]:
        if frame.stream > self.last_stream:
            if self._is_client:
                raise RemoteProtocolError("RESET of a stream that was never opened")
            self.last_stream = frame.stream  # cancelled before its first byte left
        if self._pop(frame.stream) is None:
            return []
        return [StreamEnded(frame.stream, frame.code, frame.text, frame.retryable)]

    def end_all(self, code: Code, text: str) -> list[Event]:
        ids = list(self._streams)
        return [e for id in ids for e in self.on_reset(Reset(id, code, False, text))]

    def end_slow(self, now: float) -> list[Event]:
        """Resets the streams whose reader has granted nothing for 60 s."""
        events: list[Event] = []
        text = "The reader took nothing for 60 seconds."
        for id, stream in list(self._streams.items()):
            if not stream.send.is_blocked:
                stream.blocked_at = None
            elif stream.blocked_at is None:
                stream.blocked_at = now
            elif now - stream.blocked_at >= SLOW_READER_S:
                self.reset(id, Code.SLOW_READER, text, retryable=False)
                events.append(StreamEnded(id, Code.SLOW_READER, text, False))
        return events

    # Resuming

    def states(self) -> tuple[StreamState, ...]:
        """What we hold of every stream, for RESUME and READY."""
        return tuple(
            StreamState(
                id,
                stream.recv.rx,
                stream.recv.max,
                OPEN_STATE if stream.recv.size is None else FIN_STATE,
            )
            for id, stream in self._streams.items()
        )

    def on_new_path(self) -> None:
        """Reports may have been lost with the old path; nothing is sent yet."""
        self.is_live = True
        self._sendable.clear()
        for id, stream in self._streams.items():
            stream.recv.on_new_path()
            stream.blocked_at = None
            self._mark_ackable(id, stream)

    def rewind(self, states: Iterable[StreamState]) -> list[Reset]:
        """Go on from what the peer holds; the answer is what it should know ended."""
        gone = []
        for state in states:
            if stream := self._streams.get(state.stream):
                stream.send.rewind(state.rx, state.max)
            else:
                text = "This stream is not known any more."
                unknown = Reset(state.stream, Code.GONE, False, text)
                gone.append(self._resets.get(state.stream, unknown))
        for id, stream in self._streams.items():
            self._mark_sendable(id, stream)
        return gone

    def on_listed(self, states: Iterable[StreamState]) -> list[Event]:
        """Provider: the client's list in RESUME. What it left out is cancelled."""
        listed = {state.stream for state in states}
        events: list[Event] = []
        for id in [id for id in self._streams if id not in listed]:
            events += self.on_reset(Reset(id, Code.CANCELLED, False, "cancelled"))
        for id in sorted(listed):
            if id > self.last_stream:
                self.on_opened(id)
                events.append(Opened(id))
        return events

    # Inside

    def _add(self, id: int) -> _Stream:
        self.last_stream = id
        self._streams[id] = _Stream(SendHalf(id), RecvHalf(id))
        return self._streams[id]

    def _pop(self, id: int) -> _Stream | None:
        self._sendable.pop(id, None)
        self._ackable.pop(id, None)
        stream = self._streams.pop(id, None)
        if stream is not None:
            self.held -= stream.send.unacked
        return stream

    def _mark_sendable(self, id: int, stream: _Stream) -> None:
        if stream.send.is_sendable:
            self._sendable.setdefault(id)

    def _mark_ackable(self, id: int, stream: _Stream) -> None:
        if stream.recv.is_report_due:
            self._ackable.setdefault(id)

    def _forget_if_complete(self, id: int, stream: _Stream) -> None:
        if stream.send.is_complete and stream.recv.is_reported:
            self._pop(id)
