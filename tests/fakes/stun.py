"""A STUN server on loopback that shows us as a NAT would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from aioice.stun import Class, Message, parse_message

Address = tuple[str, int]
Nat = Callable[[Address], Address | None]
"""How it shows a client's address; None lets no answer through."""
PUBLIC = "203.0.113.9"


def keeps_the_port(client: Address) -> Address:
    return PUBLIC, client[1]


class StunServer(asyncio.DatagramProtocol):
    """Answers binding requests; `mapped` is the NAT, `other_port` that of RFC 5780."""

    def __init__(
        self,
        mapped: Nat = keeps_the_port,
        other_port: int | None = None,
    ) -> None:
        self._mapped = mapped
        self._other_port = other_port

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        mapped: Nat = keeps_the_port,
        *,
        host: str = "127.0.0.1",
        other_port: int | None = None,
    ) -> AsyncIterator[int]:
        """Its port."""
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(mapped, other_port), local_addr=(host, 0)
        )
        try:
            yield transport.get_extra_info("sockname")[1]
        finally:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        mapped = self._mapped((addr[0], addr[1]))
        if mapped is None:
            return
        request = parse_message(data)
        response = Message(
            message_method=request.message_method,
            message_class=Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        response.attributes["XOR-MAPPED-ADDRESS"] = mapped
        if self._other_port is not None:
            response.attributes["OTHER-ADDRESS"] = ("203.0.113.200", self._other_port)
        self.transport.sendto(bytes(response), addr)
