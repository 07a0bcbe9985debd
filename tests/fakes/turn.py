"""A TURN server on loopback (RFC 8656): UDP, long-term credentials, channels only."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import cast

from aioice.stun import COOKIE, Class, Message, Method, parse_message
from aioice.turn import make_integrity_key

HOST = "127.0.0.1"
REALM = "test"
Address = tuple[str, int]


class Socket(asyncio.DatagramProtocol):
    """Passes every packet on."""

    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._take(data, addr)


async def bind(take: Callable[[bytes, Address], None]) -> Socket:
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_datagram_endpoint(
        lambda: Socket(take), local_addr=(HOST, 0)
    )
    return socket


def stun_answer(
    transaction: bytes,
    address: IPv4Address,
    *,
    kind: int = 0x0101,
    value: bytes = b"",
) -> bytes:
    """Of a STUN server, by hand; `value` in place of the address's (RFC 8489 §14.2)."""
    value = value or b"\0\1" + struct.pack("!HI", 1, int(address) ^ COOKIE)
    body = struct.pack("!HH", 0x0020, len(value)) + value
    return struct.pack("!HHI12s", kind, len(body), COOKIE, transaction) + body


def address_of(socket: Socket) -> Address:
    return cast(Address, socket.transport.get_extra_info("sockname"))


@dataclass
class Allocation:
    relay: Socket
    channels: dict[int, Address] = field(default_factory=dict)


class TurnServer:
    """`released` counts allocations that their client gave back. What comes to a
    relayed address is passed on to its client only from peers with a channel, unless it
    `takes_from_anywhere`: then within a DATA indication."""

    def __init__(self, key_of: Callable[[str], bytes | None]) -> None:
        self.is_silent = False
        self.takes_from_anywhere = False
        self.released = 0
        self._key_of = key_of
        self._allocations: dict[Address, Allocation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: Socket

    @classmethod
    def running(
        cls, username: str, password: str
    ) -> AbstractAsyncContextManager[TurnServer]:
        """It knows one user."""
        key = make_integrity_key(username, REALM, password)
        return cls._running(lambda name: key if name == username else None)

    @classmethod
    def sharing(cls, secret: bytes) -> AbstractAsyncContextManager[TurnServer]:
        """It takes whom the signaling server with this secret has named."""

        def key_of(name: str) -> bytes:
            digest = hmac.new(secret, name.encode(), hashlib.sha1).digest()
            return make_integrity_key(name, REALM, base64.b64encode(digest).decode())

        return cls._running(key_of)

    @classmethod
    @asynccontextmanager
    async def _running(
        cls, key_of: Callable[[str], bytes | None]
    ) -> AsyncIterator[TurnServer]:
        server = cls(key_of)
        server._socket = await bind(server._receive)
        try:
            yield server
        finally:
            await asyncio.gather(*server._tasks)
            server._socket.transport.close()
            for allocation in server._allocations.values():
                allocation.relay.transport.close()

    @property
    def url(self) -> str:
        return f"turn:{HOST}:{address_of(self._socket)[1]}"

    def _receive(self, data: bytes, client: Address) -> None:
        if self.is_silent:
            return
        if 0x40 <= data[0] < 0x80:
            allocation = self._allocations[client]
            peer = allocation.channels[int.from_bytes(data[:2])]
            length = int.from_bytes(data[2:4])
            allocation.relay.transport.sendto(data[4 : 4 + length], peer)
            return
        task = asyncio.create_task(self._answer(parse_message(data), client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Message, client: Address) -> None:
        response = Message(
            message_method=request.message_method,
            message_class=Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        if request.message_method is Method.BINDING:  # it is a STUN server as well
            response.attributes["XOR-MAPPED-ADDRESS"] = client
            self._socket.transport.sendto(bytes(response), client)
            return
        key = self._key_of(request.attributes.get("USERNAME", ""))
        if key is None or not request.check_message_integrity(key):
            response.message_class = Class.ERROR
            response.attributes["ERROR-CODE"] = (401, "Unauthenticated")
            response.attributes["REALM"] = REALM
            response.attributes["NONCE"] = b"nonce"
            self._socket.transport.sendto(bytes(response), client)
            return
        match request.message_method:
            case Method.ALLOCATE:
                allocation = await self._allocate(client)
                response.attributes["LIFETIME"] = 600
                response.attributes["XOR-MAPPED-ADDRESS"] = client
                response.attributes["XOR-RELAYED-ADDRESS"] = address_of(
                    allocation.relay
                )
            case Method.CHANNEL_BIND:
                number = request.attributes["CHANNEL-NUMBER"]
                peer = request.attributes["XOR-PEER-ADDRESS"]
                self._allocations[client].channels[number] = peer
            case Method.REFRESH:
                response.attributes["LIFETIME"] = 0
                self._allocations.pop(client).relay.transport.close()
                self.released += 1
        response.add_message_integrity(key)
        self._socket.transport.sendto(bytes(response), client)

    async def _allocate(self, client: Address) -> Allocation:
        def relayed(data: bytes, peer: Address) -> None:
            numbers = [n for n, bound in allocation.channels.items() if bound == peer]
            if numbers:  # without a channel there is no permission either
                head = numbers[0].to_bytes(2) + len(data).to_bytes(2)
                self._socket.transport.sendto(head + data, client)
            elif self.takes_from_anywhere:
                said = Message(Method.DATA, Class.INDICATION)
                said.attributes |= {"XOR-PEER-ADDRESS": peer, "DATA": data}
                self._socket.transport.sendto(bytes(said), client)

        allocation = Allocation(await bind(relayed))
        self._allocations[client] = allocation
        return allocation
