"""coturn is there by every door that sites need."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import closing, suppress
from pathlib import Path

import pytest
from aioice import stun

from tests.natlab import net
from tests.natlab.nat import Kind
from tests.natlab.sites import Site, internet
from tests.natlab.vps import RELAY, RELAY6, coturn

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

HEADER = 20  # bytes of STUN in front of its attributes
UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM
V6 = Site(Kind.V6_SYMMETRIC, 1)
NO_UDP = Site(Kind.UDP_BLOCKED, 2)
TLS_ONLY = Site(Kind.TCP443, 3)


async def test_coturn_answers_over_udp_tcp_and_tls_and_ipv6(tmp_path: Path) -> None:
    with internet([V6, NO_UDP, TLS_ONLY]):
        async with coturn(tmp_path):
            trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            seen = await asyncio.gather(
                _seen_by_udp(V6, "0.0.0.0", RELAY),
                _seen_by_udp(V6, "::", RELAY6),
                _seen_by_tcp(NO_UDP, 3478, None),
                _seen_by_tcp(TLS_ONLY, 443, trusted),
            )
    v6 = f"{V6.network6}2"
    assert list(seen) == [V6.address, v6, NO_UDP.address, TLS_ONLY.address]


async def _seen_by_udp(site: Site, host: str, relay: str) -> str:
    loop = asyncio.get_running_loop()
    with closing(net.bound(site.host(), UDP, host)) as here:
        await loop.sock_sendto(here, _request(), (relay, 3478))
        return _seen(await loop.sock_recv(here, 2048))


async def _seen_by_tcp(site: Site, port: int, tls: ssl.SSLContext | None) -> str:
    here = net.bound(site.host(), TCP, "0.0.0.0")
    await asyncio.get_running_loop().sock_connect(here, (RELAY, port))
    reader, writer = await asyncio.open_connection(
        sock=here, ssl=tls, server_hostname=RELAY if tls else None
    )
    writer.write(_request())
    head = await reader.readexactly(HEADER)
    rest = await reader.readexactly(int.from_bytes(head[2:4]))
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return _seen(head + rest)


def _request() -> bytes:
    return bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST))


def _seen(reply: bytes) -> str:
    host: str = stun.parse_message(reply).attributes["XOR-MAPPED-ADDRESS"][0]
    return host
