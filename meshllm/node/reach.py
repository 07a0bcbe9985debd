"""The ways from this node to others: over the LAN where it is there, else by a hub."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from meshllm.errors import MeshError, PeerGone, PeerUnreachable
from meshllm.nearby import Nearby
from meshllm.routing.roster import Provider
from meshllm.transport.introduce import Introduced, Introducer
from meshllm.transport.peer import IceServer
from meshllm.transport.signaling import SignalingClient

log = logging.getLogger(__name__)

AWAY_S = 3.0  # a signaling server that is restarted is back by then
LAN_S = 1.5  # a path on the LAN takes 0.1 s; then the server introduces us

Run: TypeAlias = Callable[[Coroutine[Any, Any, None], str], None]
"""In a task that ends with the node; with its name."""


@dataclass(slots=True)
class Hub:
    """What the signaling server last told us."""

    connected: bool = False
    logins: int = 0  # after none, or after a loss
    reason: str | None = None
    servers: tuple[IceServer, ...] = ()
    since: float = field(default_factory=time.time)

    def turn(self, connected: bool, reason: str | None) -> None:
        """The connection to it has come, or ended."""
        self.logins += connected and not self.connected
        self.connected, self.reason = connected, reason
        self.since = time.time()


class Reach:
    """`signaling` and `nearby` are None while there is none."""

    def __init__(self, introducer: Introducer) -> None:
        self.hub = Hub()
        self.signaling: SignalingClient | None = None
        self.nearby: Nearby | None = None
        self.welcomed = asyncio.Event()  # the server's roster has come
        self.dials = self.failed_dials = 0
        self._introducer = introducer

    async def joined(self, timeout_s: float) -> None:
        """As Node.joined."""
        nearby = self.nearby
        if self.signaling is None:
            if nearby is not None:
                await nearby.looked()
            return
        welcomed = asyncio.ensure_future(self._welcomed(timeout_s))
        looked = asyncio.ensure_future(nearby.looked()) if nearby else welcomed
        try:
            await asyncio.wait({welcomed, looked}, return_when=asyncio.FIRST_COMPLETED)
            if welcomed.done() or nearby is None or not nearby.has_providers:
                await welcomed
        except MeshError:
            if nearby is None or not nearby.has_providers:
                raise
        finally:
            welcomed.cancel()
            looked.cancel()

    async def _welcomed(self, timeout_s: float) -> None:
        if self.signaling is not None and not self.welcomed.is_set():
            await self.signaling.wait_connected(timeout_s)
            await self.welcomed.wait()

    def has_lan(self, provider: Provider) -> bool:
        return self.nearby is not None and self.nearby.knows(provider.announcement)

    async def dial(self, provider: Provider) -> Introduced:
        """PeerUnreachable or NotAllowed, with why."""
        self.dials += 1
        try:
            return await self._dial(provider)
        except MeshError:
            self.failed_dials += 1
            raise

    async def _dial(self, provider: Provider) -> Introduced:
        target, nearby = provider.announcement, self.nearby
        way = nearby.way(target) if nearby is not None else None
        if way is not None and nearby is not None:
            limit_s = LAN_S if self.signaling is not None else None
            try:
                async with asyncio.timeout(limit_s):
                    return await self._introducer.dial(target, way, is_lan=True)
            except (PeerUnreachable, TimeoutError) as error:
                nearby.doubt(provider.id)
                log.info("%s was not reached on the LAN: %s", provider.name, error)
                if limit_s is None:
                    raise
        if self.signaling is None:
            raise PeerUnreachable(f"{provider.name} is not on this LAN now.")
        if not self.signaling.is_connected:
            await self.signaling.wait_connected(AWAY_S)
        return await self._introducer.dial(target, self.signaling.send)

    async def has_left(self, path: Introduced, unheard_s: float) -> bool:
        """Whether the signaling server says that a silent client's connection is gone.

        A server that we logged in to during the silence may have been restarted: that
        it does not know the client then proves nothing. Nor does it when the client
        came over the LAN.
        """
        is_old = self.hub.connected and time.time() - self.hub.since > unheard_s
        if self.signaling is None or not is_old or path.is_lan:
            return False
        try:
            await self._introducer.knock(path, self.signaling.send)
        except PeerGone:
            return True
        except MeshError as error:
            log.debug("nobody could be asked after a client: %s", error)
        return False
