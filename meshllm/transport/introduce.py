"""Introductions: from a sealed offer to a wire whose peer has proven who it is.

The client dials, the provider answers (`answering`; docs/protocol.md §4, §5). How
envelopes travel (signaling, LAN, a live path) is the caller's: `Deliver` takes one,
`receive` brings one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import nacl.utils

from meshllm.errors import Code, MeshError, NotAllowed, PeerUnreachable
from meshllm.identity import Identity
from meshllm.protocol.envelope import Answer, Candidates, Offer, Refusal
from meshllm.transport.answering import Answering, Arrived, Means
from meshllm.transport.attempt import CONNECT_S, Attempts, Introduced
from meshllm.transport.certificates import Certificates
from meshllm.transport.envelopes import (
    VERSIONS,
    Addressee,
    Deliver,
    Envelopes,
    Written,
)
from meshllm.transport.health import Health
from meshllm.transport.peer import IceServer, Peer
from meshllm.transport.policy import Policy
from meshllm.transport.proof import Exchanged, prove
from meshllm.transport.trickle import Inflows, Outflow
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement
from meshllm.trust.keys import PeerId, short

__all__ = ["VERSIONS", "Deliver", "Introduced", "Introducer"]

log = logging.getLogger(__name__)

DELIVER_S = 4.0  # else it is the signaling server that does not answer, not the peer


class Introducer:
    """One for each running node.

    `decide` verifies a chain for an id and returns the admission, or raises.
    """

    def __init__(
        self,
        identity: Identity,
        conn: bytes,
        *,
        chain: Callable[[], Sequence[str]],
        servers: Callable[[], Sequence[IceServer]],
        decide: Callable[[Sequence[str], PeerId], Admission],
        policy: Policy = "all",
    ) -> None:
        self.health = Health()
        self._envelopes = Envelopes(identity, conn, chain)
        self._means = Means(
            identity,
            self._envelopes,
            servers,
            decide,
            policy,
            self.health,
            Certificates(),
        )
        self._waiting: dict[bytes, asyncio.Future[tuple[Answer, bytes]]] = {}
        self._attempts = Attempts()
        self._inflows = Inflows()
        self._outflow = Outflow(self._envelopes)
        self._answering = Answering(self._means, self._attempts, self._outflow)
        self._answers: set[asyncio.Task[None]] = set()

    @property
    def on_path(self) -> Callable[[Introduced], None] | None:
        """Gets every wire that was answered and proven; without it offers are
        refused."""
        return self._answering.on_path

    @on_path.setter
    def on_path(self, callback: Callable[[Introduced], None]) -> None:
        self._answering.on_path = callback

    async def dial(
        self, target: Announcement, deliver: Deliver, *, is_lan: bool = False
    ) -> Introduced:
        """A proven wire to this provider. PeerUnreachable or NotAllowed, with why.
        On the LAN no server is asked for addresses: none would lead there."""
        until = self._attempts.until()
        peer = await Peer.offer(
            () if is_lan else self._means.servers(),
            policy=self._means.policy,
            health=self.health,
            certificate=self._means.certificates.take(),
            is_lan=is_lan,
        )
        work = self._introduce(peer, target, deliver)
        return await self._attempts.in_time(until, peer, target.id, work)

    async def _introduce(
        self, peer: Peer, target: Announcement, deliver: Deliver
    ) -> Introduced:
        nonce = nacl.utils.random(32)
        offer = self._envelopes.offer(target, peer.local, nonce)
        to = Addressee.announced(target, deliver)
        path = offer.signal.path
        inflow = self._inflows.expect(path, target.id, offer.digest, CONNECT_S)
        async with self._outflow.told(peer, path, offer.digest, to):
            answer, answer_digest = await self._ask(offer, to)
            if answer.prev != offer.digest:
                raise PeerUnreachable("The answer belongs to another offer.")
            admission = self._means.decide(answer.chain, answer.sender)
            await peer.accept(answer.description)
            inflow.flow(peer)
            await peer.opened(CONNECT_S)
        said = Exchanged(offer.signal, offer.digest, answer, answer_digest)
        wire = await prove(peer, self._means.identity, said, nonce)
        return Introduced(wire, admission, path, is_lan=peer.is_lan)

    async def _ask(self, offer: Written[Offer], to: Addressee) -> tuple[Answer, bytes]:
        answered = asyncio.get_running_loop().create_future()
        self._waiting[offer.signal.path] = answered
        try:
            await _handed_over(to.send(offer.sealed))
            answer, digest = await answered
        finally:
            del self._waiting[offer.signal.path]
        if answer.sender != to.id:
            raise PeerUnreachable("Another peer answered than the one that was asked.")
        return answer, digest

    def receive(
        self,
        sender: PeerId | None,
        sealed: bytes,
        deliver: Deliver,
        *,
        is_lan: bool = False,
    ) -> asyncio.Task[None] | None:
        """An envelope came. Strangers' rubbish is logged and dropped, never raised.

        `sender` as the signaling server says, None where nobody does. An offer is
        answered in the task that is returned.
        """
        try:
            signal, digest = self._envelopes.open(sealed, sender)
        except MeshError as error:
            who = short(sender) if sender else "the LAN"
            log.warning("an envelope from %s was refused: %s", who, error)
            return None
        match signal:
            case Answer() | Refusal():
                self._on_reply(signal, digest)
            case Candidates():
                self._inflows.take(signal)
            case Offer():
                return self._on_offer(signal, digest, deliver, is_lan)
        return None

    async def close(self) -> None:
        answers = list(self._answers)
        for task in answers:
            task.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        self._means.certificates.close()
        await self._outflow.close()
        await self._attempts.close()

    def _on_reply(self, reply: Answer | Refusal, digest: bytes) -> None:
        waiting = self._waiting.get(reply.path)
        if waiting is None or waiting.done():
            return
        if isinstance(reply, Answer):
            waiting.set_result((reply, digest))
        else:
            waiting.set_exception(NotAllowed(reply.text, reply.code))

    def _on_offer(
        self, offer: Offer, digest: bytes, deliver: Deliver, is_lan: bool
    ) -> asyncio.Task[None]:
        # Candidates may come before the offer is answered.
        inflow = self._inflows.expect(offer.path, offer.sender, digest, CONNECT_S)
        work = self._answering.take(Arrived(offer, digest, deliver, inflow, is_lan))
        task = asyncio.create_task(work, name=f"answer {short(offer.sender)}")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)
        return task

    async def knock(self, answered: Introduced, deliver: Deliver) -> None:
        """Tell the offerer that nothing is heard on its path: a refusal, late.

        What matters is whether it can be told. Raises what `deliver` raises: PeerGone
        when the connection that offered is not at the signaling server any more.
        """
        assert answered.offer is not None
        offer, digest = answered.offer
        text = "Nothing is heard on this path any more."
        refusal = self._envelopes.refusal(offer, digest, Code.TIMEOUT, text)
        await Addressee.offered(offer, deliver).send(refusal.sealed)


async def _handed_over(delivery: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(DELIVER_S):
            await delivery
    except TimeoutError:
        raise PeerUnreachable(
            f"The signaling server did not pass the offer on within {DELIVER_S:g} s."
            " Try again; `meshllm doctor` says how it is reached from here."
        ) from None
