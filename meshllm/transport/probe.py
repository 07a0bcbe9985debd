"""Asks single STUN and TURN servers, for `meshllm doctor`; no connection goes here.

Knows aioice's messages as `ice.py` does (docs/decisions/). Whatever fails is raised as
PeerUnreachable whose text says why, without a subject: "there is no such host".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self, cast

from aioice import stun, turn

from meshllm.errors import PeerUnreachable
from meshllm.transport.servers import Server

Address = tuple[str, int]
ANSWER_S: Final = 3.0  # three requests, at 0, 0.5 and 1.5 s
ALLOCATE_S: Final = 5.0  # a name, TCP, TLS and two round trips
RELEASE_S: Final = 1.0
REFUSED: Final = {
    401: "it refuses the credential: its secret and the one that the signaling server"
    " was given (--turn-secret-file) differ, or their clocks do",
    403: "it forbids this: its list of allowed peers or users is too short",
    441: "it refuses the credential: the same user asks from two places",
    486: "all relays that it grants one person are in use",
    508: "it has no relay address left",
}


@dataclass(frozen=True, slots=True)
class Reflected:
    """How a server sees a socket. `other_port`: another one that it answers on."""

    server: Address
    mapped: Address
    other_port: int | None
    ms: float


class StunSocket(asyncio.DatagramProtocol):
    """One UDP socket, so that its answers can be compared."""

    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue(64)
        self._transactions: dict[bytes, stun.Transaction] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def bound(cls, host: str) -> AsyncIterator[Self]:
        """PeerUnreachable when there is no such kind of address here."""
        loop = asyncio.get_running_loop()
        with _explained():
            _, made = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        try:
            yield made
        finally:
            made.transport.close()

    async def ask(self, server: Address) -> Reflected:
        """`server` is an IP address and a port."""
        loop = asyncio.get_running_loop()
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        transaction = stun.Transaction(request, server, self)
        self._transactions[request.transaction_id] = transaction
        began = loop.time()
        try:
            with _explained():
                async with asyncio.timeout(ANSWER_S):
                    answer, _ = await transaction.run()
        finally:
            del self._transactions[request.transaction_id]
        ms = (loop.time() - began) * 1000
        mapped = answer.attributes.get("XOR-MAPPED-ADDRESS")
        if mapped is None:
            raise PeerUnreachable("it answers, but not as a STUN server does")
        other = answer.attributes.get("OTHER-ADDRESS")
        return Reflected(server, mapped, other and other[1], ms)

    def send(self, data: bytes, to: Address) -> None:
        self.transport.sendto(data, to)

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        self.transport.sendto(bytes(message), addr)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        address = (str(addr[0]), int(addr[1]))
        try:
            message = stun.parse_message(data)
        except ValueError:
            with contextlib.suppress(asyncio.QueueFull):
                self.heard.put_nowait((data, address))
            return
        if waiting := self._transactions.get(message.transaction_id):
            waiting.response_received(message, address)


class Allocation(asyncio.DatagramProtocol):
    """A relayed address. `ms` is the time it took to get it."""

    def __init__(self, client: turn.TurnClientProtocol, ms: float) -> None:
        self.heard: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue(64)
        self.relayed = cast(Address, client.relayed_address)
        self.server: Address = client.transport.get_extra_info("peername")[:2]
        self.ms = ms
        self._client = client
        client.receiver = self

    async def send(self, data: bytes, to: Address) -> None:
        """Through the relay; from now on it also takes what comes from there."""
        with _explained():
            async with asyncio.timeout(ANSWER_S):
                await self._client.send_data(data, to)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self.heard.put_nowait((data, (str(addr[0]), int(addr[1]))))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client's own transport is gone; who waits for an answer has a limit."""


@contextlib.asynccontextmanager
async def allocated(server: Server) -> AsyncIterator[Allocation]:
    """A relayed address for as long as the block lasts."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with contextlib.AsyncExitStack() as stack:
        with _explained():
            async with asyncio.timeout(ALLOCATE_S):
                client = await _connect(server)
                stack.callback(client.transport.close)
                await client.connect()
        stack.push_async_callback(_release, client)
        yield Allocation(client, (loop.time() - began) * 1000)


async def _connect(server: Server) -> turn.TurnClientProtocol:
    """As `ice.py` lets aioice do it: system trust store, name checked."""
    loop = asyncio.get_running_loop()
    is_stream = server.transport == "tcp"
    make = partial(
        turn.TurnClientTcpProtocol if is_stream else turn.TurnClientUdpProtocol,
        server.address,
        username=server.username,
        password=server.credential,
        lifetime=turn.DEFAULT_ALLOCATION_LIFETIME,
        channel_refresh_time=turn.DEFAULT_CHANNEL_REFRESH_TIME,
    )
    made: Any  # what `make` makes
    if is_stream:
        tls = server.over == "tls" or None
        _, made = await loop.create_connection(make, *server.address, ssl=tls)
    else:
        _, made = await loop.create_datagram_endpoint(make, remote_addr=server.address)
    return cast(turn.TurnClientProtocol, made)


async def _release(client: turn.TurnClientProtocol) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RELEASE_S):
            await client.delete()


async def resolve(host: str, port: int) -> list[Address]:
    """Its addresses, IPv4 and IPv6, each once."""
    loop = asyncio.get_running_loop()
    with _explained():
        async with asyncio.timeout(ANSWER_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys((str(to[0]), int(to[1])) for *_, to in found))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except stun.TransactionFailed as error:
        raise PeerUnreachable(_refusal(error.response)) from error
    except (TimeoutError, stun.TransactionTimeout) as error:
        raise PeerUnreachable("no answer") from error
    except OSError as error:
        raise PeerUnreachable(why(error)) from error
    except UnicodeError as error:  # a label that no name can have
        raise PeerUnreachable("there is no such host") from error


def _refusal(response: stun.Message) -> str:
    code, reason = response.attributes.get("ERROR-CODE", (0, ""))
    return REFUSED.get(code, f"it refuses: {code} {reason}")


def why(error: OSError) -> str:
    """What the system says of a connection that failed, in words."""
    match error:
        case socket.gaierror():
            return "there is no such host"
        case ssl.SSLCertVerificationError(verify_message=str() as said):
            return f"its certificate is not valid ({said})"
        case ssl.SSLError():
            return "it does not speak TLS there"
        case ConnectionRefusedError():
            return "nothing listens there"
        case TimeoutError():
            return "no answer"
        case OSError(errno=int() as number):
            return os.strerror(number).lower()
    return str(error) or "no answer"
