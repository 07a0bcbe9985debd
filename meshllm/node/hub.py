"""This node at its signaling server: what it does with what the server tells.

That may be anything: statements, revocations, cards and memberships each hold by their
own signature.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from meshllm.errors import MeshError
from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.node.reach import Reach, Run
from meshllm.node.register import HOME_S, Register
from meshllm.node.sharing import Sharing
from meshllm.protocol.signals import Welcome
from meshllm.routing.links import Links
from meshllm.transport.introduce import Introducer
from meshllm.transport.peer import IceServer
from meshllm.transport.signaling import SignalingClient, SignalingHandlers
from meshllm.transport.watch import ServerWatch
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)


class HubSide:
    """Sets `reach.signaling` when the mesh has a server. Somebody has to `run` it."""

    def __init__(
        self,
        identity: Identity,
        conn: bytes,
        membership: Membership,
        introducer: Introducer,
        *,
        reach: Reach,
        register: Register,
        links: Links,
        sharing: Sharing,
        servers: ServerWatch,
        run: Run,
    ) -> None:
        self._identity = identity
        self._conn = conn
        self._membership = membership
        self._introducer = introducer
        self._reach = reach
        self._register = register
        self._links = links
        self._sharing = sharing
        self._servers = servers
        self._run = run
        reach.signaling = self._client()

    async def run(self) -> None:
        """For as long as the node runs. `meshllm init LINK`, or an owner's node on the
        LAN, may attach the mesh to a server meanwhile."""
        client, is_late = self._reach.signaling, False
        while client is None:
            is_late = True
            await asyncio.sleep(HOME_S)
            client = self._client()
        if is_late:
            self._reach.signaling = client
            log.info("the mesh has a signaling server now: %s", self._membership.hub)
            self._sharing.announce_soon()
        await client.run()

    def _client(self) -> SignalingClient | None:
        if self._membership.hub is None or self._membership.hub_key is None:
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
            on_state=self._reach.hub.turn,
        )
        return SignalingClient(
            self._membership.hub,
            self._membership.hub_key,
            self._identity,
            self._conn,
            lambda: self._membership.chain,
            handlers=handlers,
        )

    def _on_welcome(self, welcome: Welcome) -> None:
        self._reach.hub.servers = tuple(
            IceServer(ice.urls, ice.username, ice.credential) for ice in welcome.ice
        )
        self._servers.wake()
        if welcome.statement is not None:
            self._on_statement(welcome.statement)
        if welcome.revocations is not None:
            self._on_revocations(welcome.revocations)
        self._register.roster.begin_again()
        self._on_roster(welcome.roster, ())
        self._reach.welcomed.set()

    def _on_roster(self, joined: Sequence[str], left: Sequence[PeerId]) -> None:
        self._links.on_roster(self._register.change(joined, left))

    def _on_left(self, conn: bytes) -> None:
        if self._sharing.host is not None:
            self._run(
                self._sharing.host.sessions.look_after(conn), "look after a client"
            )

    def _on_signal(self, sender: PeerId, conn: bytes, sealed: bytes) -> None:
        assert self._reach.signaling is not None
        self._introducer.receive(sender, sealed, self._reach.signaling.send)

    def _on_statement(self, token: str) -> None:
        self._learn("statement", self._membership.newer_statement, token)

    def _on_revocations(self, token: str) -> None:
        self._learn("list of revocations", self._membership.newer_revocations, token)
        self._sharing.recheck()

    def _on_card(self, chain: tuple[str, ...], conflict: bool) -> None:
        """We issued this ticket: give its bearer a membership, at once."""
        if conflict:
            # The server says so again at each login: `share` tells, `chat` does not.
            log.log(
                logging.WARNING if self._sharing.host is not None else logging.INFO,
                "a ticket of ours was used by a second node, which was refused: "
                "somebody else has the link",
            )
            return
        self._learn("card", self._issue, chain)

    def _on_membership(self, token: str, statement: str) -> None:
        def accept(token: str) -> None:
            now = int(time.time())
            self._membership.accept(token, statement, now)
            role = self._membership.admission(now).role
            log.info("this node is now %s", role.value)
            self._sharing.announce_soon()

        self._learn("membership", accept, token)

    def _issue(self, chain: tuple[str, ...]) -> None:
        token = self._membership.issue(self._identity, chain, int(time.time()))
        self._run(self._grant(token), "grant")

    async def _grant(self, token: str) -> None:
        assert self._reach.signaling is not None
        try:
            await self._reach.signaling.grant(token)
        except MeshError as error:
            log.warning("a membership could not be handed over: %s", error)

    def _learn(self, what: str, take: Callable[[Any], object], value: object) -> None:
        try:
            take(value)
        except MeshError as error:
            log.warning("a %s was refused: %s", what, error)
