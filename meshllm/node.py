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
from meshllm.known import KeyChanged, KnownKeys
from meshllm.membership import NO_MESH, Membership
from meshllm.nearby import Nearby, Ties
from meshllm.protocol.signals import Welcome
from meshllm.provider.host import Host
from meshllm.routing.links import Links
from meshllm.routing.mesh import MeshRouter
from meshllm.routing.roster import Provider, Roster, Trust, Way
from meshllm.transport.introduce import VERSIONS, Introduced, Introducer
from meshllm.transport.lan_client import Place
from meshllm.transport.link import NO_PATH
from meshllm.transport.network import Look, NetworkWatch
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
LAN_S = 1.5  # a path on the LAN takes 0.1 s; then the server introduces us
HOME_S = 3.0  # how soon we see what another process of this home did

NO_WAY = (
    "This mesh has no signaling server, so its nodes meet on the LAN: leave out "
    "--no-lan and --relay-only, or attach it to a server by `meshllm init LINK`."
)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """`trust`: `owner`, `members` or peer ids, as `--trust` takes them. `peers`: LAN
    endpoints that were given by hand. `serves_lan`: others may find us there; None: if
    we are an owner, who has memberships to hand out."""

    home: Path
    trust: tuple[str, ...] = ("members",)
    lan: bool = True
    peers: tuple[tuple[str, int], ...] = ()
    serves_lan: bool | None = False
    lan_port: int = 0
    policy: Policy = "all"

    @property
    def uses_lan(self) -> bool:
        """To be found there shows an address of ours, which `relay` is against."""
        return self.lan and self.policy != "relay"


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
        if membership.hub is None and not options.uses_lan:
            membership.close()
            raise ConfigError(NO_WAY)
        self.options = options
        self.membership = membership
        self.identity = Identity.load(options.home)
        self.conn = secrets.token_bytes(16)
        self.known = KnownKeys(options.home, membership.mesh)
        self.roster = Roster(self._decide, self._is_connected, vet=self._vet)
        self.host: Host | None = None
        self.nearby: Nearby | None = None
        self._card: str | None = None
        self._stopped: dict[PeerId, tuple[str, Way, KeyChanged]] = {}
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
        self.links = Links(self._dial, self.roster.get, self._has_lan)
        trust = Trust.parse(options.trust, self.identity.id)
        self.mesh = MeshRouter(self.roster, self.links, trust, state=self.status)
        self.signaling = self._signaling_client()
        self.network = NetworkWatch(self._on_look)

    async def __aenter__(self) -> Self:
        if self.options.uses_lan:
            self.nearby = self._open_nearby()
            try:
                await self.nearby.open()
            except BaseException:
                await self.nearby.close()
                raise
        await self._tasks.__aenter__()
        if self.nearby is not None:
            self._run(self.nearby.run(), "lan")
        self._run(self.network.run(), "network")
        if self.signaling is not None:
            self._run(self.signaling.run(), "signaling")
        else:
            self._run(self._wait_for_hub(), "home")
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
    def is_connected(self) -> bool:
        """With the signaling server."""
        return self._hub.connected

    @property
    def reconnects(self) -> int:
        return max(0, self._hub.logins - 1)

    async def joined(self, timeout_s: float = 10.0) -> None:
        """Until the mesh's roster is known: the server's, or that of the LAN where it
        has somebody. PeerUnreachable after the time, or at once what the server said
        when it refuses us for good; neither when the LAN has somebody."""
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
        self._card = None
        if self.nearby is not None:
            self.nearby.news()
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
            "lan": self.nearby.describe() if self.nearby else None,
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
        return rows + self._doubtful_rows()

    def _doubtful_rows(self) -> list[dict[str, Any]]:
        """Who is not what it seems. Shown, never asked."""
        common: dict[str, Any] = {"role": None, "direction": "stranger", "models": []}
        common |= NO_PATH | {"streams": 0}
        rows = [
            {
                "id": str(id),
                "name": error.name,
                "found": {way: None},
                "problem": str(error),
            }
            for id, (_, way, error) in self._stopped.items()
        ]
        if self.nearby is not None:
            rows += [
                {**row, "found": {"lan": None}}
                for row in self.nearby.doubtful()
                if row["id"] not in self._stopped
            ]
        return [common | row for row in rows]

    def _provider_row(self, provider: Provider) -> dict[str, Any]:
        link = self.links.peek(provider.id)
        return {
            "id": str(provider.id),
            "name": provider.name,
            "role": provider.admission.role.value,
            "direction": "provider",
            "models": [model.name for model in provider.models],
            "found": {
                way: int(since) for way, since in self.roster.found(provider.id).items()
            },
        } | (link.describe() if link else NO_PATH | {"streams": 0})

    # Trust

    def _decide(self, chain: Sequence[str], id: PeerId) -> Admission:
        return self.membership.decide(chain, id, int(time.time()))

    def _vet(self, admission: Admission) -> None:
        self.known.vet(admission, self.membership.is_revoked)

    def _is_connected(self, id: PeerId) -> bool:
        return self.links.peek(id) is not None

    def _recheck(self) -> None:
        if self.host is not None:
            self.host.recheck()

    # Ways

    async def _has_left(self, path: Introduced, unheard_s: float) -> bool:
        """Whether the signaling server says that a silent client's connection is gone.

        A server that we logged in to during the silence may have been restarted: that
        it does not know the client then proves nothing. Nor does it when the client
        came over the LAN.
        """
        is_old = self._hub.connected and time.time() - self._hub.since > unheard_s
        if self.signaling is None or not is_old or path.is_lan:
            return False
        try:
            await self.introducer.knock(path, self.signaling.send)
        except PeerGone:
            return True
        except MeshError as error:
            log.debug("nobody could be asked after a client: %s", error)
        return False

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

    def _has_lan(self, provider: Provider) -> bool:
        return self.nearby is not None and self.nearby.knows(provider.announcement)

    async def _dial(self, provider: Provider) -> Introduced:
        self.dials += 1
        try:
            return await self._reach(provider)
        except MeshError:
            self.failed_dials += 1
            raise

    async def _reach(self, provider: Provider) -> Introduced:
        """Over the LAN where it is there, else by the signaling server."""
        target, nearby = provider.announcement, self.nearby
        way = nearby.way(target) if nearby is not None else None
        if way is not None and nearby is not None:
            limit_s = LAN_S if self.signaling is not None else None
            try:
                async with asyncio.timeout(limit_s):
                    return await self.introducer.dial(target, way, is_lan=True)
            except (PeerUnreachable, TimeoutError) as error:
                nearby.doubt(provider.id)
                log.info("%s was not reached on the LAN: %s", provider.name, error)
                if limit_s is None:
                    raise
        if self.signaling is None:
            raise PeerUnreachable(f"{provider.name} is not on this LAN now.")
        if not self.signaling.is_connected:
            await self.signaling.wait_connected(AWAY_S)
        return await self.introducer.dial(target, self.signaling.send)

    def _open_nearby(self) -> Nearby:
        ties = Ties(
            identity=self.identity,
            membership=self.membership,
            introducer=self.introducer,
            card=lambda: self._card,
            on_card=self._on_lan_card,
            on_left=self._on_lan_left,
            on_news=self._on_lan_news,
            names=lambda: self.known.names,
        )
        serves = self.options.serves_lan
        if serves is None:
            serves = self.membership.is_owner(self.identity.id)
        return Nearby(
            ties,
            serves=serves,
            places=[Place(host, port) for host, port in self.options.peers],
            port=self.options.lan_port,
        )

    def _on_lan_card(self, token: str) -> None:
        self._put(token, "lan")
        self.links.on_roster()

    def _on_lan_left(self, id: PeerId) -> None:
        self.links.on_roster([id] if self.roster.remove(id, "lan") else ())

    def _on_lan_news(self) -> None:
        self._recheck()
        self._announce_soon()

    async def _wait_for_hub(self) -> None:
        """`meshllm init LINK`, or an owner's node on the LAN, may attach the mesh to a
        server while we run."""
        client = None
        while client is None:
            await asyncio.sleep(HOME_S)
            client = self._signaling_client()
        self.signaling = client
        log.info("the mesh has a signaling server now: %s", self.membership.hub)
        self._run(client.run(), "signaling")
        self._announce_soon()

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
            self._stopped.pop(id, None)
        gone = [id for id in left if self.roster.remove(id)]
        for token in joined:
            try:
                self._put(token, "hub")
            except MeshError as error:
                log.warning("an announcement was refused: %s", error)
        self.links.on_roster(gone)

    def _put(self, token: str, way: Way) -> Provider | None:
        """KeyChanged is remembered until a person has said which key it is."""
        try:
            provider = self.roster.put(token, way)
        except KeyChanged as error:
            if not self._stopped:
                self._run(self._wait_for_word(), "stopped")
            self._stopped[error.id] = token, way, error
            raise
        if provider is not None:
            self._stopped.pop(provider.id, None)
        return provider

    async def _wait_for_word(self) -> None:
        while self._stopped:
            await asyncio.sleep(HOME_S)
            for id, (token, way, _) in list(self._stopped.items()):
                try:
                    self._put(token, way)
                except KeyChanged:
                    continue
                except MeshError:  # it may not share any more
                    self._stopped.pop(id, None)

    def _on_left(self, conn: bytes) -> None:
        if self.host is not None:
            self._run(self.host.sessions.look_after(conn), "look after a client")

    def _on_signal(self, sender: PeerId, conn: bytes, sealed: bytes) -> None:
        assert self.signaling is not None
        self.introducer.receive(sender, sealed, self.signaling.send)

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
        card = announcement.sign(self.identity.signing)
        try:
            if self.signaling is not None:
                await self.signaling.announce(card)
        except NotAllowed:
            raise
        except MeshError as error:
            log.warning("not announced yet: %s", error)
        self._card = card
        if self.nearby is not None:
            self.nearby.news()

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
