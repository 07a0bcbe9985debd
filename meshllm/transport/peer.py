"""A peer connection: ICE, DTLS and one data channel between two nodes.

What is offered and answered are fields, not SDP text, and every task has an owner. What
carries it are aiortc's transports (`stack`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from meshllm.errors import LocalProtocolError, PeerUnreachable
from meshllm.protocol.description import (
    CANDIDATES_MAX,
    MESSAGE_MAX,
    Candidate,
    Description,
)
from meshllm.transport.addresses import read_machine
from meshllm.transport.certificates import Certificate
from meshllm.transport.health import Health
from meshllm.transport.ice import IceConnection
from meshllm.transport.inbox import Inbox
from meshllm.transport.pair import Pair
from meshllm.transport.policy import Policy, reachable
from meshllm.transport.servers import IceServer
from meshllm.transport.stack import Stack
from meshllm.transport.verdict import Attempt, Stage, explain

__all__ = ["IceServer", "Peer"]

log = logging.getLogger(__name__)

NO_ANSWER = "the peer does not answer any more"
CLOSE_S = 2.0
NO_PACKETS = (
    "no UDP packet came through on the local network: a firewall of one of the machines"
    " drops them, or a Wi-Fi that keeps its devices apart"
)


class Peer:
    """Made by `offer` or `answer`; closed by `close`, whatever happened before.

    `on_closed` is called once, with why, when the other side closes or is lost after
    the channel opened; not when `close` is called here.
    """

    def __init__(
        self,
        servers: Sequence[IceServer],
        hosts: Sequence[str],
        *,
        is_offerer: bool,
        policy: Policy = "all",
        health: Health | None = None,
        certificate: Certificate | None = None,
        is_lan: bool = False,
    ) -> None:
        self.on_low: Callable[[], None] = lambda: None
        self.on_stall: Callable[[], None] = lambda: None
        self.local: Description
        self._policy = policy
        self.is_lan = is_lan  # introduced there
        self._pair: Pair | None = None
        self._inbox = Inbox()
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._found = asyncio.Event()  # candidates of ours, or that these were all
        self._has_all = False
        self._remote: list[Candidate] = []
        self._announced: bytes | None = None  # the peer's fingerprint, with its answer
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._on_closed: Callable[[str], None] | None = None
        self._lost_why: str | None = None
        self._verdict: str | None = None
        self._connection = IceConnection(
            servers, hosts, controlling=is_offerer, policy=policy, health=health
        )
        self._connection.on_candidate = self._found.set
        self._connection.on_stall = lambda: self.on_stall()
        certificate = certificate or Certificate.generateCertificate()
        self._stack = Stack(self._connection, certificate)
        self._sctp, self._channel = self._stack.sctp, self._stack.channel
        self._listen()

    @classmethod
    async def offer(
        cls,
        servers: Sequence[IceServer],
        *,
        policy: Policy = "all",
        health: Health | None = None,
        certificate: Certificate | None = None,
        is_lan: bool = False,
    ) -> Peer:
        """`local` is what to send, `trickle` what to send after it. PeerUnreachable
        without any address. `is_lan`: to a peer that was found on the LAN."""
        machine = read_machine()
        hosts = machine.lan_hosts(None) if is_lan else machine.hosts(None)
        peer = cls(
            servers,
            hosts,
            is_offerer=True,
            policy=policy,
            health=health,
            certificate=certificate,
            is_lan=is_lan,
        )
        await peer._gather("actpass")
        return peer

    @classmethod
    async def answer(
        cls,
        remote: Description,
        servers: Sequence[IceServer],
        *,
        policy: Policy = "all",
        health: Health | None = None,
        certificate: Certificate | None = None,
        is_lan: bool = False,
    ) -> Peer:
        """The same for an answer; connecting goes on in the background.

        PeerUnreachable when neither side has an address that the other may dial.
        """
        machine, theirs = read_machine(), remote.candidates
        hosts = machine.lan_hosts(theirs) if is_lan else machine.hosts(theirs)
        peer = cls(
            servers,
            hosts,
            is_offerer=False,
            policy=policy,
            health=health,
            certificate=certificate,
            is_lan=is_lan,
        )
        # Whoever answers is the DTLS client (RFC 8842 §5.3), unless the offer is it.
        await peer._gather("passive" if remote.setup == "active" else "active")
        try:
            peer._start(remote)
        except PeerUnreachable:
            await peer.close()
            raise
        return peer

    async def accept(self, remote: Description) -> None:
        """The answer to our offer; connecting goes on in the background.

        PeerUnreachable when it holds no address that this machine may dial.
        """
        if self._closing is not None or self._announced is not None:
            raise LocalProtocolError("an offer is accepted once, while it is open")
        self._start(remote)

    def add(self, candidates: Sequence[Candidate], *, is_complete: bool) -> None:
        """More of the peer's, after its description. Those in excess are dropped."""
        if self._has_all or self._closing is not None:
            return
        self._has_all = is_complete
        told = candidates[: CANDIDATES_MAX - len(self._remote)]
        self._remote += told
        dialled = read_machine().reachable(told)
        self._spawn(self._connection.add(dialled, is_all=is_complete))

    async def trickle(self) -> AsyncIterator[tuple[tuple[Candidate, ...], bool]]:
        """Our candidates since `local` was read, as they are found; True with the last.

        Nothing when `local` had them all.
        """
        told = len(self.local.candidates)
        is_complete = self.local.is_complete
        while not is_complete:
            await self._found.wait()
            self._found.clear()
            is_complete = self._connection.is_gathered or self._closing is not None
            offered = self._connection.offered
            yield offered[told:], is_complete
            told = len(offered)

    async def opened(self, timeout_s: float) -> None:
        """Until messages can be sent. PeerUnreachable, with why, when they cannot."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._opened)
        except TimeoutError:
            raise PeerUnreachable(
                f"No connection within {timeout_s:g} s: {self.verdict()}."
            ) from None

    def verdict(self) -> str:
        """Why it is not open yet, or was not when it was closed: what happened, and
        what to do, without a full stop."""
        if self._verdict is not None:
            return self._verdict
        if self.is_lan and not self._connection.is_heard:
            return NO_PACKETS
        return explain(
            Attempt(
                self._stage(),
                self._policy,
                self._connection.asked,
                self._connection.offered,
                self._remote,
                is_heard=self._connection.is_heard,
            )
        )

    @property
    def own_fingerprint(self) -> bytes:
        """SHA-256 of the certificate that this side shows."""
        return self._stack.own_fingerprint

    @property
    def observed_fingerprint(self) -> bytes:
        """SHA-256 of the certificate that DTLS saw, whatever was announced."""
        seen = self._stack.observed_fingerprint
        if seen is None:
            raise LocalProtocolError("no certificate was seen yet")
        return seen

    @property
    def selected(self) -> Pair | None:
        """The addresses in use, at the end those that were; None before there are any.

        They may change while the path lives: from a relay to a direct pair.
        """
        self._pair = self._connection.selected or self._pair
        return self._pair

    @property
    def kind(self) -> str:
        """`lan` for a path that the LAN introduced and that leads through nothing."""
        kind = self._connection.kind or (self._pair.kind if self._pair else "host")
        return "lan" if self.is_lan and kind in ("host", "prflx") else kind

    @property
    def candidates(self) -> dict[str, str]:
        return self.selected.names if self.selected else {}

    @property
    def is_stalled(self) -> bool:
        return self._connection.is_stalled

    @property
    def rtt_s(self) -> float | None:
        """A round trip as SCTP's acknowledgements show it, smoothed."""
        return self._sctp._srtt

    @property
    def buffered(self) -> int:
        """Bytes that SCTP has not taken yet."""
        return self._sctp.buffered

    @property
    def dropped(self) -> int:
        """Packets that were no peer's: strangers', or more than we could take."""
        return self._connection.dropped

    @property
    def on_message(self) -> Callable[[bytes], None]:
        return self._inbox.listener

    @on_message.setter
    def on_message(self, callback: Callable[[bytes], None]) -> None:
        """What came before is delivered in a later turn of the loop, in order."""
        self._inbox.listen(callback)

    @property
    def on_closed(self) -> Callable[[str], None]:
        return self._on_closed or _unheard

    @on_closed.setter
    def on_closed(self, callback: Callable[[str], None]) -> None:
        """Called in a later turn when the end came before somebody listened."""
        self._on_closed = callback
        if self._lost_why is not None and self._opened.exception() is None:
            self._loop.call_soon(callback, self._lost_why)

    def send(self, message: bytes) -> None:
        """Up to 16,384 bytes. After the end it is dropped: `on_closed` told so."""
        if len(message) > MESSAGE_MAX:
            raise LocalProtocolError(f"a message of {len(message)} bytes")
        if self._channel.readyState == "open" and self._closing is None:
            self._sctp.send(message)

    async def close(self) -> None:
        """Let go of everything, within 2 s. Safe to call again."""
        if self._closing is None:
            self._verdict = self.verdict()  # closing forgets how far it came
            self._inbox.clear()
            self._found.set()  # nothing more is found
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _gather(self, setup: str) -> None:
        """Until there is a first candidate to tell; asking servers goes on."""
        try:
            await self._connection.bind()
            self._connection.begin_gathering()
            await asyncio.sleep(0)  # where there is nobody to ask, that was all
            while not self._connection.offered and not self._connection.is_gathered:
                await self._found.wait()
                self._found.clear()
        except BaseException:
            await self.close()
            raise
        if not self._connection.offered:
            await self.close()
            raise PeerUnreachable(f"No connection: {self.verdict()}.")
        self._found.clear()
        self.local = Description(
            fingerprint=self.own_fingerprint,
            ufrag=self._connection.local_username,
            pwd=self._connection.local_password,
            setup=setup,
            candidates=self._connection.offered,
            is_complete=self._connection.is_gathered,
        )

    def _start(self, remote: Description) -> None:
        if remote.is_complete:
            reachable(remote.candidates, self._policy)  # raises when nothing is
        self._announced = remote.fingerprint
        self.add(remote.candidates, is_complete=remote.is_complete)
        self._spawn(self._connect(remote))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._loop.create_task(work))

    async def _connect(self, remote: Description) -> None:
        try:
            if not await self._stack.connect(self.local.setup, remote):
                self._lost(self.verdict())
        except Exception as error:
            log.exception("connecting failed")
            self._lost(f"connecting failed ({type(error).__name__})")

    def _listen(self) -> None:
        self._channel.on("open", self._on_open)
        self._channel.on("close", lambda: self._lost("the peer closed the path"))
        self._sctp.on_message = self._received
        self._sctp.on_low = lambda: self.on_low()
        self._sctp.on_abuse = self._lost
        self._stack.dtls.on("statechange", self._on_dtls)
        self._stack.ice.on("statechange", self._on_ice)

    def _on_open(self) -> None:
        if not self._opened.done():
            log.debug("open: %s", self.candidates)
            self._opened.set_result(None)

    def _on_dtls(self) -> None:
        if self._stack.is_ended:
            is_ended = self._connection.is_ended
            self._lost(NO_ANSWER if is_ended else "the peer closed the path")

    def _on_ice(self) -> None:
        if self._stack.is_failed and self._opened.done():
            self._lost(NO_ANSWER)

    def _lost(self, reason: str) -> None:
        if self._lost_why is not None or self._closing is not None:
            return
        self._lost_why = reason
        if not self._opened.done():
            self._opened.set_exception(PeerUnreachable(f"No connection: {reason}."))
            self._opened.exception()  # seen by whoever waits in opened, if anyone
        elif self._on_closed is not None:
            self._on_closed(reason)

    def _received(self, message: bytes) -> None:
        if len(message) > MESSAGE_MAX:
            self._lost("the peer sent what is no message of ours")
        elif self._lost_why is not None or self._closing is not None:
            return
        elif not self._inbox.take(message):
            self._lost("the peer sent too much before it was heard")

    def _stage(self) -> Stage:
        if not self._connection.offered:
            return Stage.ADDRESS
        if self._announced is None:
            return Stage.ANSWER
        stage = self._stack.stage(self._announced)
        is_open = stage is Stage.CHANNEL and self._opened.done()
        return Stage.PROOF if is_open else stage

    async def _close(self) -> None:
        if not self._opened.done():
            self._opened.set_exception(PeerUnreachable("The connection was closed."))
            self._opened.exception()
        self._pair = self.selected  # closing forgets it
        try:
            async with asyncio.timeout(CLOSE_S):
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self._stack.stop()
        except TimeoutError:
            log.warning("a peer connection did not close within %g s", CLOSE_S)


def _unheard(said: object) -> None:
    """Nobody listens yet."""
