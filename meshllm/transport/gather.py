"""Asks STUN and TURN servers for the addresses under which the outside reaches us.

All are asked that are worth it (`health`), and it ends as soon as it has enough: an
offer waits for this. aioice's parts are its own functions (0.13).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import aioice
import aioice.ice
import aioice.stun

from meshllm.transport.addresses import is_ipv4, is_loopback
from meshllm.transport.health import Health
from meshllm.transport.pair import COMPONENT
from meshllm.transport.servers import Server

log = logging.getLogger(__name__)

STUN_S = 1.0  # one lost request is repeated after 0.5 s; then we go without
STUN_MORE_S = 0.2  # for other addresses, once one has its answer: they may lead nowhere
STUN_AFTER_TCP_S = 0.25  # a relay over TCP came first: UDP is probably blocked
RELAY_S = 1.0  # until the first relay has answered
RELAY_ONLY_S = 3.0  # when it may be all we get: nothing answers over UDP
SILENT = "no answer"


@dataclass(slots=True)
class _Question:
    """One server, asked from one of our addresses or, a relay, from none."""

    server: Server
    protocol: aioice.ice.StunProtocol | None
    delay_s: float

    @property
    def patience_s(self) -> float:
        """Silent for so long, it counts as dead."""
        return self.delay_s + (STUN_S if self.protocol else RELAY_S)


class Gathering:
    """One round. `on_found` hears of each candidate, a relay's with its transport."""

    def __init__(
        self,
        protocols: Sequence[aioice.ice.StunProtocol],
        servers: Sequence[Server],
        health: Health,
        *,
        protocol_factory: Callable[[], aioice.ice.StunProtocol],
        hide_related: bool,
        on_found: Callable[[aioice.Candidate, aioice.ice.StunProtocol | None], None],
    ) -> None:
        self._on_found = on_found
        self._known = {_address(protocol.local_candidate) for protocol in protocols}
        self._health = health
        self._factory = protocol_factory
        self._hide_related = hide_related
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._questions = [
            _Question(server, protocol, delay_s)
            for server, delay_s in health.plan(servers, self._began)
            for protocol in ([None] if server.is_relay else protocols)
            if protocol is None or _can_reflect(protocol.local_candidate.host, server)
        ]
        # Where STUN could tell and does not, UDP may be blocked and a relay is all.
        self._needs_relay = not protocols or any(not s.is_relay for s in servers)
        self._reflected: dict[aioice.ice.StunProtocol, float] = {}  # when
        self._relayed: tuple[str, float] | None = None  # over what, when
        self._answered: set[Server] = set()

    async def run(self, *, is_thorough: bool = False) -> None:
        """Until there is enough, or, thorough, until each has answered or is silent."""
        waiting = {
            asyncio.create_task(self._ask(question)): question
            for question in self._questions
        }
        try:
            while waiting:
                left = self._until(waiting.values(), is_thorough) - self._loop.time()
                if left <= 0:
                    break
                done, _ = await asyncio.wait(
                    waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del waiting[task]
                    task.result()
        finally:
            self._note_silent(waiting.values())
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _until(self, waiting: Collection[_Question], is_thorough: bool) -> float:
        """When to stop, as far as is known now."""
        times = [self._began]
        if is_thorough:
            times += [self._began + RELAY_ONLY_S]
        if any(q.protocol and q.protocol not in self._reflected for q in waiting):
            times.append(self._until_reflected())
        if self._relayed is None and any(q.protocol is None for q in waiting):
            is_all = self._needs_relay and not self._reflected
            times.append(self._began + (RELAY_ONLY_S if is_all else RELAY_S))
        return max(times)

    def _until_reflected(self) -> float:
        if self._reflected:
            return min(self._reflected.values()) + STUN_MORE_S
        until = self._began + STUN_S
        if self._relayed is not None and self._relayed[0] != "udp":
            until = min(until, self._relayed[1] + STUN_AFTER_TCP_S)
        return until

    def _note_silent(self, waiting: Collection[_Question]) -> None:
        now = self._loop.time()
        for question in waiting:
            is_late = now - self._began >= question.patience_s
            if is_late and question.server not in self._answered:
                self._health.failed(question.server, SILENT, now)

    async def _ask(self, question: _Question) -> None:
        await asyncio.sleep(question.delay_s)
        began = self._loop.time()
        server = question.server
        try:
            if question.protocol is not None:
                await self._reflect(question.protocol, server)
            else:
                await self._relay(server)
        except (aioice.stun.TransactionError, OSError, KeyError, ValueError) as error:
            why = str(error) or type(error).__name__
            log.debug("no answer from %s: %s", server.url, why)
            if server not in self._answered:  # from another of our addresses it did
                self._health.failed(server, why, self._loop.time())
        else:
            now = self._loop.time()
            self._answered.add(server)
            self._health.answered(server, now - began, now)

    async def _reflect(self, protocol: aioice.ice.StunProtocol, server: Server) -> None:
        """How the outside sees this address."""
        candidate, _ = await aioice.ice.server_reflexive_candidate(
            protocol, server.address
        )
        self._reflected.setdefault(protocol, self._loop.time())
        if _address(candidate) not in self._known:
            self._known.add(_address(candidate))
            self._on_found(candidate, None)

    async def _relay(self, server: Server) -> None:
        """An address at the server."""
        candidate, protocol = await aioice.ice.relayed_candidate(
            component=COMPONENT,
            hide_related_address=self._hide_related,
            protocol_factory=self._factory,
            turn_server=server.address,
            turn_username=server.username,
            turn_password=server.credential,
            turn_ssl=server.scheme == "turns",
            turn_transport=server.transport,
        )
        self._relayed = self._relayed or (server.over, self._loop.time())
        self._on_found(candidate, protocol)


def _address(candidate: aioice.Candidate) -> tuple[str, int]:
    return candidate.host, candidate.port


def _can_reflect(host: str, server: Server) -> bool:
    """aioice asks over IPv4 only; from 127.0.0.1 nothing leaves the machine."""
    return is_ipv4(host) and (not is_loopback(host) or is_loopback(server.address[0]))
