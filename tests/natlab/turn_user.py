"""Who uses a relay by hand: sees each error code, which WebRTC hides."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aioice import stun
from aioice.stun import Class, Message, Method, TransactionFailed
from aioice.turn import UDP_TRANSPORT, TurnClientUdpProtocol

from tests.natlab import net

FAMILY = "REQUESTED-ADDRESS-FAMILY"  # RFC 8656 §18.5
FAMILIES = {4: 1, 6: 2}


class Inbox(asyncio.DatagramProtocol):
    """What arrives somewhere, in order."""

    def __init__(self) -> None:
        self.packets: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, _: Any) -> None:
        self.packets.put_nowait(data)


class TurnUser(TurnClientUdpProtocol):
    """Methods answer with the error's code, None when all went well."""

    def __init__(self, server: tuple[str, int], credentials: tuple[str, str]) -> None:
        super().__init__(server, *credentials, 600, 500)
        self.inbox = Inbox()
        self.receiver = self.inbox
        self._channel = 0x4000
        # The client library knows no relayed IPv6 addresses.
        stun.ATTRIBUTES_BY_NAME[FAMILY] = (0x0017, FAMILY, _pack_family, _no_reader)

    async def allocate(self, version: int = 4) -> int | None:
        request = Message(Method.ALLOCATE, Class.REQUEST)
        request.attributes["LIFETIME"] = 600
        request.attributes["REQUESTED-TRANSPORT"] = UDP_TRANSPORT
        request.attributes[FAMILY] = FAMILIES[version]
        try:
            response, _ = await self.request_with_retry(request)
        except TransactionFailed as error:
            return error.response.error_code
        self.relayed_address = response.attributes["XOR-RELAYED-ADDRESS"]
        return None

    async def bind(self, host: str, port: int) -> int | None:
        """A channel to a peer."""
        try:
            await self.channel_bind(self._channel, (host, port))
        except TransactionFailed as error:
            return error.response.error_code
        self.channel_to_peer[self._channel] = (host, port)
        self._channel += 1
        return None

    def say(self, data: bytes) -> None:
        """To the peer bound last."""
        self._send(struct.pack("!HH", self._channel - 1, len(data)) + data)

    async def permit(self, host: str) -> int | None:
        request = Message(Method.CREATE_PERMISSION, Class.REQUEST)
        request.attributes["XOR-PEER-ADDRESS"] = (host, 9)
        try:
            await self.request_with_retry(request)
        except TransactionFailed as error:
            return error.response.error_code
        return None


@asynccontextmanager
async def turn_user(
    name: str, host: str, server: tuple[str, int], credentials: tuple[str, str]
) -> AsyncIterator[TurnUser]:
    """At an address of the namespace `name`; it has asked for nothing yet."""
    made = _socket(name, host)
    made.connect(server)
    transport, user = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: TurnUser(server, credentials), sock=made
    )
    try:
        yield user
    finally:
        transport.close()


@asynccontextmanager
async def inbox(
    name: str, host: str, port: int = 0
) -> AsyncIterator[tuple[Inbox, int]]:
    """A UDP socket of the namespace, and its port."""
    made = _socket(name, host, port)
    transport, found = await asyncio.get_running_loop().create_datagram_endpoint(
        Inbox, sock=made
    )
    try:
        yield found, made.getsockname()[1]
    finally:
        transport.close()


def _socket(name: str, host: str, port: int = 0) -> socket.socket:
    """With a port of its own: SO_REUSEADDR would share one with another socket."""
    with net.inside(name):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((host, port))
    return made


def _pack_family(value: int) -> bytes:
    return struct.pack("!BBH", value, 0, 0)


def _no_reader(_: bytes) -> None:
    return None
