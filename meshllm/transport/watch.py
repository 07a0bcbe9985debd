"""Asks STUN and TURN servers ahead of time, so that no offer waits for a dead one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from meshllm.transport.addresses import read_machine
from meshllm.transport.health import DEAD_S, Health
from meshllm.transport.ice import IceConnection
from meshllm.transport.policy import Policy
from meshllm.transport.servers import IceServer, read_servers

log = logging.getLogger(__name__)

AGAIN_S = DEAD_S - 5.0  # a dead server is asked again before offers would ask it


class ServerWatch:
    """`servers` are those of the mesh now; `wake` says that they, or the addresses of
    this machine, are others."""

    def __init__(
        self,
        servers: Callable[[], Sequence[IceServer]],
        health: Health,
        policy: Policy,
    ) -> None:
        self._servers = servers
        self._health = health
        self._policy = policy
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    def describe(self) -> list[dict[str, Any]]:
        """Each server, and how it did when it was last asked."""
        now = asyncio.get_running_loop().time()
        return self._health.describe(read_servers(self._servers()), now)

    async def run(self) -> None:
        """As long as the node runs. Where all answer nobody is asked again."""
        while True:
            self._woken.clear()
            self._health.at(_hosts())
            if any(not row["answers"] for row in self.describe()):
                await self._ask()
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _ask(self) -> None:
        before = {row["url"]: row["answers"] for row in self.describe()}
        connection = IceConnection(
            self._servers(),
            _hosts(),
            controlling=True,
            policy=self._policy,
            health=self._health,
        )
        try:
            await connection.bind()
            await connection.gather(is_thorough=True)
        finally:
            await connection.close()
        for row in self.describe():
            url, answers = row["url"], row["answers"]
            if answers is False and before.get(url) is not False:
                log.warning("%s does not answer: %s", url, row["why"])
            elif answers and before.get(url) is False:
                log.info("%s answers again", url)


def _hosts() -> list[str]:
    """The same as an offer has: with others the answers would not count."""
    return read_machine().hosts(None)
