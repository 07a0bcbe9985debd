"""A session whose path is silent or lost, while somebody waits: raced for another one.

docs/protocol.md §6.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from meshllm.errors import MeshError, PeerGone
from meshllm.protocol.frames import Ping
from meshllm.protocol.path import SILENT_S
from meshllm.routing.roster import Provider
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

REDIAL_S = 30.0  # how long another path is looked for while answers are under way
REDIAL_PAUSE_S = 1.0
MOVED_S = 2.0  # a path that answers no PING for so long after our network changed
EARLY_S = 0.01  # timers may come a millisecond before their time
MISSING_S = 5.0  # a provider may be absent so long: after a restart of the server
LOOK_S = 0.5  # how soon is seen that a silent path is heard again, or somebody joined

Dial: TypeAlias = Callable[[Provider], Coroutine[Any, Any, Introduced]]
Find: TypeAlias = Callable[[PeerId], Provider | None]
Leave: TypeAlias = Callable[[], None]


@dataclass(slots=True, eq=False)
class Held:
    """A session, with the provider as it was dialled. `impatient` are those who would
    rather ask another provider than wait for a silent one. `moved_at` is when our own
    network last changed, by the loop's clock."""

    provider: Provider
    link: Link
    moved_at: float | None = None
    watch: asyncio.Task[None] | None = None
    doubt: asyncio.Task[None] | None = None
    revival: asyncio.Task[None] | None = None
    impatient: set[Leave] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"{self.provider.name} ({short(self.provider.id)})"

    @property
    def is_silent(self) -> bool:
        """For 4 s; or since our network changed, which is 2 s ago by now."""
        silence_s = self.link.silence_s
        if silence_s >= SILENT_S:
            return True
        if self.moved_at is None:
            return False
        since_s = asyncio.get_running_loop().time() - self.moved_at
        return silence_s >= since_s >= MOVED_S

    @property
    def is_heard(self) -> bool:
        return self.link.is_active and not self.is_silent

    @property
    def is_wanted(self) -> bool:
        """Somebody waits, in vain so far."""
        return self.link.load > 0 and not self.is_heard

    def ask(self) -> None:
        """Our network has changed: PING. What was asked already stays so."""
        now, wire = asyncio.get_running_loop().time(), self.link.wire
        if self.moved_at is None or self.link.silence_s < now - self.moved_at:
            self.moved_at = now
        if wire is not None:
            wire.path.queue(Ping(0))
            wire.wake()

    async def waited(self) -> None:
        """Until an answer to `ask` would have come."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep((self.moved_at or now) + MOVED_S + EARLY_S - now)

    def let_leave(self) -> None:
        for leave in list(self.impatient):
            leave()


async def revive(held: Held, dial: Dial, find: Find) -> str | None:
    """Returns when the session has a path, or nobody waits; else why it never will."""
    clock = asyncio.get_running_loop().time
    began = seen_at = clock()
    # A path that was closed, not silent, is often soon replaced: to begin anew
    # elsewhere would cost more.
    leave_at = began if held.link.wire is not None else began + SILENT_S
    why = "No path to it was found."
    while held.is_wanted:
        if clock() - began >= REDIAL_S or clock() - seen_at >= MISSING_S:
            return why
        latest = find(held.provider.id)
        if latest is not None and not is_same(latest, held.provider):
            return "It was started anew."
        try:
            if latest is None:
                raise PeerGone("It has left the mesh.")
            await _race(held, dial(latest), leave_at)
        except MeshError as failure:
            if held.link.is_closed:
                return None
            why = str(failure)
            if not isinstance(failure, PeerGone):
                seen_at = clock()
            leave_at = began
            held.let_leave()
            await asyncio.sleep(REDIAL_PAUSE_S)
    return None


async def _race(
    held: Held, dial: Coroutine[Any, Any, Introduced], leave_at: float
) -> None:
    """Another path beside the silent one, which wins when it is heard before."""
    clock = asyncio.get_running_loop().time
    dialling = asyncio.create_task(dial)
    try:
        while not dialling.done():
            if clock() >= leave_at:
                held.let_leave()
            if not held.is_wanted:
                return
            await asyncio.wait([dialling], timeout=LOOK_S)
        await held.link.start(dialling.result().wire)
        log.info("path to %s is back", held.name)
    finally:
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)


def is_same(one: Provider, other: Provider) -> bool:
    """Whether both are the same process of the node."""
    return one.announcement.conn == other.announcement.conn
