"""The SCTP association of one data channel: it holds the peer to its limits, and half
of its packets back.

aiortc (1.16) advertises a window of 1 MiB and then takes whatever comes, on any of
65,535 streams: an admitted peer could fill the memory with messages it never ends. And
it acknowledges each packet with a packet, which costs as much as the token in it; here
every second one is, or after 20 ms, or along with DATA of our own (RFC 9260 §6.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiortc import RTCDtlsTransport, RTCSctpTransport
from aiortc.rtcsctptransport import WEBRTC_BINARY, Chunk, DataChunk, SackChunk

from meshllm.protocol.description import SCTP_PORT

CHANNEL_ID = 0
# Chunks behind a lost one wait for it. An honest peer has 256 KiB of frames under way
# (docs/protocol.md §7), each in a chunk of its own when they are small.
WAITING_CHUNKS = 8_192
SACK_EVERY = 2
SACK_DELAY_S = 0.02  # RFC 9260 allows 0.5 s; the peer's retransmission waits for 1 s


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Two chunks in one packet; the first one's length is a multiple of four."""

    first: Chunk
    second: Chunk

    def __bytes__(self) -> bytes:
        return bytes(self.first) + bytes(self.second)


class Association(RTCSctpTransport):
    """`on_abuse` is called with what the peer did; its chunk is not taken."""

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__(transport, SCTP_PORT)
        self.on_abuse: Callable[[str], None] = lambda reason: None
        self._unacknowledged = 0
        self._sack_timer: asyncio.TimerHandle | None = None
        self._late_sack: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        self._forget_sack()
        if self._late_sack is not None:
            await asyncio.wait([self._late_sack])
        await super().stop()

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        stream = self._get_inbound_stream(CHANNEL_ID)
        if chunk.stream_id != CHANNEL_ID:
            self.on_abuse("the peer opened another channel")
        elif chunk.protocol != WEBRTC_BINARY or not chunk.user_data:
            self.on_abuse("the peer sent what is no message of ours")
        elif self._advertised_rwnd < 0 or len(stream.reassembly) > WAITING_CHUNKS:
            self.on_abuse("the peer sent more than its window allows")
        else:
            self._unacknowledged += 1
            await super()._receive_data_chunk(chunk)

    async def _send_sack(self) -> None:
        """At once when something is missing or came twice: the peer must know."""
        if self._has_gaps or self._unacknowledged >= SACK_EVERY:
            self._forget_sack()
            await super()._send_sack()
            return
        self._sack_needed = False
        if self._sack_timer is None:
            loop = asyncio.get_running_loop()
            self._sack_timer = loop.call_later(SACK_DELAY_S, self._on_sack_time)

    async def _send_chunk(self, chunk: Chunk) -> None:
        if self._sack_timer is None or not isinstance(chunk, DataChunk):
            await super()._send_chunk(chunk)
            return
        self._forget_sack()
        sack = SackChunk()
        sack.cumulative_tsn = self._last_received_tsn
        sack.advertised_rwnd = max(0, self._advertised_rwnd)
        # Of what goes into a packet nothing but its bytes is used.
        await super()._send_chunk(cast(Chunk, _Bundle(sack, chunk)))

    @property
    def _has_gaps(self) -> bool:
        return bool(self._sack_misordered or self._sack_duplicates)

    def _on_sack_time(self) -> None:
        self._forget_sack()
        self._late_sack = asyncio.ensure_future(super()._send_sack())

    def _forget_sack(self) -> None:
        self._unacknowledged = 0
        if self._sack_timer is not None:
            self._sack_timer.cancel()
            self._sack_timer = None
