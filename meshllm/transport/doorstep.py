"""Pairing on a LAN: the owner's machine opens a door there, the newcomer finds it and
knocks with its offer. Letters go both ways as HTTP (docs/protocol.md §3.3).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from meshllm.errors import MeshError, PeerUnreachable
from meshllm.protocol.pairing_messages import LETTER_MAX, Offer
from meshllm.transport.addresses import is_lan, is_loopback, read_lan
from meshllm.transport.lan import Hint, Multicast
from meshllm.transport.lan_server import HOST, LanServer, read_body
from meshllm.transport.mailbox import LEFT
from meshllm.trust.keys import PeerId

PAIR: Final = "/v1/pair"
LETTERS: Final = 8  # from each side, as in a mailbox
POLL_S: Final = 5.0  # a request for a letter that is not there yet is held so long
REACH_S: Final = 1.0  # a machine of this LAN answers within milliseconds
QUIET_S: Final = 5.0  # nobody asks for a letter: the newcomer has gone away
LOOK_S: Final = 1.0  # how often that is looked at
RETRY_S: Final = 0.5
ASK_S: Final = 5.0  # announcements come by themselves; asking finds what was missed
DOORS_MAX: Final = 256
NO_LAN: Final = "This machine is on no local network."


class Doorstep:
    """The owner's end. It takes one newcomer; who knocks later is told so."""

    def __init__(self) -> None:
        self._server = LanServer(
            {
                f"POST {PAIR}": self._knock,
                f"POST {PAIR}/{{talk}}": self._take,
                f"GET {PAIR}/{{talk}}/{{number}}": self._give,
            }
        )
        self._change = asyncio.Condition()
        self._talk = ""  # what only the newcomer knows
        self._theirs: deque[bytes] = deque()
        self._taken = 0
        self._ours: list[bytes] = []
        self._given = 0
        self._asking = 0
        self._heard = 0.0

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, owner: PeerId) -> AsyncIterator[Doorstep]:
        """Announced on the LAN until the block ends. PeerUnreachable: there is none."""
        addresses = read_lan()
        if not addresses:
            raise PeerUnreachable(NO_LAN)
        step = cls()
        try:
            await step._server.listen(addresses)
            async with _multicast(lambda hint: None) as multicast:
                await multicast.announce(
                    owner, step._server.port, step._server.addresses
                )
                yield step
        finally:
            await step._server.stop()

    async def send(self, letter: bytes) -> None:
        """Returns when the newcomer has it."""
        self._ours.append(letter)
        number = len(self._ours)
        await self._changed()
        await self._until(lambda: self._given >= number)

    async def receive(self) -> bytes:
        """The next letter, the first of which is an offer. PeerUnreachable when who
        knocked has gone away."""
        await self._until(lambda: bool(self._theirs))
        return self._theirs.popleft()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S), self._change:
                    await self._change.wait_for(is_so)
                    return
            is_quiet = loop.time() - self._heard > QUIET_S and not self._asking
            if self._talk and is_quiet:
                raise PeerUnreachable(LEFT)

    async def _changed(self) -> None:
        self._heard = asyncio.get_running_loop().time()
        async with self._change:
            self._change.notify_all()

    # Routes

    async def _knock(self, request: web.Request) -> web.StreamResponse:
        letter = await read_body(request, LETTER_MAX)
        try:
            is_for_us = Offer.read(letter).mailbox is None
        except MeshError as error:
            raise web.HTTPBadRequest from error
        if not is_for_us:
            raise web.HTTPBadRequest
        if self._talk:
            raise web.HTTPConflict
        self._talk = secrets.token_urlsafe(16)
        self._server.know(request.remote or "")
        self._theirs.append(letter)
        await self._changed()
        return web.Response(text=self._talk)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        letter = await read_body(request, LETTER_MAX)
        if self._taken >= LETTERS:
            raise web.HTTPTooManyRequests
        self._taken += 1
        self._theirs.append(letter)
        await self._changed()
        return web.Response(status=204)

    async def _give(self, request: web.Request) -> web.StreamResponse:
        """Letter `number`, from 1, when there is one. Any may be asked for again."""
        self._check(request)
        number = int(request.match_info["number"])
        self._asking += 1
        try:
            async with asyncio.timeout(POLL_S), self._change:
                await self._change.wait_for(lambda: len(self._ours) >= number)
            response = web.Response(body=self._ours[number - 1])
            await response.prepare(request)
            await response.write_eof()
            self._given = max(self._given, number)
            return response
        except TimeoutError:
            return web.Response(status=204)
        finally:
            self._asking -= 1
            await self._changed()

    def _check(self, request: web.Request) -> None:
        said = request.match_info["talk"].encode()
        if not self._talk or not hmac.compare_digest(said, self._talk.encode()):
            raise web.HTTPNotFound
        number = request.match_info.get("number", "1")
        if number not in map(str, range(1, LETTERS + 1)):
            raise web.HTTPNotFound


class Visitor:
    """The newcomer's end, at a door that took its offer."""

    def __init__(self, session: aiohttp.ClientSession, door: URL) -> None:
        self._session = session
        self._door = door
        self._number = 1

    async def send(self, letter: bytes) -> None:
        status, _ = await self._ask("POST", self._door, letter)
        if status != 204:
            raise PeerUnreachable(LEFT)

    async def receive(self) -> bytes:
        """PeerUnreachable when the owner's machine is gone."""
        is_retried = False
        while True:
            try:
                status, letter = await self._ask("GET", self._door / str(self._number))
            except PeerUnreachable:
                if is_retried:
                    raise
                is_retried = True  # it may have been one connection alone
                await asyncio.sleep(RETRY_S)
                continue
            if status == 200:
                self._number += 1
                return letter
            if status != 204:
                raise PeerUnreachable(LEFT)
            is_retried = False

    async def _ask(
        self, method: str, url: URL, body: bytes | None = None
    ) -> tuple[int, bytes]:
        try:
            return await _fetch(self._session, method, url, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PeerUnreachable(LEFT) from error


@contextlib.asynccontextmanager
async def knock(offer: bytes) -> AsyncIterator[Visitor]:
    """Looks for an open door on the LAN, for as long as it takes, and leaves the offer
    at the first that takes it. PeerUnreachable: there is no LAN."""
    hints: asyncio.Queue[Hint] = asyncio.Queue(DOORS_MAX)

    def hear(hint: Hint) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            hints.put_nowait(hint)

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Host": HOST},
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=POLL_S + QUIET_S, sock_connect=REACH_S),
    ) as session:
        async with _multicast(hear) as multicast:
            door = await _open_door(session, multicast, hints, offer)
        yield Visitor(session, door)


async def _open_door(
    session: aiohttp.ClientSession,
    multicast: Multicast,
    hints: asyncio.Queue[Hint],
    offer: bytes,
) -> URL:
    """A door that does not open is tried again when it is heard of again, but not at
    once; one that is none, like that of a `share`, never."""
    now = asyncio.get_running_loop().time
    not_before: dict[tuple[str, int], float] = {}
    asks_at = now()
    while True:
        if now() >= asks_at:
            multicast.ask()
            asks_at = now() + ASK_S
        try:
            async with asyncio.timeout_at(asks_at):
                hint = await hints.get()
        except TimeoutError:
            continue
        for host in hint.hosts:
            known = len(not_before) < DOORS_MAX
            if not (is_lan(host) or is_loopback(host)) or not known:
                continue
            if now() < not_before.get((host, hint.port), 0.0):
                continue
            url = URL.build(scheme="http", host=host, port=hint.port, path=PAIR)
            try:
                status, talk = await _fetch(session, "POST", url, offer)
                if status == 200:
                    return url / talk.decode("ascii")
            except (aiohttp.ClientError, OSError, ValueError):
                status = 0
            is_none = status in (403, 404, 405)
            not_before[host, hint.port] = float("inf") if is_none else now() + ASK_S


async def _fetch(
    session: aiohttp.ClientSession, method: str, url: URL, body: bytes | None
) -> tuple[int, bytes]:
    """ValueError when the answer is larger than a letter."""
    async with session.request(
        method, url, data=body, allow_redirects=False
    ) as response:
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > LETTER_MAX:
                raise ValueError("more than a letter")
        return response.status, bytes(data)


@contextlib.asynccontextmanager
async def _multicast(hear: Callable[[Hint], None]) -> AsyncIterator[Multicast]:
    """PeerUnreachable where there is no LAN, or nobody can be heard on it."""
    addresses = read_lan()
    if not addresses:
        raise PeerUnreachable(NO_LAN)
    multicast = Multicast(hear, lambda name: None)
    try:
        await multicast.start(addresses)
    except MeshError as error:
        raise PeerUnreachable(str(error)) from error
    try:
        yield multicast
    finally:
        await multicast.stop()
