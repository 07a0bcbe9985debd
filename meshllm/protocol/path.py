"""One path of a session: HELLO first, the path window, liveness, whole messages.

Pure: bytes in and time in, frames and bytes out. docs/protocol.md §5, §6.2, §6.3.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from meshllm.errors import RemoteProtocolError
from meshllm.protocol.frames import (
    ACK_SIZE,
    DATA_OVERHEAD,
    HELLO_SIZE,
    MESSAGE_MAX,
    Ack,
    Data,
    Frame,
    Hello,
    Info,
    Open,
    Pad,
    PathAck,
    Ping,
    Pong,
    Resume,
    decode,
    encode,
    encode_data,
)

WINDOW = 262_144  # more than a default UDP receive buffer holds is lost, then stalls
WINDOW_STEP = 32_768
HELLO_S = 3.0
PING_S = 2.0  # also while much comes in: the provider judges by what it hears
SILENT_S = 4.0  # the client then tries another path
DETACH_S = 30.0  # the provider gives the path up: background tabs sleep that long
PAD_S = 0.010
PADS = 3  # after FIN: a lost last packet else waits SCTP's 1 s minimum timeout
CONTROL_PER_S = 1_000
CONTROL_HELD_MAX = 262_144  # answers to a peer that asks on and on but never reads


class PathState(Enum):
    HELLO = "hello"
    STANDBY = "standby"
    ACTIVE = "active"
    CLOSED = "closed"


class Source(Protocol):
    """What fills messages: the streams, from READY on."""

    @property
    def has_data(self) -> bool: ...
    def take_ack(self) -> Ack | None: ...
    def take_data(self, room: int) -> Data | None: ...


class Path:
    """`verify` raises when the peer's HELLO does not hold."""

    def __init__(
        self, hello: Hello, verify: Callable[[Hello], None], *, is_client: bool
    ) -> None:
        self.state = PathState.HELLO
        self.source: Source | None = None
        self.rtt_s: float | None = None
        self._verify = verify
        self._is_client = is_client
        self._control: deque[bytes] = deque([encode(hello)])
        self._control_size = 0
        self._alone = True  # HELLO travels in a message of its own
        self._sent = self._acked = 0  # bytes of DATA frames
        self._received = self._reported = 0
        self._heard_at: float | None = None
        self._started_at: float | None = None
        self._ping_id = 0
        self._ping_at: float | None = None
        self._pads_left = 0
        self._pad_at = 0.0
        self._rate_at, self._rate = 0.0, 0

    def receive(self, message: bytes, now: float) -> list[Frame]:
        """Frames for the session; those of the path itself are dealt with here.

        RemoteProtocolError, or what `verify` raises: the path must be closed.
        """
        if self.state is PathState.CLOSED:
            return []  # fenced: a newer path has taken over
        self._heard_at = now
        if self.state is PathState.HELLO:
            self._on_hello(message, now)
            return []
        out: list[Frame] = []
        for frame in decode(message):
            match frame:
                case Data():
                    self._received += DATA_OVERHEAD + len(frame.payload)
                    out.append(frame)
                case Ack() | Info():
                    out.append(frame)
                case PathAck(rx):
                    self._on_path_ack(rx)
                case _:
                    self._count_control(now)
                    if not self._on_control(frame, now):
                        out.append(frame)
        if self._received - self._reported >= WINDOW_STEP:
            self._reported = self._received
            self.queue(PathAck(self._received))
        if self._control_size > CONTROL_HELD_MAX:
            raise RemoteProtocolError("a peer that asks on but does not read")
        if out and self.state is PathState.STANDBY:
            self._check_first(out[0])
        return out

    def queue(self, frame: Frame) -> None:
        """A control frame, sent before any DATA and outside the window."""
        self._control.append(encode(frame))
        self._control_size += len(self._control[-1])

    @property
    def is_due(self) -> bool:
        """Something waits that is not only an ACK, which may wait for company."""
        if self._control:
            return True
        return self.source is not None and self.source.has_data

    def next_message(self, now: float) -> bytes | None:
        """The next message to send, or None when there is nothing or no window."""
        if self._started_at is None:
            self._started_at = now
        if self.state is PathState.CLOSED:
            return None
        parts: list[bytes] = []
        room = self._take_queued(parts, MESSAGE_MAX)
        # While a queued frame waits for the next message nothing may overtake it:
        # READY, above all, comes before the first DATA.
        if self.source is not None and not self._control:
            room = self._take_acks(self.source, parts, room)
            self._take_data(self.source, parts, room, now)
        if not parts and self._pads_left and now >= self._pad_at:
            self._pads_left -= 1
            self._pad_at = now + PAD_S
            parts.append(encode(Pad()))
        return b"".join(parts) or None

    def on_time(self, now: float) -> None:
        """Queues the PING of the client that is due every 2 s."""
        due = self._ping_due()
        if due is not None and now >= due:
            self._ping(now)

    def next_time(self) -> float | None:
        """When `on_time` or `next_message` has something to do by itself."""
        due = self._ping_due()
        if self._pads_left and (due is None or self._pad_at < due):
            return self._pad_at
        return due

    def silence_s(self, now: float) -> float:
        since = self._heard_at if self._heard_at is not None else self._started_at
        return 0.0 if since is None else now - since

    def is_hello_late(self, now: float) -> bool:
        return self.state is PathState.HELLO and self.silence_s(now) >= HELLO_S

    @property
    def window(self) -> int:
        """Bytes of DATA frames that may be sent now."""
        return WINDOW - (self._sent - self._acked)

    def _ping_due(self) -> float | None:
        if self._ping_at is None or self.state is PathState.CLOSED:
            return None
        return self._ping_at + PING_S

    def _ping(self, now: float) -> None:
        self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
        self._ping_at = now
        self.queue(Ping(self._ping_id))

    def _on_hello(self, message: bytes, now: float) -> None:
        frames = decode(message) if len(message) == HELLO_SIZE else []
        match frames:
            case [Hello() as hello]:
                self._verify(hello)
            case _:
                raise RemoteProtocolError("the first message is not one HELLO")
        self.state = PathState.STANDBY
        if self._is_client:
            self._ping(now)  # its round trip is how paths and providers compare

    def _check_first(self, frame: Frame) -> None:
        if self._is_client or not isinstance(frame, Open | Resume):
            raise RemoteProtocolError("a path that carries no session yet")

    def _on_control(self, frame: Frame, now: float) -> bool:
        match frame:
            case Hello():
                raise RemoteProtocolError("a second HELLO")
            case Ping(id):
                self.queue(Pong(id))
            case Pong(id):
                if id == self._ping_id and self._ping_at is not None:
                    self.rtt_s = now - self._ping_at
            case Pad():
                pass
            case _:
                return False
        return True

    def _on_path_ack(self, rx: int) -> None:
        if rx > self._sent:
            raise RemoteProtocolError("PATHACK beyond what was sent")
        self._acked = max(self._acked, rx)

    def _count_control(self, now: float) -> None:
        if now - self._rate_at >= 1.0:
            self._rate_at, self._rate = now, 0
        self._rate += 1
        if self._rate > CONTROL_PER_S:
            raise RemoteProtocolError("more than 1,000 control frames in a second")

    def _take_queued(self, parts: list[bytes], room: int) -> int:
        while self._control and len(self._control[0]) <= room:
            parts.append(self._control.popleft())
            self._control_size -= len(parts[-1])
            room -= len(parts[-1])
            if self._alone:  # nothing but HELLO in the first message
                self._alone = False
                return 0
        return room

    def _take_acks(self, source: Source, parts: list[bytes], room: int) -> int:
        """They are small and let the peer go on: outside the window."""
        while room >= ACK_SIZE and (frame := source.take_ack()) is not None:
            parts.append(encode(frame))
            room -= len(parts[-1])
        return room

    def _take_data(
        self, source: Source, parts: list[bytes], room: int, now: float
    ) -> None:
        has_data = has_fin = False
        while (payload := min(room, self.window) - DATA_OVERHEAD) > 0:
            frame = source.take_data(payload)
            if frame is None:
                break
            parts.append(encode_data(frame))
            room -= len(parts[-1])
            self._sent += len(parts[-1])
            has_data, has_fin = True, has_fin or frame.fin
        if has_data:  # a later message repairs the loss of an earlier one
            self._pads_left, self._pad_at = (PADS if has_fin else 0), now + PAD_S
