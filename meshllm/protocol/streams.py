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

    __slots__ = ("_buffer", "acked", "end", "fin", "limit", "next", "stream")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self._buffer = bytearray()  # from `acked` on
        self.acked = 0
        self.next = 0  # first offset not sent on the present path
        self.end = 0  # first offset not written
        self.fin = False
        self.limit = INITIAL_CREDIT

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
    def unsent(self) -> int:
        return max(0, self.end - self.next)

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
        return self.fin and self.next == self.end

    @property
    def is_blocked(self) -> bool:
        """Bytes wait and only the reader's credit is missing."""
        return self.limit <= self.next < self.end

    def take(self, room: int) -> Data | None:
        """The next DATA frame with at most `room` bytes of payload."""
        if not self.is_sendable:
            return None
        size = min(self.end - self.next, self.limit - self.next, room, DATA_MAX)
        size = max(0, size)
        start = self.next - self.acked
        payload = bytes(memoryview(self._buffer)[start : start + size])
        last = self.fin and self.next + size == self.end
        if not payload and not last:
            return None
        frame = Data(self.stream, self.next, last, payload)
        self.next += size + last
        return frame

    def on_ack(self, ack: int, limit: int) -> None:
        """RemoteProtocolError for an acknowledgement of what was never sent."""
        if ack > self.next:
            raise RemoteProtocolError(f"stream {self.stream}: ack beyond what was sent")
        self.limit = max(self.limit, limit)
        if ack > self.acked:
            del self._buffer[: min(ack, self.end) - self.acked]
            self.acked = ack

    def rewind(self, rx: int, limit: int) -> None:
        """A new path: continue from what the peer received on the former ones."""
        if not self.acked <= rx <= self.end + self.fin:
            raise RemoteProtocolError(f"stream {self.stream}: cannot resume at {rx}")
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
        self.rx = max(received, end)
        if frame.fin:
            self.size = self.rx
            self.rx += 1
        return fresh

    def consume(self, count: int) -> None:
        """The reader took `count` bytes and can survive without us."""
        self.consumed += count
        received = self.rx if self.size is None else self.size
        if self.consumed > received:
            raise LocalProtocolError("consumed more than was received")
        self.max = self.consumed + CREDIT if self.consumed else self.max

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
        if self.is_complete:
            return ack < self.ack
        return self.max - limit >= CREDIT_STEP or self.ack - ack >= CREDIT_STEP

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
