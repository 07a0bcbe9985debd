"""Our ICE connection: which addresses are offered, which packets are let in.

A subclass of aioice's (0.13), whose private parts are touched here and nowhere else
(docs/decisions/). It differs in four ways: every STUN and TURN server is asked, and
silent ones cost little; strangers' packets are dropped before they are queued; virtual
interfaces are left out; this machine alone is enough for two peers on it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import aioice
import aioice.ice
import aioice.stun
import ifaddr
from aiortc.rtcicetransport import parse_stun_turn_uri

from meshllm.errors import ConfigError
from meshllm.protocol.description import CANDIDATES_MAX, Candidate

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LOOPBACK_ENV = "MESHLLM_LOOPBACK"
VIRTUAL = ("docker", "br-", "veth", "virbr")  # no peer is reached through these
HOSTS_MAX = 8
STUN_S = 1.0  # one lost request is repeated after 0.5 s; then we go without
RELAY_S = 4.0  # until the first relay has answered
RELAY_STEP_S = 0.3  # UDP, TCP and TLS start this far apart while none has answered
RELEASE_S = 1.0  # to give relayed addresses back
QUEUE_PACKETS = 512
DTLS_FIRST = range(20, 64)  # RFC 7983: the first byte of a DTLS record
COMPONENT = 1


@dataclass(frozen=True, slots=True)
class IceServer:
    """STUN and TURN servers (RFC 7064, RFC 7065) that share one credential."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """The addresses of this machine: `usable` are offered, `own` are all there are."""

    usable: tuple[str, ...]
    own: frozenset[str]
    is_alone: bool
    """Loopback is used: there is nothing else, or MESHLLM_LOOPBACK=1 says so."""

    def hosts(self, remote: Sequence[Candidate] | None) -> list[str]:
        """What to offer: to anybody (None), or to the peer that has these addresses."""
        if self.is_alone and (remote is None or self.is_here(remote)):
            return [LOOPBACK]
        return list(self.usable[:HOSTS_MAX])

    def is_here(self, remote: Sequence[Candidate]) -> bool:
        """Whether the peer claims no address but ours."""
        return bool(remote) and all(
            is_loopback(c.host) or c.host in self.own for c in remote
        )

    def reachable(self, remote: Sequence[Candidate]) -> list[Candidate]:
        """Those worth trying. A peer elsewhere shall not aim us at our own loopback."""
        has_own = any(c.host in self.own and not is_loopback(c.host) for c in remote)
        wants_loopback = self.is_here(remote) and (self.is_alone or has_own)
        return [
            c
            for c in remote
            if c.transport == "udp" and (wants_loopback or not is_loopback(c.host))
        ]


def read_machine() -> Machine:
    """The addresses there are now."""
    found = [
        (adapter.name, str(ip.ip if isinstance(ip.ip, str) else ip.ip[0]))
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if isinstance(ip.ip, str) or ip.ip[2] == 0  # no fe80::1%eth0
    ]
    return choose(found, is_forced=os.environ.get(LOOPBACK_ENV) == "1")


def choose(found: Iterable[tuple[str, str]], *, is_forced: bool) -> Machine:
    """`found`: interface and address. Virtual interfaces count as our own only."""
    pairs = list(found)
    usable = [
        address
        for name, address in pairs
        if not name.startswith(VIRTUAL) and not is_loopback(address)
    ]
    usable.sort(key=_is_ipv4, reverse=True)  # many temporary IPv6 ones leave room
    own = frozenset(address for _, address in pairs)
    return Machine(tuple(usable), own, is_alone=is_forced or not usable)


def is_loopback(host: str) -> bool:
    """Names are not: who holds one is known only once it is resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Server:
    scheme: str
    address: tuple[str, int]
    transport: str
    username: str | None
    credential: str | None = field(repr=False)

    @property
    def delay_s(self) -> float:
        if self.scheme == "turns":
            return 2 * RELAY_STEP_S
        return RELAY_STEP_S if self.transport == "tcp" else 0.0


def _read_servers(servers: Sequence[IceServer]) -> list[_Server]:
    """Those we can use. ConfigError for a URL that is none."""
    found = []
    for server in servers:
        for url in server.urls:
            try:
                parts = parse_stun_turn_uri(url)
            except ValueError as exc:
                raise ConfigError(f"{url!r} is not a STUN or TURN URL.") from exc
            transport = parts.get("transport", "udp")
            if parts["scheme"] == "stuns" or transport not in ("udp", "tcp"):
                log.debug("%s is not used: no such transport here", url)
            elif parts["scheme"] == "turns" and transport == "udp":
                log.debug("%s is not used: no DTLS to relays here", url)
            else:
                address = (parts["host"], parts["port"])
                found.append(
                    _Server(
                        parts["scheme"],
                        address,
                        transport,
                        server.username,
                        server.credential,
                    )
                )
    return found


class IceConnection(aioice.Connection):
    """For one data channel. `hosts` are the local addresses to bind to."""

    def __init__(
        self, servers: Sequence[IceServer], hosts: Sequence[str], *, controlling: bool
    ) -> None:
        super().__init__(ice_controlling=controlling)
        self._hosts = list(hosts)
        self._servers = _read_servers(servers)
        self._is_heard = False
        self.dropped = 0

    @property
    def selected(self) -> tuple[aioice.Candidate, aioice.Candidate] | None:
        """The local and the remote candidate in use."""
        pair = self._nominated.get(COMPONENT)
        return None if pair is None else (pair.local_candidate, pair.remote_candidate)

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

    async def _ask_servers(self) -> None:
        bound = [
            protocol
            for protocol in self._protocols
            if _is_ipv4(protocol.local_candidate.host)
            and not is_loopback(protocol.local_candidate.host)
        ]
        stun = [
            asyncio.create_task(self._reflect(protocol, server))
            for server in self._servers
            if server.scheme == "stun"
            for protocol in bound
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

    async def _reflect(
        self, protocol: aioice.ice.StunProtocol, server: _Server
    ) -> None:
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

    async def _relay(self, server: _Server) -> bool:
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
        try:
            async with asyncio.timeout(RELEASE_S):
                await asyncio.gather(*(relay.close() for relay in relays))
        except TimeoutError:
            log.info("a relay did not confirm that its address is free again")


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


def _is_ipv4(host: str) -> bool:
    return ipaddress.ip_address(host).version == 4
