"""A running node: who it is, whom it knows, and the ways to them, composed.

`share` makes it a provider; `mesh` asks the others. Both can run in one process, and
several processes can be one node at the same time, each with its own `conn`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from meshllm.backends.base import Backend
from meshllm.dialects import Model
from meshllm.errors import (
    ConfigError,
    MeshError,
    NotAllowed,
    PeerGone,
    PeerUnreachable,
)
from meshllm.identity import Identity
from meshllm.membership import NO_MESH, Membership
from meshllm.protocol.signals import Welcome
from meshllm.provider.host import Host
from meshllm.routing.links import Links
from meshllm.routing.mesh import MeshRouter
from meshllm.routing.roster import Provider, Roster, Trust
from meshllm.transport.introduce import VERSIONS, Introduced, Introducer
from meshllm.transport.link import NO_PATH
from meshllm.transport.peer import IceServer
from meshllm.transport.policy import Policy
from meshllm.transport.signaling import SignalingClient, SignalingHandlers
from meshllm.transport.watch import ServerWatch
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement, ModelCard
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)

MODELS_MAX = 256
AWAY_S = 3.0  # a signaling server that is restarted is back by then


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """`trust`: `owner`, `members` or peer ids, as `--trust` takes them."""

    home: Path
    trust: tuple[str, ...] = ("members",)
    lan: bool = True
    peers: tuple[str, ...] = ()
    policy: Policy = "all"


@dataclass(slots=True)
class _Hub:
    """What the signaling server last told us."""

    connected: bool = False
    logins: int = 0  # after none, or after a loss
    reason: str | None = None
    servers: tuple[IceServer, ...] = ()
    since: float = field(default_factory=time.time)


class Node:
    """Use it as an async context manager; leaving it ends every session."""

    def __init__(self, options: NodeOptions) -> None:
        membership = Membership.load(options.home)
        if membership is None:
            raise ConfigError(NO_MESH)
        self.options = options
        self.membership = membership
        self.identity = Identity.load(options.home)
        self.conn = secrets.token_bytes(16)
        self.roster = Roster(self._decide, self._is_connected)
        self.host: Host | None = None
        self.dials = self.failed_dials = 0
        self._hub = _Hub()
        self._first_welcome = asyncio.Event()
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
        self._servers = ServerWatch(
            lambda: self._hub.servers, self.introducer.health, options.policy
        )
        self.links = Links(self._dial, self.roster.get)
        trust = Trust.parse(options.trust, self.identity.id)
        self.mesh = MeshRouter(self.roster, self.links, trust, state=self.status)
        self.signaling = self._signaling_client()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        if self.signaling is not None:
            self._run(self.signaling.run(), "signaling")
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

    @property
    def is_connected(self) -> bool:
        """With the signaling server."""
        return self._hub.connected

    @property
    def reconnects(self) -> int:
        return max(0, self._hub.logins - 1)

    async def joined(self, timeout_s: float = 10.0) -> None:
        """Until the mesh's roster is known. PeerUnreachable after the time, or at once
        what the server said when it refuses us for good."""
        if self.signaling is not None and not self._first_welcome.is_set():
            await self.signaling.wait_connected(timeout_s)
            await self._first_welcome.wait()

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
        self.check_may_share()
        host = Host(
            backend,
            parallel=parallel,
            queue=queue,
            shared=models,
            recheck=lambda who: self.membership.recheck(who, int(time.time())),
        )
        await host.look()
        self.host = host
        self.introducer.on_path = host.sessions.on_path
        host.on_models = self._announce_soon
        host.sessions.has_left = self._has_left
        self._run(host.watch(), "models")
        self._run(host.sessions.judge(), "sessions")
        await self._announce()
        return host

    def check_may_share(self) -> None:
        """NotAllowed for guests, and for members whose membership has not come yet."""
        if self.membership.admission(int(time.time())).role is not Role.GUEST:
            return
        if self.membership.promised is Role.MEMBER:
            raise NotAllowed(
                "This node shares once its membership has come: a node of the mesh's "
                "owner must be online for that. Ask the owner to start `meshllm "
                "gateway` or `meshllm share`, then try again."
            )
        raise NotAllowed(
            "This node may use models, not share any: its invitation was for a guest. "
            "Ask an owner for one with `--role member`, then `meshllm leave` and join "
            "by that."
        )

    async def drain(self) -> None:
        """Take nothing new; returns when the answers that run have ended.

        Paths are still answered: an answer whose path is lost may need another.
        """
        if self.host is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.host.drain())  # says so to those who are connected
            tasks.create_task(self._withdraw())

    async def _withdraw(self) -> None:
        if self.signaling is not None and self._hub.connected:
            with contextlib.suppress(MeshError):
                await self.signaling.announce(None)

    @property
    def servers(self) -> tuple[IceServer, ...]:
        """STUN and TURN, as the signaling server named them last."""
        return self._hub.servers

    def status(self) -> dict[str, Any]:
        """This node in one JSON object."""
        admission = self.membership.admission(int(time.time()))
        return {
            "id": str(self.identity.id),
            "name": admission.name,
            "role": admission.role.value,
            "provisional": admission.ticket is not None,
            "mesh": str(self.membership.mesh),
            "signaling": {
                "url": self.membership.hub,
                "connected": self._hub.connected,
                "reason": self._hub.reason,
                "since": int(self._hub.since),
            },
            "servers": self._servers.describe(),
            "policy": self.options.policy,
            "tasks": len(asyncio.all_tasks()),
            "shares": self.host.status() if self.host else None,
        }

    def peers(self) -> list[dict[str, Any]]:
        """Everybody we see: providers of the roster, and whoever is connected to us."""
        rows = [self._provider_row(provider) for provider in self.roster.providers]
        if self.host is not None:
            rows += self.host.guest_rows()
        return rows

    def _provider_row(self, provider: Provider) -> dict[str, Any]:
        link = self.links.peek(provider.id)
        return {
            "id": str(provider.id),
            "name": provider.name,
            "role": provider.admission.role.value,
            "direction": "provider",
            "models": [model.name for model in provider.models],
        } | (link.describe() if link else NO_PATH | {"streams": 0})

    # Trust

    def _decide(self, chain: Sequence[str], id: PeerId) -> Admission:
        return self.membership.decide(chain, id, int(time.time()))

    def _is_connected(self, id: PeerId) -> bool:
        return self.links.peek(id) is not None

    def _recheck(self) -> None:
        if self.host is not None:
            self.host.recheck()

    # Ways

    async def _has_left(self, path: Introduced, unheard_s: float) -> bool:
        """Whether the signaling server says that a silent client's connection is gone.

        A server that we logged in to during the silence may have been restarted: that
        it does not know the client then proves nothing.
        """
        is_old = self._hub.connected and time.time() - self._hub.since > unheard_s
        if self.signaling is None or not is_old:
            return False
        try:
            await self.introducer.knock(path, self.signaling.send)
        except PeerGone:
            return True
        except MeshError as error:
            log.debug("nobody could be asked after a client: %s", error)
        return False

    async def _dial(self, provider: Provider) -> Introduced:
        if self.signaling is None:
            raise PeerUnreachable("This node has no way to reach others yet.")
        self.dials += 1
        try:
            if not self.signaling.is_connected:
                await self.signaling.wait_connected(AWAY_S)
            send = self.signaling.send
            return await self.introducer.dial(provider.announcement, send)
        except MeshError:
            self.failed_dials += 1
            raise

    def _signaling_client(self) -> SignalingClient | None:
        if self.membership.hub is None or self.membership.hub_key is None:
            return None
        handlers = SignalingHandlers(
            on_welcome=self._on_welcome,
            on_roster=self._on_roster,
            on_left=self._on_left,
            on_signal=self._on_signal,
            on_card=self._on_card,
            on_membership=self._on_membership,
            on_statement=self._on_statement,
            on_revocations=self._on_revocations,
            on_state=self._on_state,
        )
        return SignalingClient(
            self.membership.hub,
            self.membership.hub_key,
            self.identity,
            self.conn,
            lambda: self.membership.chain,
            handlers=handlers,
        )

    def _on_state(self, connected: bool, reason: str | None) -> None:
        self._hub.logins += connected and not self._hub.connected
        self._hub.connected, self._hub.reason = connected, reason
        self._hub.since = time.time()

    def _on_welcome(self, welcome: Welcome) -> None:
        self._hub.servers = tuple(
            IceServer(ice.urls, ice.username, ice.credential) for ice in welcome.ice
        )
        self._servers.wake()
        if welcome.statement is not None:
            self._on_statement(welcome.statement)
        if welcome.revocations is not None:
            self._on_revocations(welcome.revocations)
        self.roster.begin_again()
        self._on_roster(welcome.roster, ())
        self._first_welcome.set()

    def _on_roster(self, joined: Sequence[str], left: Sequence[PeerId]) -> None:
        for id in left:
            self.roster.remove(id)
        for token in joined:
            try:
                self.roster.put(token)
            except MeshError as error:
                log.warning("an announcement was refused: %s", error)
        self.links.on_roster(left)

    def _on_left(self, conn: bytes) -> None:
        if self.host is not None:
            self._run(self.host.sessions.look_after(conn), "look after a client")

    def _on_signal(self, sender: PeerId, conn: bytes, sealed: bytes) -> None:
        assert self.signaling is not None
        self.introducer.receive(sender, conn, sealed, self.signaling.send)

    def _on_statement(self, token: str) -> None:
        self._learn("statement", self.membership.newer_statement, token)

    def _on_revocations(self, token: str) -> None:
        self._learn("list of revocations", self.membership.newer_revocations, token)
        self._recheck()

    def _on_card(self, chain: tuple[str, ...], conflict: bool) -> None:
        """We issued this ticket: give its bearer a membership, at once."""
        if conflict:
            # The server says so again at each login: `share` tells, `chat` does not.
            log.log(
                logging.WARNING if self.host is not None else logging.INFO,
                "a ticket of ours was used by a second node, which was refused: "
                "somebody else has the link",
            )
            return
        self._learn("card", self._issue, chain)

    def _issue(self, chain: tuple[str, ...]) -> None:
        assert self.signaling is not None
        token = self.membership.issue(self.identity, chain, int(time.time()))
        self._run(self._grant(token), "grant")

    async def _grant(self, token: str) -> None:
        assert self.signaling is not None
        try:
            await self.signaling.grant(token)
        except MeshError as error:
            log.warning("a membership could not be handed over: %s", error)

    def _on_membership(self, token: str, statement: str) -> None:
        def accept(token: str) -> None:
            self.membership.accept(token, statement, int(time.time()))
            log.info("this node is now %s", self.status()["role"])
            self._announce_soon()

        self._learn("membership", accept, token)

    # Sharing

    def _announce_soon(self) -> None:
        if self.host is not None:
            self._run(self._announce(), "announce")

    async def _announce(self) -> None:
        assert self.host is not None
        if self.signaling is None:
            return
        announcement = Announcement(
            mesh=self.membership.mesh,
            id=self.identity.id,
            conn=self.conn,
            box=self.identity.box.public_key.encode(),
            versions=VERSIONS,
            backend=self.host.backend.kind,
            parallel=self.host.slots.parallel,
            models=tuple(_card(model) for model in self.host.models[:MODELS_MAX]),
            chain=tuple(self.membership.chain),
            ts=int(time.time()),
        )
        try:
            await self.signaling.announce(announcement.sign(self.identity.signing))
        except NotAllowed:
            raise
        except MeshError as error:
            log.warning("not announced yet: %s", error)

    # Inside

    def _learn(self, what: str, take: Callable[[Any], object], value: object) -> None:
        """Something the hub passed on; it may be anything."""
        try:
            take(value)
        except MeshError as error:
            log.warning("a %s was refused: %s", what, error)

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._background.append(task)
        task.add_done_callback(self._background.remove)


def _card(model: Model) -> ModelCard:
    return ModelCard(
        name=model.name,
        digest=model.digest,
        size=model.size,
        modified_at=model.modified_at,
        details=model.details,
        capabilities=model.capabilities,
        context_length=model.context_length,
    )
