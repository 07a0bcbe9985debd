"""The DTLS transport of a peer connection, with nothing between socket and SCTP.

aiortc (1.16) puts each packet into a queue that a task reads, and sends through five
coroutines of which none ever waits. Here a packet is taken where it arrives and leaves
where it is made: that is half of what a short message costs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiortc import RTCCertificate, RTCDtlsParameters, RTCDtlsTransport, RTCIceTransport
from aiortc.rtcdtlstransport import State
from OpenSSL import SSL

from meshllm.now import run_now
from meshllm.transport.ice import IceConnection

log = logging.getLogger(__name__)

RECORD_MAX = 1_500  # bytes; as upstream reads them


class Dtls(RTCDtlsTransport):
    """Over `connection`, which is the one of `ice`."""

    def __init__(
        self,
        ice: RTCIceTransport,
        connection: IceConnection,
        certificate: RTCCertificate,
    ) -> None:
        super().__init__(ice, [certificate])
        self._connection = connection
        self.on_data: Callable[[bytes], None] = lambda packet: None

    async def start(self, remoteParameters: RTCDtlsParameters) -> None:
        await super().start(remoteParameters)
        # Upstream's task goes on waiting at the queue: for the timers of the handshake,
        # and for the end.
        if self._state is State.CONNECTED:
            self._connection.on_packet = self._take

    async def stop(self) -> None:
        self._connection.on_packet = None
        await super().stop()

    def send(self, packet: bytes) -> None:
        """ConnectionError when there is no connection (any more)."""
        if self._ssl is None or self._state is not State.CONNECTED:
            raise ConnectionError("DTLS is not connected")
        self._ssl.send(packet)
        self._connection.send_now(self._ssl.bio_read(RECORD_MAX))

    async def _send_data(self, data: bytes) -> None:
        self.send(data)

    def _take(self, datagram: bytes) -> None:
        assert self._ssl is not None
        try:
            self._ssl.bio_write(datagram)
            try:
                packet = self._ssl.recv(RECORD_MAX)
            except SSL.ZeroReturnError:
                self._connection.end()  # the peer said that it ends
                return
            except SSL.Error:
                packet = b""
            if not packet:
                run_now(self._write_ssl())  # a lost flight of the handshake, repeated
            elif self._data_receiver is not None:
                self.on_data(packet)
        except ConnectionError:
            self._connection.end()
        except Exception:
            log.exception("a packet could not be taken")
            self._connection.end()
