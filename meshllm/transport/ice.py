"""Our ICE connection: from addresses to a path, and which packets are let in.

A subclass of aioice's (0.13), whose private parts are touched here and in `checks` only
(docs/decisions/0004). It differs in this: every STUN and TURN server counts (`gather`);
strangers' packets are dropped before they are queued; other pairs are tried, and used
(`checks`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import aioice
import aioice.ice
import aioice.stun
import aioice.turn

from meshllm.protocol.description import CANDIDATES_MAX, Candidate
from meshllm.transport.checks import Checks
from meshllm.transport.gather import Gathering
from meshllm.transport.health import Health
from meshllm.transport.pair import COMPONENT, from_aioice, to_aioice
from meshllm.transport.policy import Policy
from meshllm.transport.servers import IceServer, read_servers
from meshllm.transport.verdict import Asked

log = logging.getLogger(__name__)

SETTLE_S = 5.0  # the peer may send on for a moment through what it used before
RELEASE_S = 1.0  # to give relayed addresses back
QUEUE_PACKETS = 512
PACKET_MAX = 1_600  # bytes; what carries a data channel keeps well below
# Names are asked for one second; after it the peer's own checks may still come in
# (RFC 8863), so that there is no hurry to say that these were all.
NAMED_S = 5.0
DTLS_FIRST = range(20, 64)  # RFC 7983: the first byte of a DTLS record


class IceConnection(Checks):
    """For one data channel. `hosts` are the local addresses to bind to."""

    def __init__(
        self,
        servers: Sequence[IceServer],
        hosts: Sequence[str],
        *,
        controlling: bool,
        policy: Policy = "all",
        health: Health | None = None,
    ) -> None:
        is_hidden = policy == "relay"
        policies = aioice.TransportPolicy
        super().__init__(
            controlling=controlling,
            transport_policy=policies.RELAY if is_hidden else policies.ALL,
        )
        self._policy = policy
        self._is_at = list(hosts)
        self._hosts = [] if is_hidden else self._is_at
        self._servers = [
            server
            for server in read_servers(servers)
            if policy == "all" or server.is_relay == is_hidden
        ]
        self._health = health or Health()
        self._gathering: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._has_names = False
        self.on_candidate: Callable[[], None] = lambda: None
        self.dropped = 0
        self.on_packet: Callable[[bytes], None] | None = None

    @property
    def offered(self) -> tuple[Candidate, ...]:
        """What was gathered."""
        return tuple(from_aioice(candidate) for candidate in self._local_candidates)

    @property
    def asked(self) -> tuple[Asked, ...]:
        """Which servers there are for us, and whether they answered."""
        return tuple(
            Asked(server.over, server.is_relay, self._health.has_answered(server))
            for server in self._servers
        )

    @property
    def is_ended(self) -> bool:
        """Closed, by us or because the peer stopped answering (RFC 7675)."""
        return self._closing

    async def bind(self) -> None:
        """Take the hosts' addresses: the first candidates, to be offered at once."""
        self._local_candidates_start = True
        # With no server set upstream only binds, which is what we want of it.
        self._local_candidates += await self.get_component_candidates(
            COMPONENT, self._hosts
        )
        for protocol in self._protocols:
            self._spare(protocol)

    def begin_gathering(self) -> None:
        """`gather`, until it ends by itself or a direct pair makes it needless."""
        self._gathering = asyncio.create_task(self.gather())

    async def gather(self, *, is_thorough: bool = False) -> None:
        """Ask the servers, until there is enough or, thorough, each has answered.

        What they tell is added to `offered` and to the pairs that are tried, while
        this runs; `on_candidate` is told.
        """
        if self._servers:  # on the LAN nobody is asked, from the addresses of the LAN
            self._health.at(self._is_at)
        gathering = Gathering(
            list(self._protocols),
            self._servers,
            self._health,
            protocol_factory=lambda: aioice.ice.StunProtocol(self),
            hide_related=self._policy == "relay",
            on_found=self._on_found,
        )
        try:
            await gathering.run(is_thorough=is_thorough)
        finally:
            self._local_candidates_end = True
            self._news.set()
            self.on_candidate()
        if self._early_checks_done and not self._check_list_maybe_complete():
            self._check_list_maybe_fail()

    @property
    def is_gathered(self) -> bool:
        return self._local_candidates_end

    def _on_found(
        self, candidate: aioice.Candidate, relay: aioice.ice.StunProtocol | None
    ) -> None:
        if relay is not None:
            self._protocols.append(relay)
            self._spare(relay)
            for remote in self._remote_candidates:
                self._pair_remote_candidate(remote)
            self.sort_check_list()
            self._news.set()
        if len(self._local_candidates) < CANDIDATES_MAX:
            self._local_candidates.append(candidate)
            self.on_candidate()

    def _remote_candidates_expected(self) -> bool:
        """Upstream tries pairs, and does not give up, while more may come; ours too."""
        return not self._local_candidates_end or super()._remote_candidates_expected()

    async def add(self, remote: Sequence[Candidate], *, is_all: bool) -> None:
        """What the peer has. Names are asked for meanwhile: it may take NAMED_S."""
        if self._policy == "direct":
            self._forbidden |= {(c.host, c.port) for c in remote if c.kind == "relay"}
            remote = [c for c in remote if c.kind != "relay"]
        named = [candidate for candidate in remote if candidate.is_named]
        self._has_names = self._has_names or bool(named)
        for candidate in remote:
            if not candidate.is_named:
                await self.add_remote_candidate(to_aioice(candidate))
        self._news.set()
        async with asyncio.TaskGroup() as group:
            for candidate in named:
                group.create_task(self._add_named(candidate))
            if is_all and self._has_names:
                group.create_task(asyncio.sleep(NAMED_S))
        if is_all and not self._remote_candidates_end:
            await self.add_remote_candidate(None)
            self._news.set()

    async def _add_named(self, candidate: Candidate) -> None:
        try:
            await self.add_remote_candidate(to_aioice(candidate))
        except Exception as error:  # also what the DNS library makes of an answer
            log.debug("%s was not resolved: %s", candidate.host, error)
        self._news.set()

    async def connect(self) -> None:
        """Until there is a pair to send on. ConnectionError when none works.

        Upstream's, but that it need not wait for all of our own candidates, and that
        behind a relay the checks of direct pairs go on.
        """
        if self.remote_username is None or self.remote_password is None:
            raise ConnectionError("Remote username or password is missing")
        for candidate in self._remote_candidates:
            self._pair_remote_candidate(candidate)
        self.sort_check_list()
        self._unfreeze_initial()
        for early_check in self._early_checks:
            self.check_incoming(*early_check)
        self._early_checks.clear()
        self._early_checks_done = True
        while self._check_periodic():
            await self._next_turn()
        if self._check_list:
            await self._check_list_state.get()
        if not self._nominated:
            self._end_checks()
            raise ConnectionError("ICE negotiation failed")
        self._query_consent_task = asyncio.create_task(self.query_consent())
        self._settling = asyncio.create_task(self._settle())
        self._watching = asyncio.create_task(self._watch())

    async def _settle(self) -> None:
        """Behind a relay, look for better. With a direct pair, stop looking, and give
        our relays back for others to use."""
        await self._until_named()
        if self.kind == "relay":
            await self._improve()
        if self.kind == "relay":
            return
        self._end_checks()
        if self._gathering is not None:
            self._gathering.cancel()
        await asyncio.sleep(SETTLE_S)
        relays = [p for p in self._protocols if p.local_candidate.type == "relay"]
        self._protocols = [p for p in self._protocols if p not in relays]
        self._check_list = [p for p in self._check_list if p.protocol not in relays]
        await asyncio.gather(*(_release(relay) for relay in relays))

    async def _until_named(self) -> None:
        """A check may arrive before the candidate that it comes from: what looks like a
        peer behind another NAT may turn out to be its relay."""
        try:
            async with asyncio.timeout(NAMED_S):
                while self._is_unnamed(self._nominated.get(COMPONENT)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            log.debug("the peer did not say which candidates are all of its own")

    def _spare(self, protocol: aioice.ice.StunProtocol) -> None:
        """Upstream reads each packet as STUN first, and fails by an exception. That it
        cannot send, because our address is gone, it only logs."""
        read = protocol.datagram_received

        def received(data: bytes | str, addr: tuple[Any, ...]) -> None:
            if isinstance(data, bytes) and data and data[0] in DTLS_FIRST:
                self._pulse.hear()
                self.data_received(data, COMPONENT)
            else:
                read(data, addr)

        def failed(exc: Exception) -> None:
            pair = self._nominated.get(COMPONENT)
            if pair is not None and pair.protocol is protocol:
                self._stall(f"sending fails ({exc})")

        protocol.datagram_received = received  # type: ignore[method-assign]
        protocol.error_received = failed  # type: ignore[method-assign]

    def data_received(self, data: bytes, component: int) -> None:
        """What is not STUN. Upstream queues it all, whoever sent it."""
        if (
            not self._is_heard
            or not data
            or data[0] not in DTLS_FIRST
            or len(data) > PACKET_MAX
        ):
            self.dropped += 1
        elif self.on_packet is not None and self._queue.empty():
            self.on_packet(data)
        elif self._queue.qsize() >= QUEUE_PACKETS:
            self.dropped += 1
        else:
            super().data_received(data, component)

    def send_now(self, data: bytes) -> None:
        """ConnectionError before there is a path. Upstream's `send` without waiting."""
        pair = self._nominated.get(COMPONENT)
        if pair is None:
            raise ConnectionError("no path to the peer")
        pair.protocol.transport.sendto(data, pair.remote_addr)

    def end(self) -> None:
        """Whoever reads the queue learns that nothing more comes."""
        self._queue.put_nowait(None)

    async def close(self) -> None:
        """Within about RELEASE_S, also when a relay does not answer any more."""
        if self._patience is not None:
            self._patience.cancel()
        begun = (self._gathering, self._settling, self._watching)
        ours = [task for task in begun if task is not None]
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        relays = [p for p in self._protocols if p.local_candidate.type == "relay"]
        self._protocols = [p for p in self._protocols if p not in relays]
        await super().close()
        self._news.set()  # whoever connects sees that it is over
        await asyncio.gather(*(_release(relay) for relay in relays))


async def _release(relay: aioice.ice.StunProtocol) -> None:
    """Give the relayed address back. Upstream's close() cannot be cut short."""
    transport = cast(aioice.turn.TurnTransport, relay.transport)
    try:
        async with asyncio.timeout(RELEASE_S):
            await transport._close()
    except TimeoutError:
        log.info("a relay did not confirm that its address is free again")
    await relay.close()  # has nothing to ask any more
