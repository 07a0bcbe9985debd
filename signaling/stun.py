"""Asks a STUN server how the outside sees an address of ours (RFC 8489)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import struct
from collections.abc import Iterator
from typing import Final

from signaling.coturn_config import Address

COOKIE: Final = 0x2112A442
REQUEST: Final = 0x0001
SUCCESS: Final = 0x0101
XOR_MAPPED_ADDRESS: Final = 0x0020
FAMILIES: Final = {4: 1, 16: 2}  # by the length of the address
AGAIN_S: Final = 0.5  # a lost packet is sent again
TRIES: Final = 4


def request(transaction: bytes) -> bytes:
    """A Binding request; `transaction` is 12 random bytes."""
    return struct.pack("!HHI12s", REQUEST, 0, COOKIE, transaction)


def mapped_address(response: bytes, transaction: bytes) -> Address | None:
    """None: it is no answer to that request."""
    if len(response) < 20:
        return None
    kind, _, cookie, answered = struct.unpack("!HHI12s", response[:20])
    if (kind, cookie, answered) != (SUCCESS, COOKIE, transaction):
        return None
    for name, value in _attributes(response[20:]):
        if name != XOR_MAPPED_ADDRESS:
            continue
        mask = response[4:20]
        plain = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
        if FAMILIES.get(len(plain)) == value[1]:
            return ipaddress.ip_address(plain)
    return None


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        name, length = struct.unpack("!HH", data[:4])
        yield name, data[4 : 4 + length]
        data = data[4 + length + -length % 4 :]


class _Asking(asyncio.DatagramProtocol):
    def __init__(self, transaction: bytes) -> None:
        self._transaction = transaction
        self.answer: asyncio.Future[Address] = (
            asyncio.get_running_loop().create_future()
        )

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        found = mapped_address(data, self._transaction)
        if found is not None and not self.answer.done():
            self.answer.set_result(found)


async def ask(
    server: tuple[str, int],
    source: Address,
    *,
    again_s: float = AGAIN_S,
    tries: int = TRIES,
) -> Address | None:
    """None when it does not answer within 2 s, or otherwise `tries` times `again_s`."""
    transaction = secrets.token_bytes(12)
    loop = asyncio.get_running_loop()
    try:
        transport, asking = await loop.create_datagram_endpoint(
            lambda: _Asking(transaction), (str(source), 0), server
        )
    except OSError:  # no way there
        return None
    try:
        for _ in range(tries):
            transport.sendto(request(transaction))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    return await asyncio.shield(asking.answer)
        return None
    finally:
        transport.close()
