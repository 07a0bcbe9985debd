"""For tests over real signaling sockets: a hub, identities, what a client heard."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from nacl.public import PrivateKey

from meshllm.identity import Identity
from meshllm.transport.signaling import SignalingClient, SignalingHandlers
from meshllm.trust.keys import b64decode
from signaling.server import ServeOptions, SignalingServer
from tests.fakes.hubs import Mesh, key

WAIT_S = 5


def identity(name: str) -> Identity:
    """Of the person that tests.fakes.hubs calls by this name."""
    return Identity(key(name), PrivateKey(bytes(key(f"{name}'s box"))))


def serve(home: Path, **options: Any) -> SignalingServer:
    """Not started yet: `async with serve(home) as server`."""
    return SignalingServer(ServeOptions(home=home, **({"port": 0} | options)))


async def register(server: SignalingServer, mesh: Mesh, owner: str = "owner") -> None:
    """As `meshllm init LINK`."""
    link = server.setup_link
    assert link is not None
    setup = b64decode(link.partition("#s1.")[2].partition(".")[0], 16)
    async with SignalingClient.once(server.url, server.id, identity(owner)) as hub:
        await hub.register(setup, mesh.statement)


class Heard:
    """Everything a client's handlers were told, to be awaited by kind."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[Any]] = {}
        names = SignalingHandlers.__dataclass_fields__
        self.handlers = SignalingHandlers(
            **{name: self._put(name.removeprefix("on_")) for name in names}
        )

    def _put(self, kind: str) -> Any:
        queue = self._queues[kind] = asyncio.Queue()
        return lambda *told: queue.put_nowait(told if len(told) > 1 else told[0])

    async def next(self, kind: str) -> Any:
        """The next of this kind: "welcome", "roster", "signal", "state" and so on."""
        async with asyncio.timeout(WAIT_S):
            return await self._queues[kind].get()

    def nothing(self, kind: str) -> bool:
        return self._queues[kind].empty()
