"""What the LAN endpoint answers: to strangers a contact, to nodes of the mesh the rest.

docs/protocol.md §11.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import nacl.utils
from aiohttp import web
from nacl.public import PrivateKey

from meshllm.errors import Code, MeshError, NotAllowed, ProtocolError, TrustError
from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.protocol import visit as visits
from meshllm.protocol.envelope import ENVELOPE_MAX, TEXT_MAX
from meshllm.protocol.visit import Contact, Refused, Reply, Server, Visit
from meshllm.transport.introduce import Introducer
from meshllm.transport.lan_client import CARD, SIGNAL
from meshllm.transport.lan_server import Handler, LanServer, read_body
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

SALT: Final = 16
ENVELOPES: Final = 64  # that may wait for a slow reader


class Reception:
    """`card` is our announcement, None while nothing is shared; `on_news` is called
    when a visitor knew more of the mesh than we did."""

    def __init__(
        self,
        identity: Identity,
        membership: Membership,
        introducer: Introducer,
        *,
        card: Callable[[], str | None],
        on_news: Callable[[], None],
        port: int = 0,
    ) -> None:
        self._identity = identity
        self._membership = membership
        self._introducer = introducer
        self._card = card
        self._on_news = on_news
        self._contact = Contact.of(
            identity.id,
            identity.box.public_key.encode(),
            nacl.utils.random(SALT),
            membership.mesh,
        ).sign(identity.signing)
        self.server = LanServer(self._routes(), port=port)

    def _routes(self) -> Mapping[str, Handler]:
        return {
            f"GET {CARD}": self._on_contact,
            f"POST {CARD}": self._on_visit,
            f"POST {SIGNAL}": self._on_signal,
        }

    async def _on_contact(self, _: web.Request) -> web.Response:
        return web.Response(text=self._contact)

    async def _on_visit(self, request: web.Request) -> web.Response:
        sealed = await read_body(request, visits.VISIT_MAX)
        me = self._identity
        try:
            visit, revocations = visits.open_visit(sealed, me.box, me=me.id)
        except (ProtocolError, TrustError) as error:
            raise web.HTTPBadRequest(text="This is no visit.") from error
        reply = self._reply(visit, revocations)
        if reply.refused is None:
            self.server.know(request.remote or "")
        answer = visits.seal_reply(
            reply, visit.box, PrivateKey.generate(), nacl.utils.random(24)
        )
        return web.Response(body=answer)

    def _reply(self, visit: Visit, revocations: str | None) -> Reply:
        now, known = int(time.time()), self._membership
        try:
            visits.check_clock(visit, now)
            if revocations is not None:
                self._learn(revocations)
            known.decide(visit.chain, visit.sender, now)
        except MeshError as error:
            log.info("%s came by and was refused: %s", short(visit.sender), error)
            code = error.code if isinstance(error, NotAllowed) else Code.AUTH
            text = "".join(c if c.isprintable() else " " for c in str(error))
            return Reply(visit.nonce, refused=Refused(code, text[:TEXT_MAX]))
        return Reply(
            visit.nonce,
            announcement=self._card(),
            statement=known.statement,
            revocations=known.revocations,
            membership=self._issue(visit, now),
            server=self._server(),
        )

    def _learn(self, revocations: str) -> None:
        before = self._membership.revocations
        try:
            self._membership.newer_revocations(revocations)
        except MeshError as error:
            log.debug("a visitor's list of revocations was refused: %s", error)
        if self._membership.revocations != before:
            self._on_news()

    def _issue(self, visit: Visit, now: int) -> str | None:
        """The membership for a card that we gave the ticket for."""
        try:
            return self._membership.issue(self._identity, visit.chain, now)
        except MeshError:  # it has one, or another owner invited it
            return None

    def _server(self) -> Server | None:
        hub, key = self._membership.hub, self._membership.hub_key
        return Server(hub, key) if hub is not None and key is not None else None

    async def _on_signal(self, request: web.Request) -> web.StreamResponse:
        sealed = await read_body(request, ENVELOPE_MAX)
        answers: asyncio.Queue[bytes] = asyncio.Queue(ENVELOPES)

        async def deliver(to: PeerId, conn: bytes | None, sealed: bytes) -> None:
            await answers.put(sealed)

        answering = self._introducer.receive(None, sealed, deliver, is_lan=True)
        if answering is None:
            return web.Response(status=204)
        response = web.StreamResponse()
        await response.prepare(request)
        async for envelope in _until(answering, answers):
            await response.write(len(envelope).to_bytes(2) + envelope)
        await response.write_eof()
        return response


async def _until(
    answering: asyncio.Task[None], answers: asyncio.Queue[bytes]
) -> AsyncIterator[bytes]:
    """What is answered, as it comes, until nothing more will."""
    while not answering.done():
        getting = asyncio.ensure_future(answers.get())
        try:
            await asyncio.wait(
                (answering, getting), return_when=asyncio.FIRST_COMPLETED
            )
            if getting.done():
                yield getting.result()
        finally:
            getting.cancel()
    while not answers.empty():
        yield answers.get_nowait()
