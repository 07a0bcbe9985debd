"""Introductions: from a sealed offer to a wire whose peer has proven who it is.

The client dials, the provider answers (docs/protocol.md §4, §5). How envelopes travel
(signaling, LAN, a live path) is the caller's: `Deliver` takes one, `receive` brings
one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nacl.public
import nacl.utils

from meshllm.errors import Code, MeshError, NotAllowed, PeerUnreachable
from meshllm.identity import Identity
from meshllm.protocol.description import Candidate
from meshllm.protocol.envelope import (
    TEXT_MAX,
    Answer,
    Candidates,
    Offer,
    Refusal,
    SeenPaths,
    Signal,
    open_envelope,
)
from meshllm.protocol.envelope import seal as seal_envelope
from meshllm.protocol.hello import commit
from meshllm.transport.health import Health
from meshllm.transport.peer import IceServer, Peer
from meshllm.transport.policy import Policy
from meshllm.transport.proof import Exchanged, prove
from meshllm.transport.trickle import Inflow, Inflows, send_on
from meshllm.transport.wire import Wire
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

VERSIONS = (1, 1)
CONNECT_S = 9.0  # with the session's beginning an attempt ends within 10 s
DELIVER_S = 4.0  # else it is the signaling server that does not answer, not the peer
PENDING_PER_PEER = 4
PENDING_MAX = 32
TOO_OFTEN = "Too many connections of this node in 15 minutes. Try again later."

Deliver = Callable[[PeerId, bytes | None, bytes], Awaitable[None]]
"""(to, conn or None for whoever announces, sealed envelope)."""


@dataclass(frozen=True, slots=True)
class Introduced:
    """A proven wire and who is at its other end. `offer`, with its digest, is what
    was answered; None on the side that dialled."""

    wire: Wire
    admission: Admission
    path: bytes
    offer: tuple[Offer, bytes] | None = None
    is_lan: bool = False
    """Found and asked on the LAN: the signaling server may know nothing of it."""


@dataclass(frozen=True, slots=True)
class _Addressee:
    """Where envelopes of one path go, and the key that opens them."""

    id: PeerId
    conn: bytes | None
    box: bytes
    deliver: Deliver


class Introducer:
    """One for each running node.

    `decide` verifies a chain for an id and returns the admission, or raises. `on_path`
    gets every wire that was answered and proven; without it offers are refused.
    """

    def __init__(
        self,
        identity: Identity,
        conn: bytes,
        *,
        chain: Callable[[], Sequence[str]],
        servers: Callable[[], Sequence[IceServer]],
        decide: Callable[[Sequence[str], PeerId], Admission],
        on_path: Callable[[Introduced], None] | None = None,
        policy: Policy = "all",
        health: Health | None = None,
    ) -> None:
        self.health = health or Health()
        self._identity = identity
        self._conn = conn
        self._chain = chain
        self._servers = servers
        self._decide = decide
        self._policy = policy
        self.on_path = on_path
        self._seen = SeenPaths()
        self._waiting: dict[bytes, asyncio.Future[tuple[Answer, bytes]]] = {}
        self._inflows = Inflows()
        self._telling_tasks: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._pending: Counter[PeerId] = Counter()

    async def dial(
        self, target: Announcement, deliver: Deliver, *, is_lan: bool = False
    ) -> Introduced:
        """A proven wire to this provider. PeerUnreachable or NotAllowed, with why.
        On the LAN no server is asked for addresses: none would lead there."""
        until = asyncio.get_running_loop().time() + CONNECT_S
        peer = await Peer.offer(
            () if is_lan else self._servers(),
            policy=self._policy,
            health=self.health,
            is_lan=is_lan,
        )
        work = self._introduce(peer, target, deliver)
        return await self._in_time(until, peer, target.id, work)

    async def _in_time(
        self, until: float, peer: Peer, other: PeerId, work: Awaitable[Introduced]
    ) -> Introduced:
        """Lets go of the peer connection when it comes to nothing, and says why."""
        try:
            async with asyncio.timeout_at(until):
                return await work
        except TimeoutError:
            why = peer.verdict()
            self._let_go(peer)
            raise PeerUnreachable(
                f"No connection to {short(other)} within {CONNECT_S:g} s: {why}."
            ) from None
        except BaseException:
            self._let_go(peer)
            raise

    def _let_go(self, peer: Peer) -> None:
        """Relays are given back meanwhile: whoever waits has waited enough."""
        task = asyncio.create_task(peer.close(), name="let go of a peer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _introduce(
        self, peer: Peer, target: Announcement, deliver: Deliver
    ) -> Introduced:
        path = nacl.utils.random(16)
        nonce = nacl.utils.random(32)
        offer = Offer(
            path=path,
            sender=self._identity.id,
            to=target.id,
            ts=int(time.time()),
            conn=self._conn,
            box=self._identity.box.public_key.encode(),
            commit=commit(nonce),
            versions=VERSIONS,
            description=peer.local,
            chain=tuple(self._chain()),
        )
        sealed, offer_digest = self._seal(offer, target.box)
        to = _Addressee(target.id, target.conn, target.box, deliver)
        inflow = self._expect(path, target.id, offer_digest)
        async with self._telling(peer, path, offer_digest, to):
            answer, answer_digest = await self._ask(path, target, sealed, deliver)
            if answer.prev != offer_digest:
                raise PeerUnreachable("The answer belongs to another offer.")
            admission = self._decide(answer.chain, answer.sender)
            await peer.accept(answer.description)
            inflow.flow(peer)
            await peer.opened(CONNECT_S)
        said = Exchanged(offer, offer_digest, answer, answer_digest)
        wire = await prove(peer, self._identity, said, nonce)
        return Introduced(wire, admission, path, is_lan=peer.is_lan)

    async def _ask(
        self, path: bytes, target: Announcement, sealed: bytes, deliver: Deliver
    ) -> tuple[Answer, bytes]:
        answered = asyncio.get_running_loop().create_future()
        self._waiting[path] = answered
        try:
            await _handed_over(deliver(target.id, target.conn, sealed))
            answer, digest = await answered
        finally:
            del self._waiting[path]
        if answer.sender != target.id:
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
        now = int(time.time())
        who = short(sender) if sender else "the LAN"
        try:
            signal, digest = open_envelope(
                sealed,
                self._identity.box,
                me=self._identity.id,
                outer_sender=sender,
                now=now,
            )
        except MeshError as error:
            log.warning("an envelope from %s was refused: %s", who, error)
            return None
        match signal:
            case Answer() | Refusal():
                self._on_reply(signal, digest)
            case Candidates():
                self._inflows.take(signal)
            case Offer():
                inflow = self._expect(signal.path, signal.sender, digest)
                task = asyncio.create_task(
                    self._on_offer(signal, digest, inflow, deliver, is_lan),
                    name=f"answer {short(signal.sender)}",
                )
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
                return task
        return None

    async def close(self) -> None:
        tasks = [*self._answering, *self._telling_tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._closing)

    def _on_reply(self, reply: Answer | Refusal, digest: bytes) -> None:
        waiting = self._waiting.get(reply.path)
        if waiting is None or waiting.done():
            return
        if isinstance(reply, Answer):
            waiting.set_result((reply, digest))
        else:
            waiting.set_exception(NotAllowed(reply.text, reply.code))

    async def _on_offer(
        self,
        offer: Offer,
        digest: bytes,
        inflow: Inflow,
        deliver: Deliver,
        is_lan: bool,
    ) -> None:
        who = short(offer.sender)
        try:
            admission = self._admit(offer)
        except MeshError as error:
            log.warning("%s was refused: %s", who, error)
            code = error.code if isinstance(error, NotAllowed) else Code.AUTH
            await self._refuse(offer, digest, code, str(error), deliver)
            return
        if self._seen.knows(offer.sender, offer.path):
            log.warning("an offer of %s came again and was dropped", who)
            return
        if not self._seen.is_new(offer.sender, offer.path, int(time.time())):
            log.warning("%s was refused: it offers too often", who)
            await self._refuse(offer, digest, Code.BUSY, TOO_OFTEN, deliver)
            return
        self._pending[offer.sender] += 1
        try:
            introduced = await self._answer(
                offer, digest, admission, inflow, deliver, is_lan
            )
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
        """Everything that is decided before a peer connection exists."""
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
        return self._decide(offer.chain, offer.sender)

    async def _answer(
        self,
        offer: Offer,
        digest: bytes,
        admission: Admission,
        inflow: Inflow,
        deliver: Deliver,
        is_lan: bool,
    ) -> Introduced:
        until = asyncio.get_running_loop().time() + CONNECT_S
        peer = await Peer.answer(
            offer.description,
            () if is_lan else self._servers(),
            policy=self._policy,
            health=self.health,
            is_lan=is_lan,
        )
        work = self._reply(peer, offer, digest, admission, inflow, deliver)
        return await self._in_time(until, peer, offer.sender, work)

    async def _reply(
        self,
        peer: Peer,
        offer: Offer,
        digest: bytes,
        admission: Admission,
        inflow: Inflow,
        deliver: Deliver,
    ) -> Introduced:
        nonce = nacl.utils.random(32)
        answer = Answer(
            path=offer.path,
            sender=self._identity.id,
            to=offer.sender,
            ts=int(time.time()),
            prev=digest,
            nonce=nonce,
            version=VERSIONS[1],
            description=peer.local,
            chain=tuple(self._chain()),
        )
        sealed, answer_digest = self._seal(answer, offer.box)
        inflow.flow(peer)
        to = _Addressee(offer.sender, offer.conn, offer.box, deliver)
        async with self._telling(peer, offer.path, digest, to):
            await deliver(offer.sender, offer.conn, sealed)
            await peer.opened(CONNECT_S)
        said = Exchanged(offer, digest, answer, answer_digest)
        wire = await prove(peer, self._identity, said, None)
        return Introduced(wire, admission, offer.path, (offer, digest), peer.is_lan)

    @asynccontextmanager
    async def _telling(
        self, peer: Peer, path: bytes, prev: bytes, to: _Addressee
    ) -> AsyncIterator[None]:
        """Candidates of ours that are found meanwhile go after the first message."""

        async def send(candidates: Sequence[Candidate], is_complete: bool) -> None:
            more = Candidates(
                path=path,
                sender=self._identity.id,
                to=to.id,
                ts=int(time.time()),
                prev=prev,
                candidates=tuple(candidates),
                is_complete=is_complete,
            )
            sealed, _ = self._seal(more, to.box)
            await to.deliver(to.id, to.conn, sealed)

        telling = asyncio.create_task(send_on(peer, send), name="candidates")
        self._telling_tasks.add(telling)
        telling.add_done_callback(self._told)
        try:
            yield  # a slow server's answer may still improve a path that is open
        except BaseException:
            telling.cancel()
            raise

    def _told(self, telling: asyncio.Task[None]) -> None:
        self._telling_tasks.discard(telling)
        if not telling.cancelled() and (error := telling.exception()) is not None:
            log.debug("not all candidates could be told: %s", error)

    def _expect(self, path: bytes, sender: PeerId, prev: bytes) -> Inflow:
        """The candidates of one introduction, for as long as one may take."""
        inflow = self._inflows.open(path, sender, prev)
        loop = asyncio.get_running_loop()
        loop.call_later(CONNECT_S, self._inflows.close, path, inflow)
        return inflow

    async def knock(self, answered: Introduced, deliver: Deliver) -> None:
        """Tell the offerer that nothing is heard on its path: a refusal, late.

        What matters is whether it can be told. Raises what `deliver` raises: PeerGone
        when the connection that offered is not at the signaling server any more.
        """
        assert answered.offer is not None
        offer, digest = answered.offer
        text = "Nothing is heard on this path any more."
        await self._deliver_refusal(offer, digest, Code.TIMEOUT, text, deliver)

    async def _refuse(
        self, offer: Offer, digest: bytes, code: Code, text: str, deliver: Deliver
    ) -> None:
        try:
            await self._deliver_refusal(offer, digest, code, text, deliver)
        except MeshError as error:
            log.debug("the refusal was not delivered: %s", error)

    async def _deliver_refusal(
        self, offer: Offer, digest: bytes, code: Code, text: str, deliver: Deliver
    ) -> None:
        refusal = Refusal(
            path=offer.path,
            sender=self._identity.id,
            to=offer.sender,
            ts=int(time.time()),
            prev=digest,
            code=code,
            text="".join(c if c.isprintable() else " " for c in text)[:TEXT_MAX],
        )
        sealed, _ = self._seal(refusal, offer.box)
        await deliver(offer.sender, offer.conn, sealed)

    def _seal(self, signal: Signal, to_box: bytes) -> tuple[bytes, bytes]:
        return seal_envelope(
            signal,
            self._identity.signing,
            to_box,
            nacl.public.PrivateKey.generate(),
            nacl.utils.random(24),
        )


async def _handed_over(delivery: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(DELIVER_S):
            await delivery
    except TimeoutError:
        raise PeerUnreachable(
            f"The signaling server did not pass the offer on within {DELIVER_S:g} s."
            " Try again; `meshllm doctor` says how it is reached from here."
        ) from None
