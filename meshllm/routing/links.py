"""Sessions with providers, kept warm: one each, dialled once however many ask.

A session whose path is lost is given another while somebody waits for it. That a
provider has ended shows in two ways together: the roster no longer lists it as it was
dialled, and its path is silent; then nobody is kept waiting.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from meshllm.errors import Code, MeshError, PeerGone
from meshllm.protocol.session import Session
from meshllm.routing.choose import Warmth
from meshllm.routing.roster import Provider
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

REDIAL_S = 30.0  # how long a lost path is looked for while answers are under way
REDIAL_PAUSE_S = 1.0
MISSING_S = 5.0  # a provider may be absent so long: after a restart of the server
# Longer than the 2 s between two pings, and than SCTP's first repetition after 1 s.
DOUBT_S = 3.0
FAILED_S = 10.0  # a provider that could not be reached comes last for so long

Dial = Callable[[Provider], Awaitable[Introduced]]
Leave = Callable[[], None]


@dataclass(slots=True, eq=False)
class _Held:
    """A session, with the provider as it was dialled."""

    provider: Provider
    link: Link
    doubt: asyncio.Task[None] | None = None
    revival: asyncio.Task[None] | None = None
    impatient: set[Leave] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"{self.provider.name} ({short(self.provider.id)})"


class Links:
    """`dial` makes a path; `find` is the roster."""

    def __init__(self, dial: Dial, find: Callable[[PeerId], Provider | None]) -> None:
        self._dial = dial
        self._find = find
        self._held: dict[PeerId, _Held] = {}
        self._replaced: set[_Held] = set()  # answers of theirs may still come
        self._dialling: dict[tuple[PeerId, bytes], asyncio.Task[Link]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_at: dict[PeerId, float] = {}

    async def get(self, provider: Provider) -> Link:
        """A session that is up. PeerUnreachable or NotAllowed: why there is none."""
        held = self._held.get(provider.id)
        is_usable = held is not None and not held.link.is_closed
        if held is not None and is_usable and _same(held.provider, provider):
            return held.link
        key = (provider.id, provider.announcement.conn)
        dialling = self._dialling.get(key)
        if dialling is None:
            dialling = asyncio.create_task(
                self._connect(provider), name=f"dial {short(provider.id)}"
            )
            self._dialling[key] = dialling
            dialling.add_done_callback(lambda _: self._dialling.pop(key, None))
        # One asker that goes away must not take the connection from the others.
        try:
            return await asyncio.shield(dialling)
        except asyncio.CancelledError:
            if not dialling.cancelled():
                raise
            raise PeerGone(f"{provider.name} has left the mesh.") from None

    @property
    def links(self) -> list[Link]:
        return [held.link for held in self._all()]

    def peek(self, id: PeerId) -> Link | None:
        held = self._held.get(id)
        return held.link if held is not None and held.link.is_active else None

    def warmth(self, id: PeerId) -> Warmth:
        now = asyncio.get_running_loop().time()
        failed = now - self._failed_at.get(id, -FAILED_S) < FAILED_S
        link = self.peek(id)
        if link is None or link.wire is None:
            return Warmth(failed_lately=failed)
        return Warmth(True, link.load, link.wire.path.rtt_s or 0.0, failed)

    def note_failure(self, id: PeerId) -> None:
        """It is reached and cannot answer, its model server is down: it comes last."""
        self._failed_at[id] = asyncio.get_running_loop().time()

    @contextmanager
    def impatient(self, link: Link, leave: Leave) -> Iterator[None]:
        """Within, `leave` is called when the path is lost and not soon found again."""
        held = next((h for h in self._all() if h.link is link), None)
        if held is None:
            yield
            return
        held.impatient.add(leave)
        try:
            yield
        finally:
            held.impatient.discard(leave)

    def on_roster(self, left: Collection[PeerId] = ()) -> None:
        """It has changed; `left` were taken from it by name."""
        for (id, _), dialling in self._dialling.items():
            if id in left:
                dialling.cancel()
        for held in self._all():
            if held.doubt is None and not self._is_listed(held):
                held.doubt = self._run(self._doubt(held))

    async def close(self) -> None:
        tasks = [*self._dialling.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        text = "The client has ended."
        await asyncio.gather(*(link.close(Code.CANCELLED, text) for link in self.links))

    def _all(self) -> list[_Held]:
        return [*self._held.values(), *self._replaced]

    def _is_listed(self, held: _Held) -> bool:
        latest = self._find(held.provider.id)
        return latest is not None and _same(latest, held.provider)

    async def _connect(self, provider: Provider) -> Link:
        try:
            introduced = await self._dial(provider)
            link = Link(Session(secrets.token_bytes(16), is_client=True))
            try:
                await link.start(introduced.wire)
            except BaseException:
                await link.close(Code.CANCELLED, "the session did not begin")
                raise
        except MeshError:
            self.note_failure(provider.id)
            raise
        self._failed_at.pop(provider.id, None)
        held = _Held(provider, link)
        former = self._held.get(provider.id)
        if former is not None:
            self._replaced.add(former)
        self._held[provider.id] = held
        link.on_closed = lambda code, text: self._drop(held)
        link.on_going_away = lambda: self._retire(held)
        link.on_detached = lambda reason: self._on_lost(held, reason)
        log.info("connected to %s, %s", held.name, introduced.wire.carrier.kind)
        if not self._is_listed(held):  # it left while we dialled
            self.on_roster()
        return link

    def _retire(self, held: _Held) -> None:
        """For no new question; what runs goes on."""
        if self._held.get(held.provider.id) is held:
            del self._held[held.provider.id]
            self._replaced.add(held)

    def _drop(self, held: _Held) -> None:
        self._retire(held)
        self._replaced.discard(held)
        if held.doubt is not None:
            held.doubt.cancel()

    def _on_lost(self, held: _Held, reason: str) -> None:
        if held.revival is not None and not held.revival.done():
            return  # a path that it tried was lost too; it goes on
        log.info("path to %s lost: %s", held.name, reason)
        if not held.link.load:
            self._drop(held)
            held.link.end(Code.GONE, "nobody waits for this session")
            return
        held.revival = self._run(self._revive(held))

    async def _doubt(self, held: _Held) -> None:
        """Ends a session whose provider the roster lost, unless it is still heard."""
        link = held.link
        rtt_s = (link.wire.path.rtt_s if link.wire else None) or 0.0
        wait_s = DOUBT_S + 2 * rtt_s
        try:
            await asyncio.sleep(wait_s)
            is_heard = link.silence_s < wait_s
        finally:
            held.doubt = None
        if not is_heard and not self._is_listed(held) and not link.is_closed:
            self._end(held, "It has left the mesh, and does not answer.")

    async def _revive(self, held: _Held) -> None:
        """Another path for the streams that wait; none when the provider is gone."""
        clock = asyncio.get_running_loop().time
        began = seen_at = clock()
        why = "No path to it was found."
        while held.link.load and clock() - began < REDIAL_S:
            latest = self._find(held.provider.id)
            if latest is not None and not _same(latest, held.provider):
                why = "It was started anew."
                break
            try:
                if latest is None:
                    raise PeerGone("It has left the mesh.")
                await held.link.start((await self._dial(latest)).wire)
                log.info("path to %s is back", held.provider.name)
                return
            except MeshError as failure:
                if held.link.is_closed:
                    return
                why = str(failure)
                if not isinstance(failure, PeerGone):
                    seen_at = clock()
            if clock() - seen_at >= MISSING_S:
                break
            for leave in list(held.impatient):
                leave()
            await asyncio.sleep(REDIAL_PAUSE_S)
        self._end(held, why)

    def _end(self, held: _Held, why: str) -> None:
        self.note_failure(held.provider.id)
        self._retire(held)
        held.link.end(Code.GONE, f"The provider {held.provider.name} was lost. {why}")

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _same(one: Provider, other: Provider) -> bool:
    """Whether both are the same process of the node."""
    return one.announcement.conn == other.announcement.conn
