"""The HTTP endpoint on the LAN: a few exact routes, open to strangers, so bounded in
everything: sockets, headers, bodies, requests a minute (docs/protocol.md §11).

Browsers are kept out: no CORS, no Origin, and a Host that none of them can send.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

from aiohttp import web

from meshllm.errors import ConfigError
from meshllm.transport.addresses import LanAddress, is_lan, is_loopback
from meshllm.transport.allowance import Allowances

log = logging.getLogger(__name__)

HOST: Final = "meshllm"  # what a Host header must say: a rebinding page cannot
BODY_MAX: Final = 65_536
HEADER_MAX: Final = 1_024  # of one line
HEADERS_MAX: Final = 16
SOCKETS_MAX: Final = 64
SOCKETS_PER_ADDRESS: Final = 8
STRANGER_S: Final = 5.0  # a stranger's socket lives so long, whatever it does
KNOWN_S: Final = 60.0
BACKLOG: Final = 32

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LanServer:
    """`routes`: handlers by method and path, as `{"POST /v1/signal": handler}`. A
    handler reads its body by `read_body`, its caller's address is `request.remote`.

    Nothing listens before `listen` says where; `port` 0 is any that is free.
    """

    def __init__(self, routes: Mapping[str, Handler], *, port: int = 0) -> None:
        self.port = port
        self._is_wished = port != 0
        self.allowances = Allowances()
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_MAX)
        app.on_response_prepare.append(_name_server)
        for route, handler in routes.items():
            method, _, path = route.partition(" ")
            app.router.add_route(method, path, handler)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=1.0,
            keepalive_timeout=KNOWN_S,
            max_line_size=HEADER_MAX,
            max_field_size=HEADER_MAX,
            max_headers=HEADERS_MAX,
            auto_decompress=False,
        )
        self._listening: dict[LanAddress, asyncio.Server] = {}
        self._doors: dict[_Door, None] = {}  # in the order of their coming

    @property
    def addresses(self) -> list[LanAddress]:
        """Where it listens."""
        return list(self._listening)

    async def listen(self, addresses: Sequence[LanAddress]) -> None:
        """On exactly these, on one port. What cannot be listened on is logged.

        ConfigError when the port that was wished for is taken everywhere.
        """
        if self._runner.server is None:
            await self._runner.setup()
        for gone in self._listening.keys() - set(addresses):
            self._listening.pop(gone).close()
        failure: OSError | None = None
        for address in addresses:
            if address not in self._listening:
                try:
                    await self._listen(address)
                except OSError as error:
                    failure = error
                    log.debug("the LAN endpoint is not at %s: %s", address.host, error)
        if failure is not None and self._is_wished and not self._listening:
            raise ConfigError(
                f"Port {self.port} cannot be used on the LAN: {failure.strerror}. "
                "Choose another with --lan-port."
            )

    def know(self, address: str) -> None:
        """A node of the mesh has proven itself from there: it may ask more."""
        self.allowances.know(_bare(address), asyncio.get_running_loop().time())

    async def stop(self) -> None:
        for listening in self._listening.values():
            listening.close()
        self._listening.clear()
        for door in list(self._doors):
            door.shut()
        await self._runner.cleanup()

    async def _listen(self, address: LanAddress) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind((address.host, self.port, 0, address.scope))
            else:
                made.bind((address.host, self.port))
            loop = asyncio.get_running_loop()
            self._listening[address] = await loop.create_server(
                lambda: _Door(self), sock=made, backlog=BACKLOG
            )
        except BaseException:
            made.close()
            raise
        self.port = made.getsockname()[1]

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        if not self.allowances.take(_bare(request.remote or ""), now):
            raise web.HTTPTooManyRequests(headers={"Retry-After": "60"})
        headers = request.headers
        if "Origin" in headers or "Sec-Fetch-Site" in headers:
            raise web.HTTPForbidden(text="Not for browsers.")
        if headers.get("Host") != HOST:
            raise web.HTTPForbidden(text="Not for this host.")
        if "Content-Encoding" in headers:
            raise web.HTTPUnsupportedMediaType(text="Only what is not encoded.")
        return await handler(request)

    # Sockets

    def enter(self, door: _Door) -> bool:
        """Whether this socket may come in; an older stranger's may have to go."""
        now = asyncio.get_running_loop().time()
        if not (is_lan(door.address) or is_loopback(door.address)):
            return False
        same = sum(door.address == other.address for other in self._doors)
        if same >= SOCKETS_PER_ADDRESS:
            return False
        if len(self._doors) >= SOCKETS_MAX:
            strangers = (
                one
                for one in self._doors
                if not self.allowances.is_known(one.address, now)
            )
            oldest = next(strangers, None)
            if oldest is None:
                return False
            oldest.shut()
            self.leave(oldest)
        self._doors[door] = None
        return True

    def leave(self, door: _Door) -> None:
        self._doors.pop(door, None)

    def judge(self, door: _Door) -> float:
        """For how many more seconds this socket may stay; none: it goes."""
        now = asyncio.get_running_loop().time()
        is_known = self.allowances.is_known(door.address, now)
        return door.since + (KNOWN_S if is_known else STRANGER_S) - now

    def protocol(self) -> asyncio.Protocol:
        """One more HTTP connection."""
        assert self._runner.server is not None
        return self._runner.server()


class _Door(asyncio.Protocol):
    """A socket that is let in, or not, before HTTP is spoken on it."""

    def __init__(self, server: LanServer) -> None:
        self._server = server
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.address = ""
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = _bare(str(transport.get_extra_info("peername")[0]))
        self.since = asyncio.get_running_loop().time()
        if not self._server.enter(self):
            self._transport.abort()
            return
        self._inner = self._server.protocol()
        self._inner.connection_made(transport)
        self._judge()

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def shut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _judge(self) -> None:
        left_s = self._server.judge(self)
        if left_s <= 0:
            self.shut()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(left_s, self._judge)


async def read_body(request: web.Request, most: int) -> bytes:
    """413 beyond `most` bytes, before they are read when it says how many."""
    if (request.content_length or 0) > most:
        raise web.HTTPRequestEntityTooLarge(most, request.content_length or 0)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(most, len(body))
    return bytes(body)


def _bare(address: str) -> str:
    """Without the interface that an IPv6 link-local one is spelled with."""
    return address.partition("%")[0]


async def _name_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "meshllm"
