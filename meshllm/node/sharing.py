"""What this node offers to the mesh: its host, and the announcement that says so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from meshllm.backends.base import Backend
from meshllm.dialects import Model
from meshllm.errors import MeshError, NotAllowed
from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.node.reach import Reach, Run
from meshllm.provider.host import Host
from meshllm.transport.introduce import VERSIONS
from meshllm.trust.announcement import Announcement, ModelCard
from meshllm.trust.grants import Role

log = logging.getLogger(__name__)

MODELS_MAX = 256


class Sharing:
    """`host` is None until `begin`; `card` while nothing is announced."""

    def __init__(
        self,
        identity: Identity,
        conn: bytes,
        membership: Membership,
        reach: Reach,
        run: Run,
    ) -> None:
        self.host: Host | None = None
        self.card: str | None = None
        self._identity = identity
        self._conn = conn
        self._membership = membership
        self._reach = reach
        self._run = run

    def check_may(self) -> None:
        """NotAllowed for guests, and for members whose membership has not come yet."""
        if self._membership.admission(int(time.time())).role is not Role.GUEST:
            return
        if self._membership.promised is Role.MEMBER:
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

    async def begin(
        self, backend: Backend, *, parallel: int, queue: int, models: tuple[str, ...]
    ) -> Host:
        """`models` names those to share, all when empty. NotAllowed when this node may
        not share. It is not announced yet."""
        self.check_may()
        host = Host(
            backend,
            parallel=parallel,
            queue=queue,
            shared=models,
            recheck=lambda who: self._membership.recheck(who, int(time.time())),
        )
        await host.look()
        self.host = host
        host.on_models = self.announce_soon
        host.sessions.has_left = self._reach.has_left
        self._run(host.watch(), "models")
        self._run(host.sessions.judge(), "sessions")
        return host

    def recheck(self) -> None:
        """Something was revoked."""
        if self.host is not None:
            self.host.recheck()

    def announce_soon(self) -> None:
        if self.host is not None:
            self._run(self.announce(), "announce")

    async def announce(self) -> None:
        """NotAllowed when another process of this node is announced."""
        assert self.host is not None
        announcement = Announcement(
            mesh=self._membership.mesh,
            id=self._identity.id,
            conn=self._conn,
            box=self._identity.box.public_key.encode(),
            versions=VERSIONS,
            backend=self.host.backend.kind,
            parallel=self.host.slots.parallel,
            models=tuple(_card(model) for model in self.host.models[:MODELS_MAX]),
            chain=tuple(self._membership.chain),
            ts=int(time.time()),
        )
        card = announcement.sign(self._identity.signing)
        try:
            if self._reach.signaling is not None:
                await self._reach.signaling.announce(card)
        except NotAllowed:
            raise
        except MeshError as error:
            log.warning("not announced yet: %s", error)
        self._say(card)

    async def drain(self) -> None:
        """Take nothing new; returns when the answers that run have ended."""
        if self.host is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.host.drain())  # says so to those who are connected
            tasks.create_task(self._withdraw())

    async def _withdraw(self) -> None:
        self._say(None)
        if self._reach.signaling is not None and self._reach.hub.connected:
            with contextlib.suppress(MeshError):
                await self._reach.signaling.announce(None)

    def _say(self, card: str | None) -> None:
        self.card = card
        if self._reach.nearby is not None:
            self._reach.nearby.news()


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
