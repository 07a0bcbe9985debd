"""aiortc's transports under one peer connection: ICE, DTLS, SCTP and its one channel.

Built without aiortc's RTCPeerConnection (docs/decisions/0004); its camelCase and
private parts stay here.
"""

from __future__ import annotations

import asyncio

from aiortc import (
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCSctpCapabilities,
)
from cryptography.hazmat.primitives import hashes

from meshllm.protocol.description import MESSAGE_MAX, SCTP_PORT, Description
from meshllm.transport.association import CHANNEL_ID, Association
from meshllm.transport.certificates import Certificate
from meshllm.transport.dtls import Dtls
from meshllm.transport.ice import IceConnection
from meshllm.transport.verdict import Stage


class Stack:
    """Over `connection`. Made before anything is gathered."""

    def __init__(self, connection: IceConnection, certificate: Certificate) -> None:
        # An empty list: without one aiortc would ask a public STUN server.
        gatherer = RTCIceGatherer(iceServers=[])
        gatherer._connection = connection
        self._certificate = certificate
        self.ice = RTCIceTransport(gatherer)
        self.dtls = Dtls(self.ice, connection, self._certificate)
        self.sctp = Association(self.dtls)
        self.channel = RTCDataChannel(
            self.sctp,
            RTCDataChannelParameters(label="meshllm", negotiated=True, id=CHANNEL_ID),
        )

    @property
    def own_fingerprint(self) -> bytes:
        """SHA-256 of the certificate that this side shows."""
        return bytes(self._certificate._cert.fingerprint(hashes.SHA256()))

    @property
    def observed_fingerprint(self) -> bytes | None:
        """SHA-256 of the certificate that DTLS saw, if it saw one."""
        ssl = self.dtls._ssl
        certificate = ssl and ssl.get_peer_certificate(as_cryptography=True)
        return bytes(certificate.fingerprint(hashes.SHA256())) if certificate else None

    @property
    def is_failed(self) -> bool:
        """There is no pair to send on, or none any more."""
        return bool(self.ice.state == "failed")

    @property
    def is_ended(self) -> bool:
        return bool(self.dtls.state == "closed")

    def stage(self, announced: bytes) -> Stage:
        """What is missing for the channel, `announced` being the peer's fingerprint."""
        if self.ice.state != "completed":
            return Stage.PATH
        if self.dtls.state == "connected":
            return Stage.CHANNEL
        is_other = self.observed_fingerprint not in (None, announced)
        return Stage.CERTIFICATE if is_other else Stage.HANDSHAKE

    async def connect(self, setup: str, remote: Description) -> bool:
        """False when there is no pair, or DTLS fails; `stage` says what was missing.
        `setup` is our own. True before the channel opens."""
        await self.ice.start(
            RTCIceParameters(usernameFragment=remote.ufrag, password=remote.pwd)
        )
        if self.ice.state != "completed":
            return False
        is_client = setup == "active" or remote.setup == "passive"
        self.dtls._set_role("client" if is_client else "server")
        pairs = ":".join(f"{byte:02X}" for byte in remote.fingerprint)
        await self.dtls.start(RTCDtlsParameters([RTCDtlsFingerprint("sha-256", pairs)]))
        if self.dtls.state != "connected":
            return False
        await self.sctp.start(RTCSctpCapabilities(MESSAGE_MAX), SCTP_PORT)
        return True

    async def stop(self) -> None:
        receiving = self.dtls._task  # which stop() cancels and forgets
        await self.sctp.stop()
        await self.dtls.stop()
        await self.ice.stop()
        if receiving is not None:
            await asyncio.gather(receiving, return_exceptions=True)
