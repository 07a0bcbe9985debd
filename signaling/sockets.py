"""The hub's WebSockets: every message to the hub, its effects to store and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import nacl.utils
from aiohttp import WSCloseCode, WSMsgType, web

from meshllm.errors import Code
from meshllm.protocol.signal_codec import encode
from meshllm.protocol.signals import (
    CLIENT_MESSAGE_BYTES,
    HUB_MESSAGE_BYTES,
    HubMessage,
)
from signaling.effects import Close, Effect, Send
from signaling.hub import Hub
from signaling.tables import Table

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 20  # below the 30-60 s after which home routers forget a flow
CLOSE_S: Final = 2  # how long a peer may take to agree to a close
# What one slow reader may leave unread: a largest welcome, and as much again.
UNREAD_BYTES: Final = 2 * HUB_MESSAGE_BYTES
UNREAD_ALL_BYTES: Final = 256 << 20  # ... and all of them together
REASON_BYTES: Final = 123  # RFC 6455 §5.5: a control frame holds 125


@dataclass(slots=True, eq=False)
class _Socket:
    """A WebSocket, and the timeout that makes its handler leave when it is moved up."""

    web: web.WebSocketResponse
    transport: asyncio.Transport
    leave: asyncio.Timeout
    code: int = WSCloseCode.OK
    reason: str = ""


class Sockets:
    """Nothing here waits for a slow reader: the transport's own buffer is the queue,
    and whoever lets it grow beyond UNREAD_BYTES is cut off."""

    def __init__(self, hub: Hub, table: Table) -> None:
        self._hub = hub
        self._table = table
        self._sockets: dict[int, _Socket] = {}
        self._transports: set[asyncio.BaseTransport] = set()
        self._last = 0

    async def serve(
        self, request: web.Request, origin: str, address: str
    ) -> web.WebSocketResponse:
        """One socket, from its upgrade to its end."""
        response = web.WebSocketResponse(
            timeout=CLOSE_S,
            heartbeat=HEARTBEAT_S,
            compress=False,  # it would halve the rate, and most of this is random
            max_msg_size=CLIENT_MESSAGE_BYTES,
            writer_limit=sys.maxsize,  # a send then never waits for the reader
        )
        await response.prepare(request)
        transport = request.transport
        if transport is None:  # gone already
            return response
        self._last = number = self._last + 1
        leave = asyncio.timeout(None)
        socket = self._sockets[number] = _Socket(response, transport, leave)
        self._transports.add(transport)
        try:
            async with leave:
                await self._converse(number, response, origin, address)
        except TimeoutError:
            pass  # the hub closes it
        except sqlite3.Error:
            log.exception("signaling: the store failed")
            socket.code, socket.reason = 4000 + Code.INTERNAL, "The store failed."
        finally:
            del self._sockets[number]
            self._transports.discard(transport)
            await self.apply(self._hub.disconnected(number))
        reason = socket.reason.encode()[:REASON_BYTES].decode(errors="ignore")
        await response.close(code=socket.code, message=reason.encode())
        return response

    async def _converse(
        self, number: int, response: web.WebSocketResponse, origin: str, address: str
    ) -> None:
        nonce = nacl.utils.random(32)
        await self.apply(
            self._hub.connected(number, origin, address, nonce, time.time())
        )
        while True:
            frame = await response.receive()
            if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            await self.apply(self._hub.received(number, frame.data, time.time()))

    async def apply(self, effects: Iterable[Effect]) -> None:
        """Stores, then sends. sqlite3.Error when it cannot be stored: then nothing is
        sent, because nobody may be told of what a restart would forget."""
        effects = list(effects)
        self._table.write(effects)
        said: HubMessage | None = None
        text = ""
        for effect in effects:
            match effect:
                case Send(link, message):
                    if message is not said:  # a push to a mesh is encoded once
                        said, text = message, encode(message)
                    await self._send(link, text)
                case Close(link, code, reason):
                    self._close(link, 4000 + code, reason)

    async def tick(self) -> None:
        """Once a second: time passes for the hub too."""
        try:
            await self.apply(self._hub.tick(time.time()))
        except sqlite3.Error:
            log.exception("signaling: the store failed")
        self._cut_slowest()

    def holds(self, transport: asyncio.BaseTransport | None) -> bool:
        """Whether this connection has become a WebSocket."""
        return transport in self._transports

    def close_all(self, code: int, reason: str) -> None:
        for number in self._sockets:
            self._close(number, code, reason)

    def _close(self, number: int, code: int, reason: str) -> None:
        socket = self._sockets.get(number)
        if socket is None or socket.code != WSCloseCode.OK:  # it is leaving already
            return
        socket.code, socket.reason = code, reason
        socket.leave.reschedule(0)

    async def _send(self, number: int, text: str) -> None:
        socket = self._sockets.get(number)
        if socket is None:
            return
        if socket.transport.get_write_buffer_size() > UNREAD_BYTES:
            log.info("signaling: socket %d does not read; closed", number)
            socket.transport.abort()
            return
        with contextlib.suppress(ConnectionError):
            await socket.web.send_str(text)

    def _cut_slowest(self) -> None:
        """Many who read slowly at once must not fill our memory either."""
        unread = {
            socket: socket.transport.get_write_buffer_size()
            for socket in self._sockets.values()
        }
        total = sum(unread.values())
        for socket in sorted(unread, key=lambda socket: -unread[socket]):
            if total <= UNREAD_ALL_BYTES:
                return
            total -= unread[socket]
            socket.transport.abort()
