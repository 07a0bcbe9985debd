"""The provider's half of an introduction: an offer decided, then answered.

docs/protocol.md §4. All that can be decided is, before a peer connection exists.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshllm.errors import Code, MeshError, NotAllowed
from meshllm.identity import Identity
from meshllm.protocol.envelope import Offer, SeenPaths
from meshllm.transport.attempt import CONNECT_S, Attempts, Introduced
from meshllm.transport.certificates import Certificates
from meshllm.transport.envelopes import VERSIONS, Addressee, Deliver, Envelopes
from meshllm.transport.health import Health
from meshllm.transport.peer import IceServer, Peer
from meshllm.transport.policy import Policy
from meshllm.transport.proof import Exchanged, prove
from meshllm.transport.trickle import Inflow, Outflow
from meshllm.trust.admission import Admission
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

PENDING_PER_PEER = 4
PENDING_MAX = 32
TOO_OFTEN = "Too many connections of this node in 15 minutes. Try again later."


@dataclass(frozen=True, slots=True)
class Arrived:
    """An offer, the SHA-256 of its signed form, and the way back."""

    offer: Offer
    digest: bytes
    deliver: Deliver
    inflow: Inflow
    is_lan: bool

    @property
    def back(self) -> Addressee:
        return Addressee.offered(self.offer, self.deliver)


@dataclass(frozen=True, slots=True)
class Means:
    """What both halves of an introduction need of the node."""

    identity: Identity
    envelopes: Envelopes
    servers: Callable[[], Sequence[IceServer]]
    decide: Callable[[Sequence[str], PeerId], Admission]
    policy: Policy
    health: Health
    certificates: Certificates


class Answering:
    """`on_path` gets every wire that was answered and proven; without it offers are
    refused."""

    def __init__(self, means: Means, attempts: Attempts, outflow: Outflow) -> None:
        self.on_path: Callable[[Introduced], None] | None = None
        self._means = means
        self._attempts = attempts
        self._outflow = outflow
        self._seen = SeenPaths()
        self._pending: Counter[PeerId] = Counter()

    async def take(self, arrived: Arrived) -> None:
        """Until there is a path, or none. Whatever happens is said to the offerer or
        logged, never raised."""
        offer = arrived.offer
        who = short(offer.sender)
        try:
            admission = self._admit(offer)
        except MeshError as error:
            log.warning("%s was refused: %s", who, error)
            code = error.code if isinstance(error, NotAllowed) else Code.AUTH
            await self._refuse(arrived, code, str(error))
            return
        if self._seen.knows(offer.sender, offer.path):
            log.warning("an offer of %s came again and was dropped", who)
            return
        if not self._seen.is_new(offer.sender, offer.path, int(time.time())):
            log.warning("%s was refused: it offers too often", who)
            await self._refuse(arrived, Code.BUSY, TOO_OFTEN)
            return
        self._pending[offer.sender] += 1
        try:
            introduced = await self._answer(arrived, admission)
        except MeshError as error:
            log.warning("no path to %s: %s", who, error)
        else:
            log.info("path from %s (%s)", admission.name, who)
            assert self.on_path is not None
            self.on_path(introduced)
        finally:
            self._pending[offer.sender] -= 1
            self._pending += Counter()  # drops the zeros

    def _admit(self, offer: Offer) -> Admission:
        if self.on_path is None:
            raise NotAllowed("This node shares no models now.", Code.GONE)
        if offer.versions[0] > VERSIONS[1] or offer.versions[1] < VERSIONS[0]:
            raise NotAllowed(
                "No common protocol version. Update meshllm.", Code.VERSION
            )
        if (
            self._pending[offer.sender] >= PENDING_PER_PEER
            or self._pending.total() >= PENDING_MAX
        ):
            raise NotAllowed("Too many connections at once. Try again.", Code.BUSY)
        return self._means.decide(offer.chain, offer.sender)

    async def _answer(self, arrived: Arrived, admission: Admission) -> Introduced:
        until = self._attempts.until()
        peer = await Peer.answer(
            arrived.offer.description,
            () if arrived.is_lan else self._means.servers(),
            policy=self._means.policy,
            health=self._means.health,
            certificate=self._means.certificates.take(),
            is_lan=arrived.is_lan,
        )
        work = self._reply(peer, arrived, admission)
        return await self._attempts.in_time(until, peer, arrived.offer.sender, work)

    async def _reply(
        self, peer: Peer, arrived: Arrived, admission: Admission
    ) -> Introduced:
        offer, digest = arrived.offer, arrived.digest
        answer = self._means.envelopes.answer(offer, digest, peer.local)
        arrived.inflow.flow(peer)
        async with self._outflow.told(peer, offer.path, digest, arrived.back):
            await arrived.back.send(answer.sealed)
            await peer.opened(CONNECT_S)
        said = Exchanged(offer, digest, answer.signal, answer.digest)
        wire = await prove(peer, self._means.identity, said, None)
        return Introduced(wire, admission, offer.path, (offer, digest), peer.is_lan)

    async def _refuse(self, arrived: Arrived, code: Code, text: str) -> None:
        refusal = self._means.envelopes.refusal(
            arrived.offer, arrived.digest, code, text
        )
        try:
            await arrived.back.send(refusal.sealed)
        except MeshError as error:
            log.debug("the refusal was not delivered: %s", error)
