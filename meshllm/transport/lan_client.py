"""Asks another node's LAN endpoint: who it is, what it has, and to pass envelopes on.

docs/protocol.md §11. Whoever answers is a stranger: all sizes and times are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import nacl.utils
from nacl.public import PrivateKey
from yarl import URL

from meshllm.errors import MeshError, PeerGone, PeerUnreachable
from meshllm.identity import Identity
from meshllm.protocol import visit as visits
from meshllm.protocol.envelope import ENVELOPE_MAX
from meshllm.protocol.visit import Contact, Reply, Visit
from meshllm.transport.attempt import CONNECT_S
from meshllm.transport.envelopes import Deliver
from meshllm.transport.lan_server import HOST
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)

REACH_S: Final = 1.0  # a machine of this LAN answers within some milliseconds
ANSWER_S: Final = 3.0  # issuing a membership is written to disk
SOCKETS_MAX: Final = 32
ENVELOPES_MAX: Final = 64  # of one introduction
CARD: Final = "/v1/card"
SIGNAL: Final = "/v1/signal"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is: an address, or a name by hand, and its port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class LanClient:
    """One for a running node; everything raises PeerUnreachable when nobody answers as
    a node of ours would."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=SOCKETS_MAX, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Host": HOST},
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=REACH_S),
        )
        self._reading: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await self._session.close()

    async def contact(self, place: Place) -> Contact:
        """Who is there, by its own signature. What it says of its mesh is a claim."""
        data = await self._fetch(visits.CONTACT_MAX, "GET", place, CARD)
        return Contact.read(data.decode("ascii", "replace"))

    async def visit(
        self,
        place: Place,
        contact: Contact,
        chain: Sequence[str],
        revocations: str | None,
    ) -> Reply:
        """Shows our chain to that node and nobody else. NotAllowed: it refuses us."""
        me = self._identity
        visit = Visit(
            sender=me.id,
            to=contact.id,
            box=me.box.public_key.encode(),
            nonce=nacl.utils.random(32),
            ts=int(time.time()),
            chain=tuple(chain),
        )
        sealed = visits.seal_visit(
            visit,
            revocations,
            me.signing,
            contact.box,
            PrivateKey.generate(),
            nacl.utils.random(24),
        )
        data = await self._fetch(visits.REPLY_MAX, "POST", place, CARD, sealed)
        return visits.open_reply(data, me.box, visit)

    def call(self, place: Place, receive: Callable[[bytes], object]) -> Deliver:
        """For one introduction. What comes back, on the first envelope's response, is
        given to `receive`; later envelopes go by themselves."""
        is_open = False

        async def deliver(to: PeerId, conn: bytes | None, sealed: bytes) -> None:
            nonlocal is_open
            if is_open:
                await self._fetch(0, "POST", place, SIGNAL, sealed)
                return
            is_open = True
            response = await self._ask("POST", place, SIGNAL, sealed, CONNECT_S)
            reading = asyncio.create_task(
                _receive(place, response, receive), name=f"answers of {place}"
            )
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)

        return deliver

    async def _fetch(
        self, most: int, method: str, place: Place, path: str, body: bytes | None = None
    ) -> bytes:
        """The answer, of at most `most` bytes."""
        data = bytearray()
        async with await self._ask(method, place, path, body, ANSWER_S) as response:
            with _reached(place):
                async for chunk in response.content.iter_any():
                    data += chunk
                    if len(data) > most:
                        raise PeerUnreachable(f"{place} answers more than is allowed.")
        return bytes(data)

    async def _ask(
        self, method: str, place: Place, path: str, body: bytes | None, total_s: float
    ) -> aiohttp.ClientResponse:
        """A response that has begun well."""
        with _reached(place):
            response = await self._session.request(
                method,
                URL.build(scheme="http", host=place.host, port=place.port, path=path),
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=REACH_S),
            )
        if response.status in (200, 204):
            return response
        response.close()
        if response.status == 404:
            raise PeerGone(f"{place} is open for something else, such as pairing.")
        if response.status == 429:
            raise PeerUnreachable(f"{place} was asked too often this minute.")
        raise PeerUnreachable(
            f"{place} is no node of this version: it answered {response.status}."
        )


async def _receive(
    place: Place, response: aiohttp.ClientResponse, receive: Callable[[bytes], object]
) -> None:
    """Envelopes, each with its length in two bytes before it, until the last."""
    content = response.content
    async with response:
        try:
            with _reached(place):
                for _ in range(ENVELOPES_MAX):
                    size = int.from_bytes(await content.readexactly(2))
                    if size > ENVELOPE_MAX:
                        return
                    receive(await content.readexactly(size))
        except asyncio.IncompleteReadError:
            pass  # that was all
        except MeshError as error:
            log.debug("the answers broke off: %s", error)


@contextlib.contextmanager
def _reached(place: Place) -> Iterator[None]:
    """PeerUnreachable for whatever keeps us from being answered there."""
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        why = str(error) or "no answer in time"
        raise PeerUnreachable(f"Nobody answers at {place}: {why}.") from error
