"""The hub's WebSockets: every message to the hub, its effects to store and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final, cast

import nacl.utils
from aiohttp import WSCloseCode, web
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from meshllm.errors import Code
from meshllm.protocol.signal_codec import encode
from meshllm.protocol.signals import (
    CLIENT_MESSAGE_BYTES,
    HUB_MESSAGE_BYTES,
    HubMessage,
    Refused,
)
from signaling.effects import Close, Effect, Send
from signaling.hub import Hub
from signaling.tables import Table
from signaling.upgrade import take

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 20  # below the 30-60 s after which home routers forget a flow
PONG_S: Final = 10  # how long a peer may take to answer a ping
CLOSE_S: Final = 2  # how long it may take to agree to a close
# What one slow reader may leave unread: a largest welcome, and as much again.
UNREAD_BYTES: Final = 2 * HUB_MESSAGE_BYTES
UNREAD_ALL_BYTES: Final = 256 << 20  # ... and all of them together
REASON_BYTES: Final = 123  # RFC 6455 §5.5: a control frame holds 125
SLICE_BYTES: Final = 16_384  # of what was read: between two a flood can be cut
# A second of pings, pongs and pieces of messages: the hub counts whole messages only.
PIECES: Final = 256
MESSAGES: Final = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})

_frames_log = log.getChild("frames")
_frames_log.setLevel(logging.WARNING)  # at DEBUG it would quote what people say


class _Socket(asyncio.Protocol):
    """A connection and the frames on it. Nothing of its own runs: no task, no timer."""

    __slots__ = (
        "closes_at",
        "frames",
        "heard",
        "is_pinged",
        "number",
        "partial",
        "pieces",
        "sockets",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, sockets: Sockets, number: int) -> None:
        self.sockets = sockets
        self.number = number
        # No compression: it would halve the rate, and most of this is random.
        self.frames = Protocol(
            Side.SERVER, max_size=CLIENT_MESSAGE_BYTES, logger=_frames_log
        )
        self.partial = bytearray()
        self.pieces = 0  # since the last second
        self.heard = time.monotonic()
        self.is_pinged = False
        self.closes_at: float | None = None

    def data_received(self, data: bytes) -> None:
        self.heard, self.is_pinged = time.monotonic(), False
        for at in range(0, len(data), SLICE_BYTES):
            self._feed(data[at : at + SLICE_BYTES])
            if self.transport.is_closing():
                return
        if self.frames.state is not State.OPEN:
            self.sockets.left(self)

    def _feed(self, data: bytes) -> None:
        self.frames.receive_data(data)
        for frame in cast(list[Frame], self.frames.events_received()):
            message = self._message(frame)
            frame.data = b""  # `frames` holds its last frame until the next one comes
            if message is not None:
                self.sockets.received(self, message)
        self.flush()

    def _message(self, frame: Frame) -> bytes | None:
        """A whole message, of one frame or of several."""
        is_message = frame.opcode in MESSAGES  # pings are answered by `frames`
        if is_message and frame.fin and not self.partial:
            return bytes(frame.data)
        self.pieces += 1
        if self.pieces > PIECES:
            self.transport.abort()
        if not is_message:
            return None
        self.partial += frame.data
        if not frame.fin:
            return None
        whole, self.partial = bytes(self.partial), bytearray()
        return whole

    def connection_lost(self, exc: Exception | None) -> None:
        self.sockets.lost(self)

    def say(self, text: bytes) -> None:
        if self.frames.state is State.OPEN:
            self.frames.send_text(text)
            self.flush()

    def ping(self) -> None:
        self.is_pinged = True
        self.frames.send_ping(b"")
        self.flush()

    def close(self, code: int, reason: str) -> None:
        """Its end follows when the peer agrees, or does not in time."""
        if self.frames.state is State.OPEN:
            cut = reason.encode()[:REASON_BYTES].decode(errors="ignore")
            self.frames.send_close(code, cut)
            self.flush()

    def flush(self) -> None:
        for data in self.frames.data_to_send():
            if self.transport.is_closing():
                return
            if data:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                self.transport.write_eof()
            else:  # TLS
                self.transport.close()


class Sockets:
    """Nothing here waits for a slow reader: the transport's own buffer is the queue,
    and whoever lets it grow beyond UNREAD_BYTES is cut off."""

    def __init__(self, hub: Hub, table: Table) -> None:
        self._hub = hub
        self._table = table
        self._open: set[_Socket] = set()
        self._known: dict[int, _Socket] = {}  # to the hub
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._last = 0
        self.said: Counter[type[HubMessage]] = Counter()  # messages, for /metrics
        self.refusals: Counter[Code] = Counter()

    def serve(self, request: web.Request, origin: str, address: str) -> None:
        """Makes a WebSocket of the request. HTTPBadRequest when it asks for none."""
        self._last = number = self._last + 1
        socket = _Socket(self, number)
        transport = take(request, socket)
        if transport is None:
            return
        socket.transport = transport
        self._open.add(socket)
        self._is_empty.clear()
        self._known[number] = socket
        nonce, now = nacl.utils.random(32), time.time()
        self._carry_out(
            socket, self._hub.connected(number, origin, address, nonce, now)
        )

    # What the sockets report

    def received(self, socket: _Socket, data: bytes) -> None:
        if socket.number in self._known:  # else the hub has closed it
            effects = self._hub.received(socket.number, data, time.time())
            self._carry_out(socket, effects)

    def left(self, socket: _Socket) -> None:
        """It says no more, but is still there."""
        if socket.closes_at is None:
            socket.closes_at = time.monotonic() + CLOSE_S
        if self._known.pop(socket.number, None) is not None:
            self._carry_out(socket, self._hub.disconnected(socket.number))

    def lost(self, socket: _Socket) -> None:
        self._open.discard(socket)
        self.left(socket)
        if not self._open:
            self._is_empty.set()

    # What the hub decides

    def apply(self, effects: Iterable[Effect]) -> None:
        """Stores, then sends. sqlite3.Error when it cannot be stored: then nothing is
        sent, because nobody may be told of what a restart would forget."""
        effects = list(effects)
        self._table.write(effects)
        said: HubMessage | None = None
        text = b""
        for effect in effects:
            match effect:
                case Send(link, message):
                    self.said[type(message)] += 1
                    if isinstance(message, Refused):
                        self.refusals[message.code] += 1
                    if message is not said:  # a push to a mesh is encoded once
                        said, text = message, encode(message).encode()
                    self._send(link, text)
                case Close(link, code, reason):
                    self._close(link, 4000 + code, reason)

    def _carry_out(self, socket: _Socket, effects: Iterable[Effect]) -> None:
        """What follows from a message of `socket`."""
        try:
            self.apply(effects)
        except sqlite3.Error:
            log.exception("signaling: the store failed")
            self._close(socket.number, 4000 + Code.INTERNAL, "The store failed.")

    def _send(self, number: int, text: bytes) -> None:
        socket = self._known.get(number)
        if socket is None:
            return
        if socket.transport.get_write_buffer_size() > UNREAD_BYTES:
            log.info("signaling: socket %d does not read; closed", number)
            socket.transport.abort()
            return
        socket.say(text)

    def _close(self, number: int, code: int, reason: str) -> None:
        socket = self._known.get(number)
        if socket is not None:
            socket.close(code, reason)
            self.left(socket)

    # Time, and the end

    def tick(self) -> None:
        """Once a second: time passes for the hub too."""
        try:
            self.apply(self._hub.tick(time.time()))
        except sqlite3.Error:
            log.exception("signaling: the store failed")
        now = time.monotonic()
        for socket in list(self._open):
            self._keep_alive(socket, now)
        self._cut_slowest()

    def _keep_alive(self, socket: _Socket, now: float) -> None:
        socket.pieces = 0
        silent_s = now - socket.heard
        if socket.closes_at is not None:
            if now >= socket.closes_at:
                socket.transport.abort()
        elif silent_s >= HEARTBEAT_S + PONG_S:
            socket.transport.abort()
        elif silent_s >= HEARTBEAT_S and not socket.is_pinged:
            socket.ping()

    def _cut_slowest(self) -> None:
        """Many who read slowly at once must not fill our memory either."""
        unread = {
            socket: socket.transport.get_write_buffer_size() for socket in self._open
        }
        total = sum(unread.values())
        for socket in sorted(unread, key=lambda socket: -unread[socket]):
            if total <= UNREAD_ALL_BYTES:
                return
            total -= unread[socket]
            socket.transport.abort()

    def close_all(self, code: int, reason: str) -> None:
        for number in list(self._known):
            self._close(number, code, reason)

    async def stop(self) -> None:
        """Says goodbye, and waits for the others' as long as a close may take."""
        self.close_all(WSCloseCode.GOING_AWAY, "The server is stopping.")
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._is_empty.wait()
        finally:
            self.cut_all()

    def cut_all(self) -> None:
        """Nobody has to agree to that."""
        for socket in self._open:
            socket.transport.abort()
