"""What `meshllm status` and `meshllm peers` show of a running node."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.node.reach import Reach
from meshllm.node.register import Register
from meshllm.node.sharing import Sharing
from meshllm.routing.links import Links
from meshllm.routing.roster import Provider
from meshllm.transport.link import NO_PATH
from meshllm.transport.policy import Policy
from meshllm.transport.watch import ServerWatch


@dataclass(frozen=True, slots=True)
class Document:
    """Of these parts of it."""

    identity: Identity
    membership: Membership
    policy: Policy
    register: Register
    links: Links
    reach: Reach
    sharing: Sharing
    servers: ServerWatch

    def status(self) -> dict[str, Any]:
        """The node in one JSON object."""
        admission = self.membership.admission(int(time.time()))
        hub, nearby, host = self.reach.hub, self.reach.nearby, self.sharing.host
        return {
            "id": str(self.identity.id),
            "name": admission.name,
            "role": admission.role.value,
            "provisional": admission.ticket is not None,
            "mesh": str(self.membership.mesh),
            "signaling": {
                "url": self.membership.hub,
                "connected": hub.connected,
                "reason": hub.reason,
                "since": int(hub.since),
            },
            "lan": nearby.describe() if nearby else None,
            "servers": self.servers.describe(),
            "policy": self.policy,
            "tasks": len(asyncio.all_tasks()),
            "shares": host.status() if host else None,
        }

    def peers(self) -> list[dict[str, Any]]:
        """Everybody it sees: providers of the roster, and who is connected to it."""
        rows = [self._row(provider) for provider in self.register.roster.providers]
        if self.sharing.host is not None:
            rows += self.sharing.host.guest_rows()
        return rows + self._doubtful_rows()

    def _row(self, provider: Provider) -> dict[str, Any]:
        link, found = self.links.peek(provider.id), self.register.roster.found
        return {
            "id": str(provider.id),
            "name": provider.name,
            "role": provider.admission.role.value,
            "direction": "provider",
            "models": [model.name for model in provider.models],
            "found": {way: int(since) for way, since in found(provider.id).items()},
        } | (link.describe() if link else NO_PATH | {"streams": 0})

    def _doubtful_rows(self) -> list[dict[str, Any]]:
        """Who is not what it seems. Shown, never asked."""
        common: dict[str, Any] = {"role": None, "direction": "stranger", "models": []}
        common |= NO_PATH | {"streams": 0}
        rows = self.register.stopped_rows()
        stopped = {row["id"] for row in rows}
        if self.reach.nearby is not None:
            rows += [
                {**row, "found": {"lan": None}}
                for row in self.reach.nearby.doubtful()
                if row["id"] not in stopped
            ]
        return [common | row for row in rows]
