"""Sessions with providers, kept warm: one each, dialled once however many ask.

Silence is judged here: a session whose path is silent, or lost, is given another while
somebody waits for it, and whoever can as well ask somebody else is told to. That a
provider has ended shows in two ways together: the roster no longer lists it as it was
dialled, and its path is silent; then nobody is kept waiting.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from meshllm.errors import Code, MeshError, PeerGone, PeerUnreachable
from meshllm.protocol.path import SILENT_S
from meshllm.protocol.session import Session
from meshllm.routing.choose import Warmth
from meshllm.routing.revival import LOOK_S, Dial, Find, Held, Leave, is_same, revive
from meshllm.routing.roster import Provider
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

# Longer than the 2 s between two pings, and than SCTP's first repetition after 1 s.
DOUBT_S = 3.0
ATTEMPT_S = 10.0  # from nothing to a session, or to the reason why there is none
MOVE_S = 15.0  # until the next try to move a session to the LAN
FAILED_S = 10.0  # a provider that could not be reached comes last for so long


class Links:
    """`dial` makes a path; `find` is the roster. `has_lan`: whether the LAN has a way
    to a provider, which new questions shall take."""

    def __init__(
        self,
        dial: Dial,
        find: Find,
        has_lan: Callable[[Provider], bool] = lambda provider: False,
    ) -> None:
        self._dial = dial
        self._find = find
        self._has_lan = has_lan
        self._held: dict[PeerId, Held] = {}
        self._replaced: set[Held] = set()  # answers of theirs may still come
        self._dialling: dict[tuple[PeerId, bytes], asyncio.Task[Link]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_at: dict[PeerId, float] = {}
        self._move_at: dict[PeerId, float] = {}

    async def get(self, provider: Provider) -> Link:
        """A session that is up. PeerUnreachable or NotAllowed: why there is none.

        Whoever cancels this leaves the dialling to those who ask next.
        """
        if (link := self.warm(provider)) is not None:
            return link
        key = (provider.id, provider.announcement.conn)
        dialling = self._dialling.get(key)
        if dialling is None:
            dialling = asyncio.create_task(
                self._connect(provider), name=f"dial {short(provider.id)}"
            )
            self._dialling[key] = dialling
            dialling.add_done_callback(lambda task: self._dialled(key, task))
        # One asker that goes away must not take the connection from the others.
        try:
            return await asyncio.shield(dialling)
        except asyncio.CancelledError:
            if not dialling.cancelled():
                raise
            raise PeerGone(f"{provider.name} has left the mesh.") from None

    def warm(self, provider: Provider) -> Link | None:
        """The session with this very process, if there is one. Where the LAN has a way
        to it by now, it moves there, with all that runs in it."""
        held = self._held.get(provider.id)
        if held is None or held.link.is_closed or not is_same(held.provider, provider):
            return None
        if self._has_lan(provider):
            self._prefer_lan(held.link, provider)
        return held.link

    @property
    def links(self) -> list[Link]:
        return [held.link for held in self._all()]

    def peek(self, id: PeerId) -> Link | None:
        held = self._held.get(id)
        return held.link if held is not None and held.link.is_active else None

    def warmth(self, id: PeerId) -> Warmth:
        now = asyncio.get_running_loop().time()
        failed = now - self._failed_at.get(id, -FAILED_S) < FAILED_S
        held, link = self._held.get(id), self.peek(id)
        if held is None or link is None or link.wire is None:
            return Warmth(failed_lately=failed)
        if held.is_silent:
            return Warmth(False, link.load, failed_lately=True)
        return Warmth(True, link.load, link.wire.path.rtt_s or 0.0, failed)

    def note_failure(self, id: PeerId) -> None:
        """It is not reached, or cannot answer: for a while it comes last."""
        self._failed_at[id] = asyncio.get_running_loop().time()

    @contextmanager
    def impatient(self, link: Link, leave: Leave) -> Iterator[None]:
        """Within, `leave` is called, again and again, while the provider is silent."""
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

    def on_network(self) -> None:
        """Ours has changed, or we slept: ask every path whether it leads there yet."""
        for held in self._all():
            if held.link.is_active:
                held.ask()
                self._run(self._check(held))

    async def _check(self, held: Held) -> None:
        """What is silent after MOVED_S is replaced if it is wanted, else closed."""
        await held.waited()
        self._look(held)
        if held.is_silent and not held.link.load and held.link.wire is not None:
            held.link.wire.close("no answer since our network changed")

    def _prefer_lan(self, link: Link, provider: Provider) -> None:
        now = asyncio.get_running_loop().time()
        is_there = link.wire is None or link.wire.carrier.kind == "lan"
        if is_there or not link.is_active or now < self._move_at.get(provider.id, now):
            return
        self._move_at[provider.id] = now + MOVE_S
        self._run(self._move(link, provider))

    async def _move(self, link: Link, provider: Provider) -> None:
        try:
            introduced = await self._dial(provider)
            if introduced.is_lan and link.is_active:
                await link.start(introduced.wire)
                self._move_at.pop(provider.id, None)
                log.info("the session with %s is on the LAN now", provider.name)
            else:
                introduced.wire.close("no better than the path there is")
        except MeshError as error:
            log.info("the session with %s did not move: %s", provider.name, error)

    async def close(self) -> None:
        tasks = [*self._dialling.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        text = "This node is shutting down."
        await asyncio.gather(*(link.close(Code.CANCELLED, text) for link in self.links))

    def _all(self) -> list[Held]:
        return [*self._held.values(), *self._replaced]

    def _is_listed(self, held: Held) -> bool:
        latest = self._find(held.provider.id)
        return latest is not None and is_same(latest, held.provider)

    async def _connect(self, provider: Provider) -> Link:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                introduced, link = await self._begin(provider)
        except TimeoutError:
            self.note_failure(provider.id)
            raise PeerUnreachable(
                f"No session within {ATTEMPT_S:g} s: it is reached, but too slow to"
                " begin one; it may be overloaded. Try again."
            ) from None
        except MeshError:
            self.note_failure(provider.id)
            raise
        self._failed_at.pop(provider.id, None)
        held = Held(provider, link)
        former = self._held.get(provider.id)
        if former is not None:
            self._replaced.add(former)
        self._held[provider.id] = held
        held.watch = self._run(self._watch(held))
        link.on_closed = lambda code, text: self._drop(held)
        link.on_going_away = lambda: self._retire(held)
        link.on_detached = lambda reason: self._on_lost(held, reason)
        link.on_stalled = lambda: self._look(held)
        log.info("connected to %s, %s", held.name, introduced.wire.carrier.kind)
        if not self._is_listed(held):  # it left while we dialled
            self.on_roster()
        return link

    def _dialled(self, key: tuple[PeerId, bytes], task: asyncio.Task[Link]) -> None:
        self._dialling.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited for it may have left

    async def _begin(self, provider: Provider) -> tuple[Introduced, Link]:
        introduced = await self._dial(provider)
        link = Link(Session(secrets.token_bytes(16), is_client=True))
        try:
            await link.start(introduced.wire)
        except BaseException:
            await link.close(Code.CANCELLED, "the session did not begin")
            raise
        return introduced, link

    def _retire(self, held: Held) -> None:
        """For no new question; what runs goes on."""
        if self._held.get(held.provider.id) is held:
            del self._held[held.provider.id]
            self._replaced.add(held)

    def _drop(self, held: Held) -> None:
        self._retire(held)
        self._replaced.discard(held)
        for task in (held.watch, held.doubt):
            if task is not None:
                task.cancel()

    def _on_lost(self, held: Held, reason: str) -> None:
        log.info("path to %s lost: %s", held.name, reason)
        if held.link.load:
            self._seek(held)
        else:
            self._drop(held)
            held.link.end(Code.GONE, "nobody waits for this session")

    def _seek(self, held: Held) -> None:
        """Another path. Nothing happens while one is looked for."""
        if held.revival is None or held.revival.done():
            held.revival = self._run(self._revive(held))

    async def _watch(self, held: Held) -> None:
        """While the session lives: its path may be silent long before it is lost."""
        while True:
            await asyncio.sleep(max(SILENT_S - held.link.silence_s, LOOK_S))
            self._look(held)

    def _look(self, held: Held) -> None:
        if held.is_silent and held.link.load:
            self._seek(held)

    async def _doubt(self, held: Held) -> None:
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

    async def _revive(self, held: Held) -> None:
        why = await revive(held, self._dial, self._find)
        if why is not None:
            self._end(held, why)

    def _end(self, held: Held, why: str) -> None:
        self.note_failure(held.provider.id)
        self._retire(held)
        held.link.end(Code.GONE, f"The provider {held.provider.name} was lost. {why}")

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
