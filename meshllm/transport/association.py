"""The SCTP association of one data channel, which holds the peer to its limits.

aiortc (1.16) advertises a window of 1 MiB and then takes whatever comes, on any of
65,535 streams. An admitted peer could fill the memory with messages it never ends.
"""

from __future__ import annotations

from collections.abc import Callable

from aiortc import RTCDtlsTransport, RTCSctpTransport
from aiortc.rtcsctptransport import WEBRTC_BINARY, DataChunk

from meshllm.protocol.description import SCTP_PORT

CHANNEL_ID = 0
# Chunks behind a lost one wait for it. An honest peer has 256 KiB of frames under way
# (docs/protocol.md §7), each in a chunk of its own when they are small.
WAITING_CHUNKS = 8_192


class Association(RTCSctpTransport):
    """`on_abuse` is called with what the peer did; its chunk is not taken."""

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__(transport, SCTP_PORT)
        self.on_abuse: Callable[[str], None] = lambda reason: None

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        stream = self._get_inbound_stream(CHANNEL_ID)
        if chunk.stream_id != CHANNEL_ID:
            self.on_abuse("the peer opened another channel")
        elif chunk.protocol != WEBRTC_BINARY or not chunk.user_data:
            self.on_abuse("the peer sent what is no message of ours")
        elif self._advertised_rwnd < 0 or len(stream.reassembly) > WAITING_CHUNKS:
            self.on_abuse("the peer sent more than its window allows")
        else:
            await super()._receive_data_chunk(chunk)
