"""A TURN server on loopback (RFC 8656): UDP, long-term credentials, channels only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from aioice.stun import Class, Message, Method, parse_message
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


def address_of(socket: Socket) -> Address:
    return cast(Address, socket.transport.get_extra_info("sockname"))


@dataclass
class Allocation:
    relay: Socket
    channels: dict[int, Address] = field(default_factory=dict)


class TurnServer:
    """`released` counts allocations that their client gave back."""

    def __init__(self, username: str, password: str) -> None:
        self.is_silent = False
        self.released = 0
        self._username = username
        self._key = make_integrity_key(username, REALM, password)
        self._allocations: dict[Address, Allocation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: Socket

    @classmethod
    @asynccontextmanager
    async def running(cls, username: str, password: str) -> AsyncIterator[TurnServer]:
        server = cls(username, password)
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
        if not self._is_authentic(request):
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
        response.add_message_integrity(self._key)
        self._socket.transport.sendto(bytes(response), client)

    def _is_authentic(self, request: Message) -> bool:
        return request.attributes.get(
            "USERNAME"
        ) == self._username and request.check_message_integrity(self._key)

    async def _allocate(self, client: Address) -> Allocation:
        def relayed(data: bytes, peer: Address) -> None:
            numbers = [n for n, bound in allocation.channels.items() if bound == peer]
            if numbers:  # without a channel there is no permission either
                head = numbers[0].to_bytes(2) + len(data).to_bytes(2)
                self._socket.transport.sendto(head + data, client)

        allocation = Allocation(await bind(relayed))
        self._allocations[client] = allocation
        return allocation
