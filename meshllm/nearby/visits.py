"""Visits to whoever says to be on this LAN: proven or not, and what is learned there.

docs/protocol.md §11.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from meshllm.errors import MeshError, NotAllowed, PeerGone, TrustError
from meshllm.nearby.neighbours import Neighbours, Proven, Spot
from meshllm.nearby.ties import Ties
from meshllm.protocol.visit import Reply
from meshllm.transport.lan_client import LanClient, Place
from meshllm.trust.announcement import Announcement
from meshllm.trust.keys import short

log = logging.getLogger(__name__)


class Visits:
    """Those that are under way. `on_news`: something of the mesh was learned."""

    def __init__(
        self,
        ties: Ties,
        client: LanClient,
        neighbours: Neighbours,
        *,
        on_news: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._ties = ties
        self._client = client
        self._neighbours = neighbours
        self._on_news = on_news
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, spots: Sequence[Spot]) -> None:
        for spot in spots:
            visit = asyncio.create_task(self._visit(spot), name=f"see {spot.name}")
            self._tasks.add(visit)
            visit.add_done_callback(self._ended)

    async def close(self) -> None:
        for visit in self._tasks:
            visit.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _visit(self, spot: Spot) -> None:
        loop = asyncio.get_running_loop()
        before = spot.proven
        try:
            proven, reply = await self._prove(spot)
            self._learn(proven, reply)
            if reply.announcement is not None:
                self._ties.on_card(reply.announcement)
        except MeshError as error:
            problem = str(error) or None
            if self._neighbours.failed(spot, problem, loop.time()):
                log.info("%s is not on the LAN any more: %s", spot.name, problem)
            self._has_changed(before)
            return
        self._neighbours.proved(spot, proven, loop.time())
        if before is None:
            log.info("%s is on the LAN at %s", short(proven.id), proven.place)
        self._has_changed(before)

    def _has_changed(self, before: Proven | None) -> None:
        """Who shared models here may share none any more."""
        if before is None or before.conn is None:
            return
        if not self._neighbours.is_there(before.id):
            self._ties.on_left(before.id)

    async def _prove(self, spot: Spot) -> tuple[Proven, Reply]:
        """Raises the last reason why nobody there is a node of our mesh."""
        failure: MeshError = MeshError("")
        for place in spot.tries:
            try:
                return await self._prove_at(place, spot)
            except MeshError as error:
                failure = error
        raise failure

    async def _prove_at(self, place: Place, spot: Spot) -> tuple[Proven, Reply]:
        known = spot.proven
        if known is None or known.place != place:
            try:
                contact = await self._client.contact(place)
            except PeerGone as error:
                if spot.is_manual:
                    raise
                raise MeshError("") from error
            if spot.id not in (None, contact.id):
                raise TrustError(f"another node answers at {place}")
            if not contact.is_in(self._ties.membership.mesh):
                if spot.is_manual:
                    raise NotAllowed(f"{place} is a node of another mesh")
                raise MeshError("")  # none of our business
            spot.claims = True
        else:
            contact = known.contact
        membership = self._ties.membership
        try:
            reply = await self._client.visit(
                place, contact, membership.chain, membership.revocations
            )
        except TrustError as error:
            raise TrustError(f"{place} cannot prove to be who it claims") from error
        conn = None
        if reply.announcement is not None:
            announcement = Announcement.read(reply.announcement)
            if announcement.id != contact.id:
                raise TrustError(f"{place} speaks for another node")
            conn = announcement.conn
        return Proven(contact, place, conn), reply

    def _learn(self, proven: Proven, reply: Reply) -> None:
        """Each by its own signature; any node of the mesh may pass it on."""
        known, now = self._ties.membership, int(time.time())
        before = known.statement, known.revocations, known.chain, known.hub
        with _logged(f"what {short(proven.id)} says of the mesh"):
            if reply.statement is not None:
                known.newer_statement(reply.statement)
            if reply.revocations is not None:
                known.newer_revocations(reply.revocations)
            if reply.membership is not None and reply.statement is not None:
                known.accept(reply.membership, reply.statement, now)
            server = reply.server if known.is_owner(proven.id) else None
            if server is not None and known.hub is None:
                known.attach(server.url, server.key)
        if before != (known.statement, known.revocations, known.chain, known.hub):
            self._on_news()

    def _ended(self, visit: asyncio.Task[None]) -> None:
        self._tasks.discard(visit)
        self._on_end()
        if not visit.cancelled() and (error := visit.exception()) is not None:
            log.error("a visit failed", exc_info=error)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except MeshError as error:
        log.warning("%s: %s", what, error)
