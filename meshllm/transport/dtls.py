"""The DTLS transport of a peer connection, with nothing between socket and SCTP.

aiortc (1.16) puts each packet into a queue that a task reads, and sends through five
coroutines of which none ever waits. Here a packet is taken where it arrives and leaves
where it is made: that is half of what a short message costs. OpenSSL itself is asked to
encrypt and decrypt each; pyOpenSSL, which takes a dozen calls for it, does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiortc import RTCCertificate, RTCDtlsParameters, RTCDtlsTransport, RTCIceTransport
from aiortc.rtcdtlstransport import State
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

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
        self._record = ffi.new("char[]", RECORD_MAX)

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
        ssl = self._ssl
        if lib.SSL_write(ssl._ssl, packet, len(packet)) <= 0:
            ssl.send(packet)  # raises why
        size = lib.BIO_read(ssl._from_ssl, self._record, RECORD_MAX)
        if size > 0:
            self._connection.send_now(ffi.buffer(self._record, size)[:])

    async def _send_data(self, data: bytes) -> None:
        self.send(data)

    def _take(self, datagram: bytes) -> None:
        ssl = self._ssl
        assert ssl is not None
        try:
            lib.BIO_write(ssl._into_ssl, datagram, len(datagram))
            size = lib.SSL_read(ssl._ssl, self._record, RECORD_MAX)
            if size > 0:
                packet = ffi.buffer(self._record, size)[:]
            else:
                try:
                    packet = ssl.recv(RECORD_MAX)  # raises why
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
