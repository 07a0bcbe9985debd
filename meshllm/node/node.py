"""A running node: who it is, whom it knows, and the ways to them, composed.

`share` makes it a provider; `mesh` asks the others. Both can run in one process, and
several processes can be one node at the same time, each with its own `conn`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from meshllm.backends.base import Backend
from meshllm.errors import (
    ConfigError,
)
from meshllm.identity import Identity
from meshllm.known import KnownKeys
from meshllm.membership import NO_MESH, Membership
from meshllm.nearby import Nearby
from meshllm.node.document import Document
from meshllm.node.hub import HubSide
from meshllm.node.lan import make_nearby
from meshllm.node.options import NodeOptions
from meshllm.node.reach import Reach
from meshllm.node.register import Register
from meshllm.node.sharing import Sharing
from meshllm.provider.host import Host
from meshllm.routing.links import Links
from meshllm.routing.mesh import MeshRouter
from meshllm.routing.roster import Trust
from meshllm.transport.introduce import Introducer
from meshllm.transport.network import Look, NetworkWatch
from meshllm.transport.peer import IceServer
from meshllm.transport.signaling import SignalingClient
from meshllm.transport.watch import ServerWatch
from meshllm.trust.admission import Admission
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)

NO_WAY = (
    "This mesh has no signaling server, so its nodes meet on the LAN: leave out "
    "--no-lan and --relay-only, or attach it to a server by `meshllm init LINK`."
)


class Node:
    """Use it as an async context manager; leaving it ends every session."""

    def __init__(self, options: NodeOptions) -> None:
        membership = Membership.load(options.home)
        if membership is None:
            raise ConfigError(NO_MESH)
        if membership.hub is None and not options.uses_lan:
            membership.close()
            raise ConfigError(NO_WAY)
        self.options = options
        self.membership = membership
        self.identity = Identity.load(options.home)
        self.conn = secrets.token_bytes(16)
        self._tasks = asyncio.TaskGroup()
        self._background: list[asyncio.Task[None]] = []
        self.introducer = Introducer(
            self.identity,
            self.conn,
            chain=lambda: self.membership.chain,
            servers=lambda: self.servers,
            decide=self._decide,
            policy=options.policy,
        )
        self._reach = Reach(self.introducer)
        self._servers = ServerWatch(
            lambda: self.servers, self.introducer.health, options.policy
        )
        self.known = KnownKeys(options.home, membership.mesh)
        self._register = Register(
            self._decide,
            self._is_connected,
            self.known,
            membership,
            self._run,
        )
        self.roster = self._register.roster
        self.links = Links(self._reach.dial, self.roster.get, self._reach.has_lan)
        self._sharing = Sharing(
            self.identity, self.conn, membership, self._reach, self._run
        )
        self._hub = HubSide(
            *(self.identity, self.conn, membership, self.introducer),
            reach=self._reach,
            register=self._register,
            links=self.links,
            sharing=self._sharing,
            servers=self._servers,
            run=self._run,
        )
        self._document = Document(
            self.identity,
            membership,
            options.policy,
            self._register,
            self.links,
            self._reach,
            self._sharing,
            self._servers,
        )
        trust = Trust.parse(options.trust, self.identity.id)
        self.mesh = MeshRouter(self.roster, self.links, trust, state=self.status)
        self.network = NetworkWatch(self._on_look)

    async def __aenter__(self) -> Self:
        if self.options.uses_lan:
            nearby = self._reach.nearby = make_nearby(
                self.options,
                self.identity,
                self.membership,
                self.introducer,
                self._register,
                self.links,
                self._sharing,
            )
            try:
                await nearby.open()
            except BaseException:
                await nearby.close()
                raise
        await self._tasks.__aenter__()
        if self.nearby is not None:
            self._run(self.nearby.run(), "lan")
        self._run(self.network.run(), "network")
        self._run(self._hub.run(), "signaling")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.host is not None:
            await self.host.close()
        await self.links.close()
        await self.introducer.close()
        for task in self._background:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        if self.nearby is not None:
            await self.nearby.close()
        self.known.close()

    @property
    def host(self) -> Host | None:
        """None while this node shares nothing."""
        return self._sharing.host

    @property
    def nearby(self) -> Nearby | None:
        return self._reach.nearby

    @property
    def signaling(self) -> SignalingClient | None:
        """None while the mesh lives on a LAN only."""
        return self._reach.signaling

    @property
    def is_connected(self) -> bool:
        """With the signaling server."""
        return self._reach.hub.connected

    @property
    def reconnects(self) -> int:
        return max(0, self._reach.hub.logins - 1)

    @property
    def dials(self) -> int:
        return self._reach.dials

    @property
    def failed_dials(self) -> int:
        return self._reach.failed_dials

    async def joined(self, timeout_s: float = 10.0) -> None:
        """Until the mesh's roster is known: the server's, or that of the LAN where it
        has somebody. PeerUnreachable after the time, or at once what the server said
        when it refuses us for good; neither when the LAN has somebody."""
        await self._reach.joined(timeout_s)

    def watch_servers(self) -> None:
        """Know which STUN and TURN servers answer before an offer depends on it: for
        processes that stay."""
        self._run(self._servers.run(), "servers")

    async def share(
        self, backend: Backend, *, parallel: int, queue: int, models: tuple[str, ...]
    ) -> Host:
        """Become the provider of this node: answer offers, announce what is there.

        `models` names those to share, all when empty. NotAllowed when this node may
        not share, or another process of it does.
        """
        host = await self._sharing.begin(
            backend, parallel=parallel, queue=queue, models=models
        )
        self.introducer.on_path = host.sessions.on_path
        await self._sharing.announce()
        return host

    def check_may_share(self) -> None:
        """NotAllowed for guests, and for members whose membership has not come yet."""
        self._sharing.check_may()

    async def drain(self) -> None:
        """Take nothing new; returns when the answers that run have ended.

        Paths are still answered: an answer whose path is lost may need another.
        """
        await self._sharing.drain()

    @property
    def servers(self) -> tuple[IceServer, ...]:
        """STUN and TURN, as the signaling server named them last."""
        return self._reach.hub.servers

    def status(self) -> dict[str, Any]:
        """This node in one JSON object."""
        return self._document.status()

    def peers(self) -> list[dict[str, Any]]:
        """Everybody we see: providers of the roster, and whoever is connected to us."""
        return self._document.peers()

    # Trust

    def _decide(self, chain: Sequence[str], id: PeerId) -> Admission:
        return self.membership.decide(chain, id, int(time.time()))

    def _is_connected(self, id: PeerId) -> bool:
        return self.links.peek(id) is not None

    # Ways

    def _on_look(self, look: Look) -> None:
        if self.nearby is not None:
            self.nearby.look(look)
        if not look.is_news:
            return
        log.info("this machine %s", "woke up" if look.has_slept else "has moved")
        self._servers.wake()
        self.links.on_network()
        if self.signaling is not None:
            self._run(self._probe(self.signaling), "probe")

    async def _probe(self, signaling: SignalingClient) -> None:
        await signaling.probe()

    # Inside

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._background.append(task)
        task.add_done_callback(self._background.remove)
