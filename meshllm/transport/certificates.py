"""A certificate for each connection, one always at hand.

To make it and to load it into OpenSSL takes 7 ms of a cold machine, on either side of
each new path; here that is done before somebody waits. None is used twice: whoever sees
two connections cannot tell by it that they are of one node.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES, SRTPProtectionProfile
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

LATER_S = 1.0  # when the path is open for which the last was taken
LEFT_MIN = timedelta(days=7)  # of its 30: a node may be idle for long


class Certificate(RTCCertificate):
    """With its TLS context, which is for one connection."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, cert: x509.Certificate) -> None:
        super().__init__(key, cert)
        self._context = super()._create_ssl_context(SRTP_PROFILES)

    def _create_ssl_context(
        self, srtp_profiles: list[SRTPProtectionProfile]
    ) -> SSL.Context:
        return self._context


class Certificates:
    """Those of one node. Made where a loop runs."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._spare: Certificate | None = Certificate.generateCertificate()

    def take(self) -> Certificate:
        """The one at hand, or a new one; soon there is another."""
        spare, self._spare = self._spare, None
        if self._timer is None:
            self._timer = self._loop.call_later(LATER_S, self._prepare)
        if spare is None or spare.expires - datetime.now(UTC) < LEFT_MIN:
            return Certificate.generateCertificate()
        return spare

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _prepare(self) -> None:
        self._timer = None
        self._spare = Certificate.generateCertificate()
