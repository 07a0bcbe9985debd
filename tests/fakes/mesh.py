"""A real mesh in one process: signaling server, nodes, WebRTC over this machine.

Only the model server is scripted. For tests of what nodes do with each other.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from meshllm.identity import Identity, RootKey
from meshllm.membership import Membership
from meshllm.node import Node, NodeOptions
from meshllm.transport.signaling import SignalingClient
from meshllm.trust.grants import Caps, Role
from meshllm.trust.link import Invitation, SetupLink, parse_link
from signaling.server import ServeOptions, SignalingServer
from tests.fakes.backend import ScriptedBackend


@dataclass
class Village:
    """`owner` is the home of the mesh's first node."""

    root: Path
    hub: SignalingServer
    stack: AsyncExitStack
    owner: Path
    backend: ScriptedBackend = field(default_factory=ScriptedBackend)

    async def node(self, home: Path, trust: tuple[str, ...] = ("members",)) -> Node:
        """A running node that has its roster."""
        node = Node(NodeOptions(home, trust=trust, lan=False))
        await self.stack.enter_async_context(node)
        await node.joined(5)
        return node

    async def provider(self, home: Path | None = None, parallel: int = 4) -> Node:
        node = await self.node(home or self.owner)
        await node.share(self.backend, parallel=parallel, queue=8, models=())
        return node

    def invite(self, name: str, role: Role = Role.GUEST, **limits: int) -> Invitation:
        known = Membership.load(self.owner)
        assert known is not None
        now = int(time.time())
        try:
            return known.invite(
                Identity.load(self.owner),
                name=name,
                role=role,
                caps=Caps(**limits),  # type: ignore[arg-type]
                until=now + 600,
                now=now,
            )
        finally:
            known.close()

    async def join(self, invitation: Invitation, name: str) -> Path:
        """A new home that used this invitation, and left its card at the hub."""
        home = self.root / name
        identity = Identity.load_or_create(home)
        now = int(time.time())
        known = Membership.join(home, identity, invitation, self.hub.url, now)
        async with SignalingClient.once(self.hub.url, self.hub.id, identity) as client:
            await client.leave_card(known.chain)
        known.close()
        return home


@asynccontextmanager
async def village(root: Path) -> AsyncIterator[Village]:
    async with AsyncExitStack() as stack:
        hub = SignalingServer(ServeOptions(root / "hub", port=0))
        await stack.enter_async_context(hub)
        owner = root / "owner"
        identity, key = Identity.load_or_create(owner), RootKey.create(owner)
        now = int(time.time())
        known = Membership.found(owner, identity, key, "olga", now)
        setup = parse_link(hub.setup_link or "")
        assert isinstance(setup, SetupLink)
        async with SignalingClient.once(hub.url, hub.id, identity) as client:
            await client.register(setup.token, known.statement)
        known.attach(hub.url, hub.id)
        known.close()
        yield Village(root, hub, stack, owner)
