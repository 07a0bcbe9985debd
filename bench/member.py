"""A member of a mesh as a bare socket: it logs in, introduces and is introduced to.

As little as a client can be: what is measured with it is the hub.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Self
from urllib.parse import urlsplit

from meshllm.protocol import login, signals
from meshllm.protocol.signal_codec import decode_hub, encode
from tests.fakes.hubs import conn_of, envelope, id_of, key
from tests.fakes.websocket import CLOSE, PING, PONG, TEXT, Frames, frame, upgrade


class Member(asyncio.Protocol):
    """Use `enter`. `late_ms` is how long each introduction took to come here."""

    def __init__(self, url: str, name: str, chain: tuple[str, ...]) -> None:
        self._transport: asyncio.Transport
        self._url = url
        self._name = name
        self._chain = chain
        self._head = b""
        self._frames = Frames()
        self._coming = deque[float]()  # when each was sent that has not come yet
        self._asked = self._answered = 0
        self._wait: asyncio.Future[None] | None = None
        self._joined = asyncio.get_running_loop().create_future()
        self.late_ms: list[float] = []

    @classmethod
    async def enter(
        cls, url: str, name: str, address: str, chain: tuple[str, ...]
    ) -> Self:
        """Logged in when it returns; `address` is what a proxy would say of it."""
        loop, to = asyncio.get_running_loop(), urlsplit(url)
        transport, member = await loop.create_connection(
            lambda: cls(url, name, chain), to.hostname or "", to.port or 0
        )
        member._transport = transport
        transport.write(upgrade(to.netloc, X_Forwarded_For=address))
        await member._joined
        return member

    def leave(self) -> None:
        self._transport.abort()

    # What it says

    def target(self, other: Member) -> None:
        """Whom `introduce` is for from now on, alone, and what it says."""
        sealed = envelope()  # of the smallest size, as most offers are
        send = signals.Send(1, id_of(other._name), conn_of(other._name), sealed)
        self._introduction = frame(TEXT, encode(send).encode())
        self._sent = other._coming

    def introduce(self) -> None:
        self._asked += 1
        self._sent.append(time.perf_counter())
        self._transport.write(self._introduction)

    async def repeat(self, count: int) -> None:
        """Each as soon as the one before is done."""
        for _ in range(count):
            self.introduce()
            await self.done()

    def ask(self, message: signals.Request) -> None:
        self._asked += 1
        self._say(message)

    async def done(self) -> None:
        """Until all that was asked is answered."""
        while self._answered < self._asked:
            self._wait = asyncio.get_running_loop().create_future()
            await self._wait

    def _say(self, message: signals.ClientMessage) -> None:
        self._transport.write(frame(TEXT, encode(message).encode()))

    # What it hears

    def connection_lost(self, exc: Exception | None) -> None:
        for wait in (self._joined, self._wait):
            if wait is not None and not wait.done():
                wait.set_exception(ConnectionError("the hub closed a socket"))

    def data_received(self, data: bytes) -> None:
        if not self._head.endswith(b"\r\n\r\n"):
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            self._head = head + end
        for opcode, payload in self._frames.feed(data):
            self._hear(opcode, payload)

    def _hear(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self._transport.abort()
        elif opcode == PING:
            self._transport.write(frame(PONG, payload))
        elif payload.startswith(b'{"t":"signal"'):
            sent = self._coming.popleft()
            self.late_ms.append((time.perf_counter() - sent) * 1000)
        elif payload.startswith(b'{"t":"done"'):
            self._answered += 1
            if self._wait is not None and not self._wait.done():
                self._wait.set_result(None)
        else:
            self._hear_first(payload)

    def _hear_first(self, payload: bytes) -> None:
        """The challenge, the welcome; nothing else belongs here."""
        match decode_hub(payload):
            case signals.Challenge() as challenge:
                self._say(self._login(challenge))
            case signals.Welcome():
                self._joined.set_result(None)
            case said:
                raise RuntimeError(f"the hub said {said}")

    def _login(self, challenge: signals.Challenge) -> signals.Login:
        id, conn, nonce = id_of(self._name), conn_of(self._name), bytes(32)
        transcript = login.transcript(
            origin=login.origin(self._url),
            server=challenge.server,
            server_nonce=challenge.nonce,
            client=id,
            client_nonce=nonce,
            ts=challenge.ts,
        )
        sig = login.sign_login("client", transcript, key(self._name))
        return signals.Login(id, nonce, conn, sig, self._chain)
