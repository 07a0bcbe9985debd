"""The streams of one session: who may send next, who owes an ACK, who has ended.

Knows nothing of paths or epochs: the session says whether one is there (`is_live`) and
passes frames. docs/protocol.md §6.1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from meshllm.errors import Code, LocalProtocolError, RemoteProtocolError
from meshllm.protocol.events import Event, Opened, Received, StreamEnded, Writable
from meshllm.protocol.frames import (
    FIN_STATE,
    OPEN_STATE,
    RESET_STATE,
    RESUME_STREAMS_MAX,
    Ack,
    Data,
    Reset,
    StreamState,
)
from meshllm.protocol.streams import REPLAY_MAX, UNSENT_MAX, SendHalf, Stream

STREAMS_MAX = 64
PEER_REPLAY_MAX = 4 << 20
SLOW_READER_S = 60.0
RESETS_KEPT = 64  # told again after a RESUME, should the first telling be lost


class Mux:
    """`say` sends a RESET now, or loses it when no path is there."""

    def __init__(self, *, is_client: bool, say: Callable[[Reset], None]) -> None:
        self.is_live = False
        self.last_stream = 0
        self.held = 0  # bytes kept for replay, over all streams
        self._is_client = is_client
        self._say = say
        self._streams: dict[int, Stream] = {}
        self._resets: OrderedDict[int, Reset] = OrderedDict()
        self._refusal: tuple[Code, str] | None = None
        # Ordered sets of ids: who has DATA to send, who owes the peer an ACK, and whose
        # writer was told to wait (also when the stream has gone meanwhile).
        self._sendable: OrderedDict[int, None] = OrderedDict()
        self._ackable: OrderedDict[int, None] = OrderedDict()
        self._paused: dict[int, None] = {}

    def __contains__(self, stream: int) -> bool:
        return stream in self._streams

    def __len__(self) -> int:
        return len(self._streams)

    # What writers and readers do

    def open(self) -> int:
        """Client: a new stream's id."""
        if len(self._streams) >= STREAMS_MAX:
            raise LocalProtocolError(f"more than {STREAMS_MAX} streams")
        id = self.last_stream + 1
        self._add(id, Stream(id, is_announced=False))
        self._mark_sendable(id, self._streams[id])
        return id

    def write(self, stream: int, data: bytes) -> None:
        """Ignored when the stream has ended: its writer is told by an event."""
        if (found := self._streams.get(stream)) and data:
            found.send.write(data)
            self.held += len(data)
            if found.send.is_sendable:
                self._sendable.setdefault(stream)

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
        if found is None or self._has_room(found.send):
            if stream in self._paused:
                del self._paused[stream]
            return True
        self._paused[stream] = None
        return False

    def consume(self, stream: int, count: int) -> bool | None:
        """The reader holds these bytes safely: acknowledge, and grant more.

        None when no ACK is due. True when the peer may be waiting for it: its credit
        runs out. An ACK of what is complete can travel with the next message.
        """
        if (found := self._streams.get(stream)) is None:
            return None
        found.recv.consume(count)
        if not found.recv.is_report_due:
            return None
        self._ackable.setdefault(stream)
        return not found.recv.is_complete

    def is_complete(self, stream: int) -> bool:
        """Both ways are done; it is forgotten once our last ACK has left."""
        found = self._streams.get(stream)
        return found is not None and found.is_complete

    def reset(self, stream: int, code: Code, text: str, *, retryable: bool) -> None:
        """End it now, both ways. Nothing to do when it has ended."""
        if self.is_complete(stream):
            return  # only our last ACK is due, and says all
        found = self._pop(stream)
        self._paused.pop(stream, None)
        if found is not None and found.send.is_announced:
            frame = Reset(stream, code, retryable, text)
            self._keep(frame)
            self._say(frame)

    # What a path takes (`path.Source`), once the session has given it this

    @property
    def has_data(self) -> bool:
        return bool(self._sendable)

    def take_ack(self) -> Ack | None:
        if not self._ackable:
            return None
        id, _ = self._ackable.popitem(last=False)
        stream = self._streams[id]
        ack = stream.recv.report()
        self._forget_if_complete(id, stream)
        return ack

    def take_data(self, room: int) -> Data | None:
        """At most `room` bytes of the next stream in turn."""
        if not self._sendable:
            return None
        id, _ = self._sendable.popitem(last=False)
        stream = self._streams[id]
        frame = stream.send.take(room)
        if stream.send.is_sendable:
            self._sendable[id] = None  # after the others: streams take turns
        return frame

    def take_writable(self) -> list[Event]:
        """Writers that waited and may go on; ask when something was sent."""
        return [Writable(id) for id in list(self._paused) if self.can_write(id)]

    # Frames

    def on_data(self, frame: Data) -> list[Event]:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return self._on_first(frame)
        had_fin = stream.recv.size is not None
        data = stream.recv.on_data(frame)
        fin = stream.recv.size is not None and not had_fin
        if fin or had_fin:  # else receiving makes no report due, but consuming does
            self._mark_ackable(frame.stream, stream)
        return [Received(frame.stream, data, fin)] if data or fin else []

    def _on_first(self, frame: Data) -> list[Event]:
        id = frame.stream
        if id <= self.last_stream:
            return []  # it ended here while this was under way
        if self._is_client:
            raise RemoteProtocolError("DATA of a stream that was never opened")
        if self._refusal is not None:
            self._refuse(id)
            self._say(self._resets[id])
            return []
        self._check_limit()
        stream = Stream(id, is_announced=True)
        data = stream.recv.on_data(frame)  # raises before anything is kept
        self._add(id, stream)
        self._mark_ackable(id, stream)
        fin = stream.recv.size is not None
        received = [Received(id, data, fin)] if data or fin else []
        return [Opened(id), *received]

    def on_ack(self, frame: Ack) -> list[Event]:
        id = frame.stream
        stream = self._streams.get(id)
        if stream is None:
            if id > self.last_stream:
                raise RemoteProtocolError("ACK of a stream that was never opened")
            return []
        was_full = self.held >= PEER_REPLAY_MAX
        held, limit = stream.send.unacked, stream.send.limit
        stream.send.on_ack(frame.ack, frame.max)
        self.held -= held - stream.send.unacked
        if stream.send.limit > limit:
            stream.blocked_at = None
        self._mark_sendable(id, stream)
        self._forget_if_complete(id, stream)
        if was_full:  # what this stream gave back may be what others wait for
            return self.take_writable()
        return [Writable(id)] if id in self._paused and self.can_write(id) else []

    def on_reset(self, frame: Reset) -> list[Event]:
        """RESET of a stream that is done, or was never begun, changes nothing."""
        if self._is_client and frame.stream > self.last_stream:
            raise RemoteProtocolError("RESET of a stream that was never opened")
        stream = self._pop(frame.stream)
        if stream is None:
            return []
        events: list[Event] = []
        if not stream.is_done:
            self._paused.pop(frame.stream, None)
            end = StreamEnded(frame.stream, frame.code, frame.text, frame.retryable)
            events.append(end)
        return events + self.take_writable()

    def end_all(self, code: Code, text: str) -> list[Event]:
        return self.end_above(0, code, text, retryable=False)

    def end_above(
        self, last: int, code: Code, text: str, *, retryable: bool
    ) -> list[Event]:
        """Ends the streams after `last` on this side alone."""
        ids = [id for id in self._streams if id > last]
        return [
            e for id in ids for e in self.on_reset(Reset(id, code, retryable, text))
        ]

    def refuse_new(self, code: Code, text: str) -> None:
        """Provider: reset the streams that begin from now on, to be asked elsewhere."""
        self._refusal = (code, text)

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
        """What we hold of every stream, for RESUME and READY; it announces them."""
        states = []
        for id, stream in self._streams.items():
            stream.send.is_announced = True
            state = OPEN_STATE if stream.recv.size is None else FIN_STATE
            states.append(StreamState(id, stream.recv.rx, stream.recv.max, state))
        return tuple(states)

    def check(self, states: tuple[StreamState, ...]) -> None:
        """RemoteProtocolError: this side cannot go on from what the peer holds."""
        if not self._is_client and len(states) > STREAMS_MAX:
            raise RemoteProtocolError(f"more than {STREAMS_MAX} streams")
        for state in states:
            stream = self._streams.get(state.stream)
            if stream is not None:
                can = stream.send.can_rewind(state.rx)
            else:
                known = state.stream <= self.last_stream
                can = known or (not self._is_client and state.rx == 0)
            if not can:
                raise RemoteProtocolError(
                    f"stream {state.stream}: cannot resume at {state.rx}"
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
        listed = {s.stream for s in states if s.state != RESET_STATE}
        events: list[Event] = []
        for id in [id for id in self._streams if id not in listed]:
            text = "The caller went on without this stream."
            events += self.on_reset(Reset(id, Code.CANCELLED, False, text))
        for id in sorted(id for id in listed if id > self.last_stream):
            if self._refusal is None:
                self._add(id, Stream(id, is_announced=True))
                events.append(Opened(id))
            else:
                self._refuse(id)
        return events

    # Inside

    def _has_room(self, send: SendHalf) -> bool:
        if send.end - send.acked >= REPLAY_MAX or self.held >= PEER_REPLAY_MAX:
            return False
        return not self.is_live or send.end - send.next < UNSENT_MAX

    def _check_limit(self) -> None:
        """Complete streams do not count: the client may have forgotten them already,
        while what we owe it of them waits to leave."""
        if len(self._streams) < STREAMS_MAX:
            return
        running = sum(not stream.is_complete for stream in self._streams.values())
        if running >= STREAMS_MAX or len(self._streams) >= RESUME_STREAMS_MAX:
            raise RemoteProtocolError(f"more than {STREAMS_MAX} streams")

    def _refuse(self, id: int) -> None:
        assert self._refusal is not None
        code, text = self._refusal
        self.last_stream = id
        self._keep(Reset(id, code, True, text))

    def _keep(self, frame: Reset) -> None:
        self._resets[frame.stream] = frame
        if len(self._resets) > RESETS_KEPT:
            self._resets.popitem(last=False)

    def _add(self, id: int, stream: Stream) -> None:
        self.last_stream = id
        self._streams[id] = stream

    def _pop(self, id: int) -> Stream | None:
        self._sendable.pop(id, None)
        self._ackable.pop(id, None)
        stream = self._streams.pop(id, None)
        if stream is not None:
            self.held -= stream.send.unacked
        return stream

    def _mark_sendable(self, id: int, stream: Stream) -> None:
        if stream.send.is_sendable:
            self._sendable.setdefault(id)

    def _mark_ackable(self, id: int, stream: Stream) -> None:
        if stream.recv.is_report_due:
            self._ackable.setdefault(id)

    def _forget_if_complete(self, id: int, stream: Stream) -> None:
        if stream.send.is_complete and stream.recv.is_reported:
            self._pop(id)
