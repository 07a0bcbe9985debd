"""Our ICE connection: which addresses are offered, which packets are let in.

A subclass of aioice's (0.13), whose private parts are touched here and nowhere else
(docs/decisions/). It differs in this: every STUN and TURN server is asked, and silent
ones cost little; strangers' packets are dropped before they are queued; no relay takes
the place of a direct path; a check that a NAT swallowed is repeated at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import aioice
import aioice.ice
import aioice.stun
import aioice.turn

from meshllm.protocol.description import CANDIDATES_MAX, Candidate
from meshllm.transport.addresses import is_ipv4, is_loopback
from meshllm.transport.pair import COMPONENT, Pair, from_aioice, kind_of, to_aioice
from meshllm.transport.policy import Policy
from meshllm.transport.servers import IceServer, Server, read_servers

log = logging.getLogger(__name__)

STUN_S = 1.0  # one lost request is repeated after 0.5 s; then we go without
STUN_MORE_S = 0.2  # for other addresses, once one has its answer: they may lead nowhere
RELAY_S = 1.0  # until the first relay has answered
RELAY_ONLY_S = 3.0  # when it may be all we get: nothing answers over UDP
RELEASE_S = 1.0  # to give relayed addresses back
QUEUE_PACKETS = 512
PACKET_MAX = 1_600  # bytes; what carries a data channel keeps well below
# Names are asked for one second; after it the peer's own checks may still come in
# (RFC 8863), so that there is no hurry to say that these were all.
NAMED_S = 5.0
DTLS_FIRST = range(20, 64)  # RFC 7983: the first byte of a DTLS record


class IceConnection(aioice.Connection):
    """For one data channel. `hosts` are the local addresses to bind to."""

    def __init__(
        self,
        servers: Sequence[IceServer],
        hosts: Sequence[str],
        *,
        controlling: bool,
        policy: Policy = "all",
    ) -> None:
        is_hidden = policy == "relay"
        policies = aioice.TransportPolicy
        super().__init__(
            ice_controlling=controlling,
            transport_policy=policies.RELAY if is_hidden else policies.ALL,
        )
        self._policy = policy
        self._hosts = [] if is_hidden else list(hosts)
        self._servers = [
            server
            for server in read_servers(servers)
            if policy == "all" or server.is_relay == is_hidden
        ]
        self._checks: dict[aioice.ice.CandidatePair, aioice.stun.Message] = {}
        self._forbidden: set[tuple[str, int]] = set()
        self._is_heard = False
        self.dropped = 0
        self.on_packet: Callable[[bytes], None] | None = None

    @property
    def offered(self) -> tuple[Candidate, ...]:
        """What was gathered."""
        return tuple(from_aioice(candidate) for candidate in self._local_candidates)

    @property
    def selected(self) -> Pair | None:
        pair = self._nominated.get(COMPONENT)
        if pair is None:
            return None
        return Pair(
            from_aioice(pair.local_candidate), from_aioice(pair.remote_candidate)
        )

    @property
    def kind(self) -> str | None:
        """Of `selected`, without the rest: asked for with each answer."""
        if (pair := self._nominated.get(COMPONENT)) is None:
            return None
        return kind_of(pair.local_candidate.type, pair.remote_candidate.type)

    @property
    def is_ended(self) -> bool:
        """Closed, by us or because the peer stopped answering (RFC 7675)."""
        return self._closing

    async def gather_candidates(self) -> None:
        """Bind the hosts and ask the servers, which have about a second to answer."""
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        # With no server set upstream only binds, which is what we want of it.
        self._local_candidates += await self.get_component_candidates(
            COMPONENT, self._hosts
        )
        for protocol in self._protocols:
            self._spare(protocol)
        await self._ask_servers()
        del self._local_candidates[CANDIDATES_MAX:]
        self._local_candidates_end = True

    async def add(self, remote: Sequence[Candidate]) -> None:
        """All that the peer has. Names are asked for meanwhile: it may take NAMED_S."""
        if self._policy == "direct":
            self._forbidden = {(c.host, c.port) for c in remote if c.kind == "relay"}
            remote = [c for c in remote if c.kind != "relay"]
        named = [candidate for candidate in remote if candidate.is_named]
        for candidate in remote:
            if not candidate.is_named:
                await self.add_remote_candidate(to_aioice(candidate))
        if named:
            async with asyncio.TaskGroup() as group:
                for candidate in named:
                    group.create_task(self._add_named(candidate))
                group.create_task(asyncio.sleep(NAMED_S))
        await self.add_remote_candidate(None)

    async def _add_named(self, candidate: Candidate) -> None:
        try:
            await self.add_remote_candidate(to_aioice(candidate))
        except Exception as error:  # also what the DNS library makes of an answer
            log.debug("%s was not resolved: %s", candidate.host, error)

    async def _ask_servers(self) -> None:
        stun = {
            asyncio.create_task(self._reflect(protocol, server)): protocol
            for server in self._servers
            for protocol in self._protocols
            if not server.is_relay
            and _can_reflect(protocol.local_candidate.host, server)
        }
        relays = {
            asyncio.create_task(self._relay(server)): self
            for server in self._servers
            if server.is_relay
        }
        try:
            has_udp, has_relay = await asyncio.gather(
                _answered(stun, STUN_S, STUN_MORE_S), _answered(relays, RELAY_S)
            )
            is_needed = bool(stun) or not self._protocols
            if is_needed and not has_udp and not has_relay:
                await _answered(relays, RELAY_ONLY_S - RELAY_S)
        finally:
            tasks = [*stun, *relays]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _reflect(self, protocol: aioice.ice.StunProtocol, server: Server) -> bool:
        """True once the server has told how the outside sees this address."""
        try:
            candidate, _ = await aioice.ice.server_reflexive_candidate(
                protocol, server.address
            )
        except (aioice.stun.TransactionError, OSError, KeyError, ValueError) as error:
            log.debug("no answer from STUN server %s: %s", server.address, error)
            return False
        known = {(c.host, c.port) for c in self._local_candidates}
        if (candidate.host, candidate.port) not in known:
            self._local_candidates.append(candidate)
        return True

    async def _relay(self, server: Server) -> bool:
        """True once the server has given us an address."""
        await asyncio.sleep(server.delay_s)
        try:
            candidate, protocol = await aioice.ice.relayed_candidate(
                component=COMPONENT,
                hide_related_address=self._policy == "relay",
                protocol_factory=lambda: aioice.ice.StunProtocol(self),
                turn_server=server.address,
                turn_username=server.username,
                turn_password=server.credential,
                turn_ssl=server.scheme == "turns",
                turn_transport=server.transport,
            )
        except (aioice.stun.TransactionError, OSError, ValueError) as error:
            log.info("no relay from TURN server %s: %s", server.address, error)
            return False
        self._protocols.append(protocol)
        self._local_candidates.append(candidate)
        return True

    def check_incoming(
        self,
        message: aioice.stun.Message,
        addr: tuple[str, int],
        protocol: aioice.ice.StunProtocol,
    ) -> None:
        if addr in self._forbidden:
            return
        # Its sender knows our password. Its DTLS may arrive before our own check is
        # answered; dropping that would cost a second.
        self._is_heard = True
        super().check_incoming(message, addr, protocol)
        self._check_again(addr, protocol)

    def _check_again(
        self, addr: tuple[str, int], protocol: aioice.ice.StunProtocol
    ) -> None:
        """RFC 8445 §7.3.1.4: what the peer's NAT dropped may pass now that it has sent.

        The same request once more, so that the answer to either will do.
        """
        for pair, check in self._checks.items():
            is_waiting = check.transaction_id in protocol.transactions
            if is_waiting and pair.protocol is protocol and pair.remote_addr == addr:
                protocol.send_stun(check, addr)

    def build_request(
        self, pair: aioice.ice.CandidatePair, nominate: bool
    ) -> aioice.stun.Message:
        check = self._checks[pair] = super().build_request(pair, nominate)
        return check

    def check_complete(self, pair: aioice.ice.CandidatePair) -> None:
        if pair.state == aioice.ice.CandidatePair.State.SUCCEEDED:
            self._is_heard = True
        former = self._nominated.get(COMPONENT)
        super().check_complete(pair)
        # Upstream takes whichever pair was nominated last.
        if former and _is_relayed(pair) and not _is_relayed(former):
            self._nominated[COMPONENT] = former

    def _check_periodic(self) -> bool:
        """False once every pair has its check: connect() then awaits the outcome.

        Upstream sleeps 20 ms first, also when that was the only pair.
        """
        state = aioice.ice.CandidatePair.State
        return super()._check_periodic() and (
            self._remote_candidates_expected()
            or any(
                pair.task is None and pair.state in (state.FROZEN, state.WAITING)
                for pair in self._check_list
            )
        )

    def _spare(self, protocol: aioice.ice.StunProtocol) -> None:
        """Upstream reads each packet as STUN first, and fails by an exception."""
        read = protocol.datagram_received

        def received(data: bytes | str, addr: tuple[Any, ...]) -> None:
            if isinstance(data, bytes) and data and data[0] in DTLS_FIRST:
                self.data_received(data, COMPONENT)
            else:
                read(data, addr)

        protocol.datagram_received = received  # type: ignore[method-assign]

    def data_received(self, data: bytes, component: int) -> None:
        """What is not STUN. Upstream queues it all, whoever sent it."""
        if (
            not self._is_heard
            or not data
            or data[0] not in DTLS_FIRST
            or len(data) > PACKET_MAX
            or self._queue.qsize() >= QUEUE_PACKETS
        ):
            self.dropped += 1
        elif self.on_packet is not None and self._queue.empty():
            self.on_packet(data)
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
        relays = [p for p in self._protocols if p.local_candidate.type == "relay"]
        self._protocols = [p for p in self._protocols if p not in relays]
        await super().close()
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


async def _answered(
    tasks: Mapping[asyncio.Task[bool], object], most_s: float, more_s: float = 0.0
) -> bool:
    """Wait for a True for each value: `more_s` after the first, `most_s` in all."""
    loop = asyncio.get_running_loop()
    until = loop.time() + most_s
    waiting = dict(tasks)
    has_answer = False
    while waiting and (left := until - loop.time()) > 0:
        done, _ = await asyncio.wait(
            waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        answered = [waiting[task] for task in done if task.result()]
        waiting = {
            task: of
            for task, of in waiting.items()
            if task not in done and of not in answered
        }
        if answered and not has_answer:
            has_answer = True
            until = min(until, loop.time() + more_s)
    return has_answer


def _is_relayed(pair: aioice.ice.CandidatePair) -> bool:
    return "relay" in (pair.local_candidate.type, pair.remote_candidate.type)


def _can_reflect(host: str, server: Server) -> bool:
    """aioice asks over IPv4 only; from 127.0.0.1 nothing leaves the machine."""
    return is_ipv4(host) and (not is_loopback(host) or is_loopback(server.address[0]))
