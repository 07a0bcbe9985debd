"""The STUN client, against answers written by hand."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from signaling.stun import SUCCESS, ask, mapped_address, request
from tests.fakes.turn import bind, stun_answer

TRANSACTION = bytes(range(12))
HERE = ipaddress.IPv4Address("127.0.0.1")
# RFC 5769 §2.2 and §2.3: the same transaction, an IPv4 and an IPv6 address.
RFC5769 = bytes.fromhex("b7e7a701bc34d686fa87dfae")
IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)


def answer(transaction: bytes, *, kind: int = SUCCESS, value: bytes = b"") -> bytes:
    return stun_answer(transaction, HERE, kind=kind, value=value)


def test_the_answers_of_the_rfc_are_read() -> None:
    assert mapped_address(IPV4, RFC5769) == ipaddress.ip_address("192.0.2.1")
    found = mapped_address(IPV6, RFC5769)
    assert found == ipaddress.ip_address("2001:db8:1234:5678:11:2233:4455:6677")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        answer(TRANSACTION)[:19],
        answer(bytes(12)),
        answer(TRANSACTION, kind=0x0111),
        answer(TRANSACTION, value=b"\0\1\0\0\0\0\0"),
        answer(TRANSACTION, value=b"\0\2\0\0\0\0\0\0"),
        answer(TRANSACTION)[:-1],
        answer(TRANSACTION)[:22],
        answer(TRANSACTION)[:20] + b"\x80\x22\xff\xff",
    ],
)
def test_what_is_no_answer_to_the_request_says_nothing(data: bytes) -> None:
    assert mapped_address(data, TRANSACTION) is None


async def test_a_lost_request_is_sent_again() -> None:
    heard: list[bytes] = []

    def take(data: bytes, sender: tuple[str, int]) -> None:
        heard.append(data)
        server.transport.sendto(b"not STUN", sender)
        if len(heard) == 2:
            server.transport.sendto(answer(data[8:]), sender)
            server.transport.sendto(answer(data[8:]), sender)

    server = await bind(take)
    where = server.transport.get_extra_info("sockname")
    assert await ask(where, HERE, again_s=0.02, tries=100) == HERE
    server.transport.close()
    assert heard[0] == heard[1] == request(heard[0][8:])


async def test_a_silent_server_and_no_way_there_are_none() -> None:
    server = await bind(lambda *_: None)
    where = server.transport.get_extra_info("sockname")
    assert await ask(where, HERE, again_s=0.001, tries=2) is None
    server.transport.close()
    assert await ask(where, HERE, again_s=0.001, tries=2) is None  # refused by ICMP
    elsewhere = ipaddress.ip_address("192.0.2.1")
    assert await asyncio.wait_for(ask(where, elsewhere), 5) is None
