"""Our ICE connection: which addresses are offered, which packets are let in.

A subclass of aioice's (0.13), whose private parts are touched here and nowhere else
(docs/decisions/). It differs in four ways: every STUN and TURN server is asked, and
silent ones cost little; strangers' packets are dropped before they are queued; virtual
interfaces are left out; this machine alone is enough for two peers on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import aioice
import aioice.ice
import aioice.stun
import aioice.turn

from meshllm.protocol.description import CANDIDATES_MAX, Candidate
from meshllm.transport.addresses import is_ipv4, is_loopback
from meshllm.transport.servers import IceServer, Server, read_servers

log = logging.getLogger(__name__)

STUN_S = 1.0  # one lost request is repeated after 0.5 s; then we go without
RELAY_S = 4.0  # until the first relay has answered
RELEASE_S = 1.0  # to give relayed addresses back
QUEUE_PACKETS = 512
# Names are asked for one second; after it the peer's own checks may still come in
# (RFC 8863), so that there is no hurry to say that these were all.
NAMED_S = 5.0
DTLS_FIRST = range(20, 64)  # RFC 7983: the first byte of a DTLS record
COMPONENT = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """The addresses in use at both ends."""

    local: Candidate
    remote: Candidate

    @property
    def kind(self) -> str:
        """`relay` when either side is relayed; else how the peer is reached."""
        return "relay" if self.local.kind == "relay" else self.remote.kind

    @property
    def names(self) -> dict[str, str]:
        return {"local": _name(self.local), "remote": _name(self.remote)}


class IceConnection(aioice.Connection):
    """For one data channel. `hosts` are the local addresses to bind to."""

    def __init__(
        self, servers: Sequence[IceServer], hosts: Sequence[str], *, controlling: bool
    ) -> None:
        super().__init__(ice_controlling=controlling)
        self._hosts = list(hosts)
        self._servers = read_servers(servers)
        self._is_heard = False
        self.dropped = 0

    @property
    def offered(self) -> tuple[Candidate, ...]:
        """What was gathered."""
        return tuple(_from_aioice(candidate) for candidate in self._local_candidates)

    @property
    def selected(self) -> Pair | None:
        pair = self._nominated.get(COMPONENT)
        if pair is None:
            return None
        return Pair(
            _from_aioice(pair.local_candidate), _from_aioice(pair.remote_candidate)
        )

    @property
    def is_ended(self) -> bool:
        """Closed, by us or because the peer stopped answering (RFC 7675)."""
        return self._closing

    async def gather_candidates(self) -> None:
        """Bind the hosts and ask the servers; each at most STUN_S or RELAY_S."""
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        # With no server set upstream only binds, which is what we want of it.
        self._local_candidates += await self.get_component_candidates(
            COMPONENT, self._hosts
        )
        await self._ask_servers()
        del self._local_candidates[CANDIDATES_MAX:]
        self._local_candidates_end = True

    async def add(self, remote: Sequence[Candidate]) -> None:
        """All that the peer has. Names are asked for meanwhile: it may take NAMED_S."""
        named = [candidate for candidate in remote if candidate.is_named]
        for candidate in remote:
            if not candidate.is_named:
                await self.add_remote_candidate(_to_aioice(candidate))
        if named:
            async with asyncio.TaskGroup() as group:
                for candidate in named:
                    group.create_task(self._add_named(candidate))
                group.create_task(asyncio.sleep(NAMED_S))
        await self.add_remote_candidate(None)

    async def _add_named(self, candidate: Candidate) -> None:
        try:
            await self.add_remote_candidate(_to_aioice(candidate))
        except Exception as error:  # also what the DNS library makes of an answer
            log.debug("%s was not resolved: %s", candidate.host, error)

    async def _ask_servers(self) -> None:
        stun = [
            asyncio.create_task(self._reflect(protocol, server))
            for server in self._servers
            for protocol in self._protocols
            if server.scheme == "stun"
            and _can_reflect(protocol.local_candidate.host, server)
        ]
        relays = [
            asyncio.create_task(self._relay(server))
            for server in self._servers
            if server.scheme in ("turn", "turns")
        ]
        try:
            await asyncio.gather(_first(relays), _all(stun))
        finally:
            for task in stun + relays:
                task.cancel()
            await asyncio.gather(*stun, *relays, return_exceptions=True)

    async def _reflect(self, protocol: aioice.ice.StunProtocol, server: Server) -> None:
        try:
            candidate, _ = await aioice.ice.server_reflexive_candidate(
                protocol, server.address
            )
        except (aioice.stun.TransactionError, OSError, KeyError) as error:
            log.debug("no answer from STUN server %s: %s", server.address, error)
            return
        known = {(c.host, c.port) for c in self._local_candidates}
        if (candidate.host, candidate.port) not in known:
            self._local_candidates.append(candidate)

    async def _relay(self, server: Server) -> bool:
        """True once the server has given us an address."""
        await asyncio.sleep(server.delay_s)
        try:
            candidate, protocol = await aioice.ice.relayed_candidate(
                component=COMPONENT,
                hide_related_address=False,
                protocol_factory=lambda: aioice.ice.StunProtocol(self),
                turn_server=server.address,
                turn_username=server.username,
                turn_password=server.credential,
                turn_ssl=server.scheme == "turns",
                turn_transport=server.transport,
            )
        except (aioice.stun.TransactionError, OSError) as error:
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
        # Its sender knows our password. Its DTLS may arrive before our own check is
        # answered; dropping that would cost a second.
        self._is_heard = True
        super().check_incoming(message, addr, protocol)

    def check_complete(self, pair: aioice.ice.CandidatePair) -> None:
        if pair.state == aioice.ice.CandidatePair.State.SUCCEEDED:
            self._is_heard = True
        super().check_complete(pair)

    def data_received(self, data: bytes, component: int) -> None:
        """What is not STUN. Upstream queues it all, whoever sent it."""
        if (
            not self._is_heard
            or not data
            or data[0] not in DTLS_FIRST
            or self._queue.qsize() >= QUEUE_PACKETS
        ):
            self.dropped += 1
            return
        super().data_received(data, component)

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


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=STUN_S)


async def _first(tasks: Sequence[asyncio.Task[bool]]) -> None:
    """Until one relay has answered, or none will."""
    loop = asyncio.get_running_loop()
    until = loop.time() + RELAY_S
    waiting = set(tasks)
    while waiting and (left := until - loop.time()) > 0:
        done, waiting = await asyncio.wait(
            waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        if any(task.result() for task in done):
            return


def _can_reflect(host: str, server: Server) -> bool:
    """aioice asks over IPv4 only; from 127.0.0.1 nothing leaves the machine."""
    return is_ipv4(host) and (not is_loopback(host) or is_loopback(server.address[0]))


def _to_aioice(candidate: Candidate) -> aioice.Candidate:
    return aioice.Candidate(
        foundation=candidate.foundation,
        component=COMPONENT,
        transport=candidate.transport,
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        type=candidate.kind,
        related_address=candidate.related_host,
        related_port=candidate.related_port,
    )


def _from_aioice(candidate: aioice.Candidate) -> Candidate:
    return Candidate(
        foundation=candidate.foundation,
        transport=candidate.transport,
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        kind=candidate.type,
        related_host=candidate.related_address,
        related_port=candidate.related_port,
    )


def _name(candidate: Candidate) -> str:
    host = f"[{candidate.host}]" if ":" in candidate.host else candidate.host
    return f"{candidate.kind} {host}:{candidate.port}"
