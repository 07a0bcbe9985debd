"""Sessions with providers, kept warm: one each, dialled once however many ask.

A session whose path is lost is given another while somebody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from meshllm.errors import Code, MeshError, PeerUnreachable
from meshllm.protocol.session import Session
from meshllm.routing.choose import Warmth
from meshllm.routing.roster import Provider
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

REDIAL_S = 30.0  # how long a lost path is looked for while answers are under way
REDIAL_PAUSE_S = 1.0
FAILED_S = 10.0  # a provider that could not be reached comes last for so long

Dial = Callable[[Provider], Awaitable[Introduced]]


class Links:
    def __init__(self, dial: Dial, find: Callable[[PeerId], Provider | None]) -> None:
        self._dial = dial
        self._find = find
        self._links: dict[PeerId, Link] = {}
        self._dialling: dict[PeerId, asyncio.Task[Link]] = {}
        self._reviving: set[asyncio.Task[None]] = set()
        self._failed_at: dict[PeerId, float] = {}

    async def get(self, provider: Provider) -> Link:
        """A session that is up. PeerUnreachable or NotAllowed: why there is none."""
        link = self._links.get(provider.id)
        if link is not None and not link.is_closed:
            return link
        dialling = self._dialling.get(provider.id)
        if dialling is None:
            dialling = asyncio.create_task(
                self._connect(provider), name=f"dial {short(provider.id)}"
            )
            self._dialling[provider.id] = dialling
            dialling.add_done_callback(lambda _: self._dialling.pop(provider.id, None))
        # One asker that goes away must not take the connection from the others.
        return await asyncio.shield(dialling)

    def peek(self, id: PeerId) -> Link | None:
        link = self._links.get(id)
        return link if link is not None and link.is_active else None

    def warmth(self, id: PeerId) -> Warmth:
        now = asyncio.get_running_loop().time()
        failed = now - self._failed_at.get(id, -FAILED_S) < FAILED_S
        link = self.peek(id)
        if link is None or link.wire is None:
            return Warmth(failed_lately=failed)
        return Warmth(True, link.load, link.wire.path.rtt_s or 0.0, failed)

    async def close(self) -> None:
        tasks = [*self._dialling.values(), *self._reviving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links = list(self._links.values())
        text = "The client has ended."
        await asyncio.gather(*(link.close(Code.CANCELLED, text) for link in links))

    async def _connect(self, provider: Provider) -> Link:
        loop = asyncio.get_running_loop()
        try:
            introduced = await self._dial(provider)
            link = Link(Session(secrets.token_bytes(16), is_client=True))
            try:
                await link.start(introduced.wire)
            except BaseException:
                await link.close(Code.CANCELLED, "the session did not begin")
                raise
        except MeshError:
            self._failed_at[provider.id] = loop.time()
            raise
        self._failed_at.pop(provider.id, None)
        self._links[provider.id] = link
        link.on_closed = lambda code, text: self._drop(provider.id, link)
        link.on_going_away = lambda: self._drop(provider.id, link)
        link.on_detached = lambda reason: self._on_lost(provider, link, reason)
        log.info(
            "connected to %s (%s), %s",
            provider.name,
            short(provider.id),
            introduced.wire.carrier.kind,
        )
        return link

    def _drop(self, id: PeerId, link: Link) -> None:
        if self._links.get(id) is link:
            del self._links[id]

    def _on_lost(self, provider: Provider, link: Link, reason: str) -> None:
        log.info("path to %s (%s) lost: %s", provider.name, short(provider.id), reason)
        if not link.load:
            self._drop(provider.id, link)
            link.end(Code.GONE, "nobody waits for this session")
            return
        task = asyncio.create_task(self._revive(provider, link))
        self._reviving.add(task)
        task.add_done_callback(self._reviving.discard)

    async def _revive(self, provider: Provider, link: Link) -> None:
        """Another path for the streams that wait; none when the provider is gone."""
        deadline = asyncio.get_running_loop().time() + REDIAL_S
        error: MeshError = PeerUnreachable("The provider was lost.")
        while link.load and asyncio.get_running_loop().time() < deadline:
            latest = self._find(provider.id)
            if latest is None:
                break
            try:
                introduced = await self._dial(latest)
                await link.start(introduced.wire)
                log.info("path to %s is back", provider.name)
                return
            except MeshError as failure:
                error = failure
                if link.is_closed:
                    return
            await asyncio.sleep(REDIAL_PAUSE_S)
        self._drop(provider.id, link)
        await link.close(Code.GONE, f"The provider {provider.name} was lost. {error}")
