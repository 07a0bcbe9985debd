"""The SCTP association of one data channel: it holds the peer to its limits, half of
its packets back, and its tasks to none per message.

aiortc (1.16) advertises a window of 1 MiB and then takes whatever comes, on any of
65,535 streams: an admitted peer could fill the memory with messages it never ends. It
acknowledges each packet with a packet, which costs as much as the token in it; here
two full ones are, or after 20 ms, or along with DATA of our own (RFC 9260 §6.2). And it
starts a task for each message sent and an event for each received; here both are
plain calls. What is rare (losses, the handshake, the end) is upstream's.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiortc import RTCSctpTransport
from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    USERDATA_MAX_LENGTH,
    WEBRTC_BINARY,
    Chunk,
    DataChunk,
    SackChunk,
)
from google_crc32c import value as crc32c

from meshllm.now import run_now
from meshllm.protocol.description import SCTP_PORT
from meshllm.transport.dtls import Dtls

CHANNEL_ID = 0
# Chunks behind a lost one wait for it. An honest peer has 256 KiB of frames under way
# (docs/protocol.md §7), each in a chunk of its own when they are small.
WAITING_CHUNKS = 8_192
# Bytes: two full packets, as TCP counts. Tokens are small, and a SACK for each second
# of them would wake their sender for nothing; its window counts bytes too.
SACK_EVERY = 2 * USERDATA_MAX_LENGTH
SACK_DELAY_S = 0.02  # RFC 9260 allows 0.5 s; the peer's retransmission waits for 1 s
WHOLE = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG
HEADER = 12  # bytes: ports, tag, checksum
SMALLEST = HEADER + 16  # a SACK
USUAL: Mapping[int, type[DataChunk] | type[SackChunk]] = {
    DataChunk.type: DataChunk,
    SackChunk.type: SackChunk,
}
# Seconds. RFC 9260 §16 says 1 and 1; upstream begins with 3, so that one lost HELLO was
# the end of a path. A peer's SACK may be 0.2 s late (usrsctp).
RTO_INITIAL_S = 0.7
RTO_MIN_S = 0.4
RTO_MAX_S = 10.0
BURST = 4  # packets; upstream's, against loss in the queues on the way
RECOVERY_BURST = 2

_HEADER = struct.Struct("!HHL")
_CHUNK = struct.Struct("!BBH")
_CRC = struct.Struct("<L")


def _checksum(header: bytes, chunks: bytes) -> bytes:
    """CRC32c with zeros in its own place, RFC 9260 §6.8."""
    return _CRC.pack(crc32c(header + b"\x00\x00\x00\x00" + chunks))


class _Fragment(DataChunk):
    """A piece of a message, with what upstream notes of each as it begins."""

    _abandoned = False
    _acked = False
    _expiry = None
    _in_flight = False
    _max_retransmits = None
    _misses = 0
    _retransmit = False
    _sent_count = 0
    _sent_time = None

    def __init__(self, tsn: int, stream_seq: int, flags: int, user_data: bytes) -> None:
        self.flags = flags
        self.tsn = tsn
        self.stream_id = CHANNEL_ID
        self.stream_seq = stream_seq
        self.protocol = WEBRTC_BINARY
        self.user_data = user_data
        self._book_size = len(user_data)


class Association(RTCSctpTransport):
    """`on_message` gets each message; `on_low` is called when nothing is `buffered` any
    more; `on_abuse` is called with what the peer did: its chunk is not taken."""

    def __init__(self, dtls: Dtls) -> None:
        super().__init__(dtls, SCTP_PORT)
        self._dtls = dtls
        dtls.on_data = self.take
        self.on_message: Callable[[bytes], None] = lambda message: None
        self.on_low: Callable[[], None] = lambda: None
        self.on_abuse: Callable[[str], None] = lambda reason: None
        self.buffered = 0  # bytes of messages that SCTP has not taken yet
        self._rto = RTO_INITIAL_S
        self._held: deque[bytes] = deque()
        self._may_retransmit = False
        self._own_tag = self._local_verification_tag.to_bytes(4, "big")
        self._unacknowledged = 0  # bytes
        self._timers = asyncio.get_running_loop()
        self._sack_timer: asyncio.TimerHandle | None = None
        self._sack_soon: asyncio.Handle | None = None

    async def stop(self) -> None:
        self._forget_sack()
        await super().stop()

    # Sending

    def send(self, message: bytes) -> None:
        """Now, or when what was sent before has left. Lost when there is no path."""
        self._held.append(message)
        self.buffered += len(message)
        self._fill()
        if self._outbound_queue:
            try:
                if self._is_usual:
                    self._transmit_new()
                else:
                    run_now(self._transmit())
            except ConnectionError:
                pass  # the path's end is told by who sees it

    def _fill(self) -> bool:
        """One message at a time. True when that was the last that waited."""
        if not self._held or self._outbound_queue:
            return False
        if self._association_state is not self.State.ESTABLISHED:
            return False
        message = self._held.popleft()
        self.buffered -= len(message)
        sequence = self._outbound_stream_seq.get(CHANNEL_ID, 0)
        self._outbound_stream_seq[CHANNEL_ID] = (sequence + 1) & 0xFFFF
        flags = SCTP_DATA_FIRST_FRAG
        for at in range(0, len(message), USERDATA_MAX_LENGTH):
            end = at + USERDATA_MAX_LENGTH
            if end >= len(message):
                flags |= SCTP_DATA_LAST_FRAG
            self._outbound_queue.append(
                _Fragment(self._local_tsn, sequence, flags, message[at:end])
            )
            self._local_tsn = (self._local_tsn + 1) & 0xFFFFFFFF
            flags = 0
        return not self._held

    async def _data_channel_flush(self) -> None:
        """Called by upstream when the peer has acknowledged something."""
        if self._fill():
            self.on_low()
        if self._data_channel_queue or self._reconfig_queue:
            await super()._data_channel_flush()

    async def _transmit(self) -> None:
        """Upstream looks through all that was sent for what is to be sent again."""
        if self._is_usual:
            self._transmit_new()
        else:
            await super()._transmit()
            self._may_retransmit = any(c._retransmit for c in self._sent_queue)

    @property
    def _is_usual(self) -> bool:
        return not self._may_retransmit and self._forward_tsn_chunk is None

    def _transmit_new(self) -> None:
        recovers_until: object = (
            self._fast_recovery_exit
        )  # which upstream types as None
        burst = BURST if recovers_until is None else RECOVERY_BURST
        window = min(self._flight_size + burst * USERDATA_MAX_LENGTH, self._cwnd)
        now = time.time()
        if self._outbound_queue and self._t3_handle is None:
            self._t3_start()
        while self._outbound_queue and self._flight_size < window:
            chunk = self._outbound_queue.popleft()
            self._sent_queue.append(chunk)
            self._flight_size_increase(chunk)
            chunk._sent_count += 1
            chunk._sent_time = now
            self._send_now(chunk)

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        self._may_retransmit = self._may_retransmit or bool(chunk.gaps)
        await super()._receive_sack_chunk(chunk)

    def _update_rto(self, R: float) -> None:
        super()._update_rto(R)
        assert self._srtt is not None
        assert self._rttvar is not None
        measured = self._srtt + 4 * self._rttvar
        self._rto = min(max(RTO_MIN_S, measured), RTO_MAX_S)

    def _t3_expired(self) -> None:
        self._may_retransmit = True
        super()._t3_expired()

    # Receiving

    def take(self, packet: bytes) -> None:
        """A packet, as DTLS gives it out."""
        chunks = self._read(packet)
        if chunks is None:
            run_now(self._handle_data(packet))
            return
        for chunk in chunks:  # first what somebody waits for
            if isinstance(chunk, DataChunk) and not self._take(chunk):
                run_now(super()._receive_data_chunk(chunk))
        for chunk in chunks:
            if isinstance(chunk, SackChunk):
                run_now(self._receive_sack_chunk(chunk))
        if self._sack_needed:
            if self._has_gaps:
                run_now(self._send_sack())
            else:
                self._plan_sack()

    def _read(self, packet: bytes) -> list[DataChunk | SackChunk] | None:
        """What nearly all packets hold. None: upstream must look at this one."""
        end = len(packet)
        if end < SMALLEST or packet[4:8] != self._own_tag:
            return None
        if packet[8:12] != _checksum(packet[:8], packet[12:]):
            return None
        chunks: list[DataChunk | SackChunk] = []
        at = HEADER
        while at < end:
            kind, flags, size = _CHUNK.unpack_from(packet, at)
            make = USUAL.get(kind)
            if make is None or size < SMALLEST - HEADER or at + size > end:
                return None
            chunks.append(make(flags, packet[at + _CHUNK.size : at + size]))
            at += size + -size % 4
            if end - at < _CHUNK.size:
                break
        return chunks

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        if not self._take(chunk):
            await super()._receive_data_chunk(chunk)

    def _take(self, chunk: DataChunk) -> bool:
        """False: upstream must sort it in."""
        stream = self._get_inbound_stream(CHANNEL_ID)
        if chunk.stream_id != CHANNEL_ID:
            self.on_abuse("the peer opened another channel")
        elif chunk.protocol != WEBRTC_BINARY or not chunk.user_data:
            self.on_abuse("the peer sent what is no message of ours")
        elif self._advertised_rwnd < 0 or len(stream.reassembly) > WAITING_CHUNKS:
            self.on_abuse("the peer sent more than its window allows")
        else:
            self._unacknowledged += len(chunk.user_data)
            return self._take_next(chunk)
        return True

    def _take_next(self, chunk: DataChunk) -> bool:
        """The next chunk of all, as nearly always, needs no sorting in.

        False: upstream must see to it.
        """
        last = self._last_received_tsn
        if (
            last is None
            or chunk.tsn != (last + 1) & 0xFFFFFFFF
            or self._has_gaps
            or self._reconfig_deferred is not None
        ):
            return False
        stream = self._get_inbound_stream(CHANNEL_ID)
        if stream.reassembly and not chunk.flags:
            # In the middle of a message: upstream would look through all of it.
            stream.reassembly.append(chunk)
            self._advertised_rwnd -= len(chunk.user_data)
        elif (
            not stream.reassembly
            and chunk.flags == WHOLE
            and chunk.stream_seq == stream.sequence_number
        ):
            stream.sequence_number = (stream.sequence_number + 1) & 0xFFFF
            self.on_message(chunk.user_data)
        else:
            return False
        self._last_received_tsn = chunk.tsn
        self._sack_needed = True
        return True

    async def _data_channel_receive(
        self, stream_id: int, pp_id: int, data: bytes
    ) -> None:
        self.on_message(data)

    # Acknowledging

    async def _send_sack(self) -> None:
        """At once when something is missing or came twice: the peer must know."""
        if self._has_gaps:
            self._forget_sack()
            await super()._send_sack()
        else:
            self._plan_sack()

    def _plan_sack(self) -> None:
        self._sack_needed = False
        if self._unacknowledged >= SACK_EVERY:
            # At the end of this turn: an answer made in it takes the SACK along.
            if self._sack_soon is None:
                self._sack_soon = self._timers.call_soon(self._on_sack_time)
        elif self._sack_timer is None:
            after = self._timers.call_later(SACK_DELAY_S, self._on_sack_time)
            self._sack_timer = after

    async def _send_chunk(self, chunk: Chunk) -> None:
        self._send_now(chunk)

    def _send_now(self, chunk: Chunk) -> None:
        """In a packet, along with the SACK that is due if it is DATA."""
        data = bytes(chunk)
        if self._unacknowledged and isinstance(chunk, DataChunk):
            self._forget_sack()
            sack = SackChunk()
            sack.cumulative_tsn = self._last_received_tsn
            sack.advertised_rwnd = max(0, self._advertised_rwnd)
            data = bytes(sack) + data  # 16 bytes: nothing to align
        ports = self._local_port, self._remote_port
        header = _HEADER.pack(*ports, self._remote_verification_tag)
        self._dtls.send(header + _checksum(header, data) + data)

    @property
    def _has_gaps(self) -> bool:
        return bool(self._sack_misordered or self._sack_duplicates)

    def _on_sack_time(self) -> None:
        self._forget_sack()
        with suppress(ConnectionError):  # the path's end is told by those who see it
            run_now(super()._send_sack())

    def _forget_sack(self) -> None:
        self._unacknowledged = 0
        for handle in (self._sack_timer, self._sack_soon):
            if handle is not None:
                handle.cancel()
        self._sack_timer = self._sack_soon = None
