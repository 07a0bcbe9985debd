"""A mesh without a server in one process: nodes that meet by real multicast and WebRTC
over this machine's loopback. MESHLLM_LOOPBACK has to be 1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshllm import founding, joining
from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.node import Node, NodeOptions
from meshllm.trust.grants import Revocations, Revoked
from meshllm.trust.keys import PeerId
from tests.fakes.backend import ScriptedBackend

POLL_S = 0.01


@dataclass
class Hamlet:
    """`olga` owns it."""

    root: Path
    stack: AsyncExitStack
    backend: ScriptedBackend = field(default_factory=ScriptedBackend)
    is_deserted: bool = True  # nobody has come yet

    def home(self, name: str) -> Path:
        return self.root / name

    async def node(self, name: str, **options: Any) -> Node:
        node = Node(NodeOptions(self.home(name), **options))
        await self.stack.enter_async_context(node)
        if not self.is_deserted:  # the first would wait in vain, for as long as it can
            await node.joined()
        self.is_deserted = False
        return node

    async def provider(self, name: str = "olga") -> Node:
        node = await self.node(name, serves_lan=True)
        await node.share(self.backend, parallel=4, queue=8, models=())
        return node

    async def join(self, name: str, role: str = "member", as_: str = "") -> None:
        """Becomes what it was promised, if an owner's node runs."""
        invited = await joining.invite(self.home("olga"), name=as_ or name, role=role)
        await joining.join(self.home(name), invited.link, wait_s=10)

    def id(self, name: str) -> PeerId:
        return Identity.load(self.home(name)).id

    def revoke(self, name: str) -> None:
        """At the owner's home only: its processes have to spread it."""
        owner, now = Identity.load(self.home("olga")), int(time.time())
        known = Membership.load(self.home("olga"))
        assert known is not None
        revoked = (Revoked(self.id(name), now),)
        listed = Revocations(known.mesh, owner.id, 1, revoked, now)
        known.newer_revocations(listed.sign(owner.signing))
        known.close()


@asynccontextmanager
async def hamlet(root: Path) -> AsyncIterator[Hamlet]:
    async with AsyncExitStack() as stack:
        await founding.init(root / "olga", name="olga")
        yield Hamlet(root, stack)


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        await asyncio.sleep(POLL_S)
