"""A link: one session at work, with asyncio streams for those who ask and answer.

The pure `Session` decides; a link feeds it frames, time and paths, and turns its events
into waiting readers and writers. It lives as long as the session, over any number of
wires.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from meshllm.errors import Code, MeshError, NotAllowed, PeerUnreachable, StreamReset
from meshllm.pour import Source
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
from meshllm.protocol.frames import Frame
from meshllm.protocol.path import SILENT_S
from meshllm.protocol.session import Session, SessionState
from meshllm.transport.wire import Wire

log = logging.getLogger(__name__)

TICK_S = 1.0  # slow readers and detached sessions are judged in whole seconds
READY_S = 3.0
NO_PATH: Final[dict[str, Any]] = dict.fromkeys(
    ("path", "candidates", "relay", "rtt_ms", "since")
)


class Stream(Source):
    """One exchange. Bytes count as consumed when the next ones are asked for."""

    def __init__(self, link: Link, id: int) -> None:
        self.id = id
        self.has_written = False  # anything: the peer may have seen a first byte
        self.on_info: Callable[[bytes], None] = lambda json: None
        self.on_end: Callable[[], None] | None = None  # it was reset, by either side
        self._link = link
        self._chunks: deque[bytes] = deque()
        self._has_fin = False
        self._handed_out = 0
        self._error: StreamReset | None = None
        # One waits at a time, and for one turn: an asyncio.Event costs twice as much.
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """The next bytes, b"" after the last. StreamReset when the peer ended it."""
        if self._handed_out:
            self.consume()
        chunks = self._chunks
        while not chunks:
            if self._has_fin:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        data = b"".join(chunks) if len(chunks) > 1 else chunks[0]
        chunks.clear()
        self._handed_out = len(data)
        return data

    def consume(self) -> None:
        """What `read` gave last is safe with the reader: acknowledge it."""
        if self._handed_out:
            count, self._handed_out = self._handed_out, 0
            is_urgent = self._link.session.mux.consume(self.id, count)
            if is_urgent:
                self._link.wake()
            elif is_urgent is not None:
                self._link.wake_later()

    def write(self, data: bytes) -> None:
        """Queue bytes. Await `drain` between writes or memory has no bound."""
        self.has_written = True
        self._link.session.mux.write(self.id, data)
        self._link.wake(len(data))

    @property
    def can_write(self) -> bool:
        """False: `drain` first. True for an ended stream, where `drain` raises."""
        return self._error is not None or self._link.session.mux.can_write(self.id)

    async def drain(self) -> None:
        """Until more may be written. StreamReset when the peer ended the stream."""
        while not self.can_write:
            self._writer = self._link.loop.create_future()
            await self._writer
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        self._link.session.mux.finish(self.id)
        self._link.wake()

    def inform(self, json: bytes) -> None:
        self._link.session.inform(self.id, json)
        self._link.wake()

    def reset(self, code: Code, text: str, *, retryable: bool = False) -> None:
        """End it both ways, now. Nothing happens when it has ended."""
        mux = self._link.session.mux
        is_said = self.is_open and not mux.is_complete(self.id)
        mux.reset(self.id, code, text, retryable=retryable)
        self._end(StreamReset(code, text, retryable=retryable))
        self._link.forget(self)
        if is_said:
            self._link.wake()

    @property
    def is_open(self) -> bool:
        return self.id in self._link.session.mux

    def _feed(self, data: bytes, fin: bool) -> None:
        self._has_fin = self._has_fin or fin
        sink = self._sink
        if sink is None or self._chunks:
            if data:
                self._chunks.append(data)
        elif data:
            sink.write(data)
            self._handed_out += len(data)
            if not sink.is_full:
                self.consume()
                if not fin:
                    return
        _wake(self._reader)

    async def _wait(self) -> None:
        self._reader = self._link.loop.create_future()
        await self._reader

    async def _woken(self) -> None:
        self.consume()
        if not self._has_fin and self._error is None:
            await self._wait()

    def _end(self, error: StreamReset) -> None:
        _wake(self._reader)
        _wake(self._writer)
        if self._error is None:
            self._error = error
            if self.on_end is not None:
                self.on_end()

    def _resume_writing(self) -> None:
        _wake(self._writer)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Link:
    """Callbacks: a new stream (provider), a path stalled, or lost, the session over."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.on_stream: Callable[[Stream], None] = lambda stream: None
        self.on_detached: Callable[[str], None] = lambda reason: None
        self.on_stalled: Callable[[], None] = lambda: None
        self.on_going_away: Callable[[], None] = lambda: None
        self.on_closed: Callable[[Code, str], None] = lambda code, text: None
        self.wire: Wire | None = None
        self._taken_at = 0.0
        self._streams: dict[int, Stream] = {}
        self.loop = asyncio.get_running_loop()
        self._active = asyncio.Event()
        self._may_open = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._ended_by: SessionClosed | None = None
        self._tick = self.loop.call_later(TICK_S, self._on_tick)

    # Paths

    async def start(self, wire: Wire) -> None:
        """Client: OPEN, or RESUME when the session has run before, on a proven wire.

        Returns at READY; PeerUnreachable when it does not come within 3 s, NotAllowed
        when the provider will not.
        """
        if wire.is_closed:
            raise PeerUnreachable("The path was lost before the session began.")
        self.take(wire)
        if self.session.state is SessionState.NEW:
            self.session.open_on(wire.path)
        else:
            self.session.resume_on(wire.path)
        self._active.clear()
        wire.wake()
        try:
            async with asyncio.timeout(READY_S):
                await self._active.wait()
        except TimeoutError:
            wire.close("no READY in time")
            raise PeerUnreachable("The provider did not answer OPEN in time.") from None
        if self._ended_by is not None:
            raise NotAllowed(self._ended_by.text, self._ended_by.code)
        if not self.is_active:
            raise PeerUnreachable("The path was lost before the session began.")

    def take(self, wire: Wire) -> None:
        """This wire is the session's from now on."""
        former, self.wire = self.wire, wire
        if former is not wire:
            self._taken_at = time.time()
        wire.on_frames = self.on_frames
        wire.on_closed = self._on_wire_closed
        wire.on_sent = self._on_sent
        wire.on_stall = self._on_wire_stalled
        if former is not None and former is not wire:
            former.close("another path took over")

    def on_frames(self, wire: Wire, frames: list[Frame]) -> None:
        self._handle(self.session.receive(wire.path, frames))
        self._drop_complete()

    def wake(self, count: int = 0) -> None:
        if self.wire is not None:
            self.wire.wake(count)

    def wake_later(self) -> None:
        if self.wire is not None:
            self.wire.wake_later()

    # Streams

    async def open_stream(self) -> Stream:
        """Client: a new stream; waits while 64 are open. PeerUnreachable when over,
        StreamReset when the provider takes no more."""
        while not self.session.can_open:
            if self.session.state is SessionState.CLOSED:
                raise PeerUnreachable("The session with this provider has ended.")
            if self.session.is_going_away:
                text = "The provider is shutting down."
                raise StreamReset(Code.DRAINING, text, retryable=True)
            self._may_open.clear()
            await self._may_open.wait()
        stream = Stream(self, self.session.mux.open())
        self._streams[stream.id] = stream
        return stream

    def forget(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        self._may_open.set()

    def describe(self) -> dict[str, Any]:
        """For `meshllm peers`: the path as it is now, `since` it became ours. ICE may
        meanwhile have moved it from a relay to a direct pair."""
        if self.wire is None:
            return NO_PATH | {"streams": self.load}
        rtt = self.wire.path.rtt_s or self.wire.carrier.rtt_s
        kind = self.wire.carrier.kind
        return {
            "path": kind,
            "candidates": self.wire.carrier.candidates,
            "relay": kind == "relay",
            "rtt_ms": None if rtt is None else round(rtt * 1000, 1),
            "since": int(self._taken_at),
            "streams": self.load,
        }

    @property
    def is_active(self) -> bool:
        return self.session.state is SessionState.ACTIVE

    @property
    def is_closed(self) -> bool:
        return self.session.state is SessionState.CLOSED

    @property
    def load(self) -> int:
        """Streams open now."""
        return len(self._streams)

    @property
    def streams(self) -> list[Stream]:
        return list(self._streams.values())

    @property
    def silence_s(self) -> float:
        """How long nothing was heard on the path; 0 without one. A path that is
        stalled has been silent for long enough."""
        if self.wire is None:
            return 0.0
        silence_s = self.wire.path.silence_s(self.loop.time())
        return max(silence_s, SILENT_S) if self.wire.carrier.is_stalled else silence_s

    def go_away(self, code: Code, text: str) -> None:
        """Provider: finish what runs, take nothing new."""
        self.session.go_away(code, text)
        self.wake()

    async def idle(self) -> None:
        """Until no stream is open."""
        while self._streams and not self.is_closed:
            self._may_open.clear()
            await self._may_open.wait()

    def end(self, code: Code, text: str) -> None:
        """Close without waiting for it."""
        if self._ending is None:
            self._ending = self.loop.create_task(self.close(code, text))

    async def close(self, code: Code, text: str) -> None:
        """Say CLOSE, end every stream, let go of the wire."""
        wire = self.wire
        # Whoever reads or writes is told first: the session knows no stream any more.
        events = self.session.close(code, text)
        self._handle([e for e in events if not isinstance(e, SessionClosed)])
        if wire is not None:
            await wire.flush()
        self._handle([e for e in events if isinstance(e, SessionClosed)])
        if wire is not None:
            await wire.closed()

    # Inside

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Received(id, data, fin):
                    if stream := self._streams.get(id):
                        stream._feed(data, fin)
                case Writable(id):
                    if stream := self._streams.get(id):
                        stream._resume_writing()
                case Opened(id):
                    stream = self._streams[id] = Stream(self, id)
                    self.on_stream(stream)
                case StreamEnded(id, code, text, retryable):
                    if stream := self._streams.pop(id, None):
                        stream._end(StreamReset(code, text, retryable=retryable))
                    self._may_open.set()
                case Informed(id, json):
                    if stream := self._streams.get(id):
                        stream.on_info(json)
                case _:
                    self._handle_rare(event)

    def _handle_rare(self, event: Event) -> None:
        match event:
            case Activated():
                self._active.set()
            case GoingAway():
                self._may_open.set()
                self.on_going_away()
            case Signalled():
                log.debug("an envelope inside a path: not used yet")
            case SessionClosed(code, text):
                self._ended_by = event
                self._tick.cancel()
                self._active.set()
                self._may_open.set()
                if self.wire is not None:
                    self.wire.close(text)
                self.on_closed(code, text)

    def _on_sent(self) -> None:
        self._drop_complete()
        self._handle(self.session.mux.take_writable())

    def _drop_complete(self) -> None:
        """Streams that the session has forgotten because both sides are done."""
        if len(self._streams) <= len(self.session.mux):
            return
        for id in [id for id in self._streams if id not in self.session.mux]:
            del self._streams[id]
        self._may_open.set()

    def _on_wire_stalled(self) -> None:
        if self.wire is not None and self.wire.carrier.is_stalled:
            self.on_stalled()

    def _on_wire_closed(self, wire: Wire, reason: str) -> None:
        if wire is not self.wire:
            return
        self.wire = None
        if self.session.state is not SessionState.CLOSED:
            self.session.detach(wire.path, self.loop.time())
            self._active.set()
            self.on_detached(reason)

    def _on_tick(self) -> None:
        self._tick = self.loop.call_later(TICK_S, self._on_tick)
        try:
            self._handle(self.session.on_time(self.loop.time()))
            if self.wire is not None:
                self.wire.wake_if_due()
        except MeshError:
            log.exception("a session's timer failed")
