"""The two halves of a stream: bytes to send and bytes received, by offset.

Everything here is absolute and monotone (docs/protocol.md §6.1), so a repeated or late
frame changes nothing. FIN takes one offset: n bytes are complete at n + 1.
"""

from __future__ import annotations

from meshllm.errors import LocalProtocolError, RemoteProtocolError
from meshllm.protocol.frames import DATA_MAX, OFFSET_MAX, Ack, Data

INITIAL_CREDIT = 65_536  # before the reader has said anything
CREDIT = 262_144  # beyond what it consumed; more overflows UDP buffers on a fast link
CREDIT_STEP = 32_768  # an ACK a step: 8 in a full window
UNSENT_MAX = 65_536  # a writer pauses here: what is not yet sent is only delay
REPLAY_MAX = 1 << 20  # what a writer may run ahead of `ack` while no path is there


class SendHalf:
    """Bytes written here, kept until the peer acknowledged them."""

    __slots__ = (
        "_buffer",
        "acked",
        "end",
        "fin",
        "is_announced",
        "limit",
        "next",
        "stream",
    )

    def __init__(self, stream: int, *, is_announced: bool) -> None:
        self.stream = stream
        self._buffer = bytearray()  # from `acked` on
        self.acked = 0
        self.next = 0  # first offset not sent on the present path
        self.end = 0  # first offset not written
        self.fin = False
        self.limit = INITIAL_CREDIT
        # The peer may know of this stream. Else its first frame is due, if need be an
        # empty one: the peer takes a skipped id for one that will never come.
        self.is_announced = is_announced

    def write(self, data: bytes) -> None:
        if self.fin:
            raise LocalProtocolError("a write after FIN")
        if self.end + len(data) >= OFFSET_MAX:
            raise LocalProtocolError("a stream of 2^48 bytes")
        self._buffer += data
        self.end += len(data)

    def finish(self) -> None:
        self.fin = True

    @property
    def unacked(self) -> int:
        """Bytes held for replay."""
        return len(self._buffer)

    @property
    def is_complete(self) -> bool:
        return self.fin and self.acked > self.end

    @property
    def is_sendable(self) -> bool:
        if self.next < self.end:
            return self.next < self.limit
        return not self.is_announced or (self.fin and self.next == self.end)

    @property
    def is_blocked(self) -> bool:
        """Bytes wait and only the reader's credit is missing."""
        return self.limit <= self.next < self.end

    def take(self, room: int) -> Data | None:
        """The next DATA frame with at most `room` (>= 1) bytes of payload."""
        if not self.is_sendable:
            return None
        off = self.next
        size = min(self.end - off, self.limit - off, room, DATA_MAX)
        if size <= 0:
            size = 0  # FIN needs no credit
        start = off - self.acked
        payload = bytes(memoryview(self._buffer)[start : start + size])
        last = self.fin and off + size == self.end
        frame = Data(self.stream, off, last, payload)
        self.next = off + size + last
        self.is_announced = True
        return frame

    def on_ack(self, ack: int, limit: int) -> None:
        """RemoteProtocolError for an acknowledgement of what was never sent."""
        if ack > self.next:
            raise RemoteProtocolError(f"stream {self.stream}: ack beyond what was sent")
        self.limit = max(self.limit, limit)
        if ack > self.acked:
            del self._buffer[: ack - self.acked]  # FIN's offset holds no byte
            self.acked = ack

    def can_rewind(self, rx: int) -> bool:
        return self.acked <= rx <= self.end + self.fin

    def rewind(self, rx: int, limit: int) -> None:
        """A new path: continue from what the peer received on the former ones."""
        self.limit = max(self.limit, limit)
        self.next = rx


class RecvHalf:
    """Bytes received here, in order; what the reader consumed grants credit."""

    __slots__ = ("_reported", "consumed", "max", "rx", "size", "stream")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.rx = 0  # contiguous bytes received, and one more for FIN
        self.size: int | None = None
        self.max = INITIAL_CREDIT
        self.consumed = 0
        self._reported = (0, INITIAL_CREDIT)

    def on_data(self, frame: Data) -> bytes:
        """What is new in the frame. RemoteProtocolError: a gap, or beyond credit."""
        end = frame.off + len(frame.payload)
        received = self.rx if self.size is None else self.size
        if frame.off > received:
            raise RemoteProtocolError(f"stream {self.stream}: a gap at {received}")
        if end > self.max:
            raise RemoteProtocolError(f"stream {self.stream}: beyond its credit")
        if self.size is not None:
            if end > self.size or (frame.fin and end != self.size):
                raise RemoteProtocolError(f"stream {self.stream}: bytes after FIN")
            return b""
        if frame.fin and end < received:
            raise RemoteProtocolError(f"stream {self.stream}: FIN before its bytes")
        fresh = frame.payload[received - frame.off :]
        if end > received:
            self.rx = end
        if frame.fin:
            self.size = self.rx
            self.rx += 1
        return fresh

    def consume(self, count: int) -> None:
        """The reader took `count` bytes and can survive without us."""
        received = self.rx if self.size is None else self.size
        if self.consumed + count > received:
            raise LocalProtocolError("consumed more than was received")
        self.consumed += count
        if self.consumed:
            self.max = min(self.consumed + CREDIT, OFFSET_MAX)

    @property
    def ack(self) -> int:
        """Everything consumed; with FIN once nothing is left before it."""
        return self.consumed + (self.consumed == self.size)

    @property
    def is_complete(self) -> bool:
        return self.size is not None and self.consumed == self.size

    @property
    def is_report_due(self) -> bool:
        ack, limit = self._reported
        if self.consumed == self.size:
            return ack <= self.consumed
        return self.max - limit >= CREDIT_STEP or self.consumed - ack >= CREDIT_STEP

    @property
    def is_reported(self) -> bool:
        """The peer was told, on the present path, that all has arrived."""
        return self.is_complete and self._reported[0] == self.ack

    def report(self) -> Ack:
        self._reported = (self.ack, self.max)
        return Ack(self.stream, self.ack, self.max)

    def on_new_path(self) -> None:
        """Reports may have been lost with the old one."""
        self._reported = (-1, self._reported[1])


class Stream:
    """Both halves, as one side sees them."""

    __slots__ = ("blocked_at", "recv", "send")

    def __init__(self, id: int, *, is_announced: bool) -> None:
        self.send = SendHalf(id, is_announced=is_announced)
        self.recv = RecvHalf(id)
        self.blocked_at: float | None = None  # waits for the reader's credit since

    @property
    def is_done(self) -> bool:
        """Written and received to the end: whoever uses it waits for nothing more."""
        return self.send.fin and self.recv.size is not None

    @property
    def is_complete(self) -> bool:
        """Acknowledged by the peer and consumed here: only our last ACK may be due."""
        return self.send.is_complete and self.recv.is_complete
