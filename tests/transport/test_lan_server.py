"""The LAN endpoint: no browsers, no floods, nothing without a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from meshllm.errors import ConfigError
from meshllm.transport.addresses import LanAddress
from meshllm.transport.allowance import STRANGER
from meshllm.transport.lan_server import (
    BODY_MAX,
    SOCKETS_PER_ADDRESS,
    LanServer,
    read_body,
)

HERE = LanAddress("127.0.0.1", 8, "lo")
THERE = LanAddress("127.0.0.2", 8, "lo")
LIMIT = 100


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await read_body(request, LIMIT))


@pytest.fixture
async def server() -> AsyncIterator[LanServer]:
    server = LanServer({"POST /echo": echo})
    await server.listen([HERE])
    yield server
    await server.stop()


async def post(
    server: LanServer, data: bytes = b"x", path: str = "/echo", **headers: str
) -> tuple[int, bytes]:
    named = {"Host": "meshllm"} | {k.replace("_", "-"): v for k, v in headers.items()}
    async with (
        aiohttp.ClientSession(headers=named) as session,
        session.post(f"http://127.0.0.1:{server.port}{path}", data=data) as response,
    ):
        assert response.headers["Server"] == "meshllm"
        return response.status, await response.read()


async def test_its_routes_and_no_others_are_served(server: LanServer) -> None:
    assert await post(server, b"hello") == (200, b"hello")
    assert (await post(server, path="/echo/"))[0] == 404
    assert (await post(server, path="/"))[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Content_Encoding": "gzip"}, 415),
    ],
)
async def test_browsers_and_what_is_encoded_are_refused(
    server: LanServer, headers: dict[str, str], status: int
) -> None:
    assert (await post(server, b"x", "/echo", **headers))[0] == status


async def test_a_body_is_bounded_however_it_comes(server: LanServer) -> None:
    assert (await post(server, bytes(LIMIT)))[0] == 200
    assert (await post(server, bytes(LIMIT + 1)))[0] == 413
    assert (await post(server, bytes(BODY_MAX + 1)))[0] == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(LIMIT):
            yield b"xx"

    headers = {"Host": "meshllm"}
    url = f"http://127.0.0.1:{server.port}/echo"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, data=pieces()) as response,
    ):
        assert response.status == 413


@asynccontextmanager
async def connected(
    server: LanServer, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def is_cut(reader: asyncio.StreamReader) -> bool:
    """The server lets go of a socket that asked for nothing."""
    with suppress(ConnectionResetError):
        return await reader.read() == b""
    return True


async def test_headers_are_bounded(server: LanServer) -> None:
    async with connected(server) as (reader, writer):
        line = b"X: " + b"x" * 5_000
        writer.write(b"GET / HTTP/1.1\r\nHost: meshllm\r\n" + line + b"\r\n\r\n")
        assert b" 400 " in await reader.readline()


async def test_a_stranger_asks_ten_times_a_minute_a_known_node_more(
    server: LanServer,
) -> None:
    statuses = [(await post(server))[0] for _ in range(STRANGER + 2)]
    assert statuses == [200] * STRANGER + [429, 429]
    server.know("127.0.0.1")
    assert (await post(server))[0] == 200


async def test_one_address_has_eight_sockets(server: LanServer) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(SOCKETS_PER_ADDRESS):
            await stack.enter_async_context(connected(server))
        reader, _ = await stack.enter_async_context(connected(server))
        assert await is_cut(reader)


async def test_a_strangers_socket_lives_five_seconds(
    server: LanServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshllm.transport.lan_server.STRANGER_S", 0.05)
    async with connected(server) as (reader, _):
        assert await is_cut(reader)


async def test_among_too_many_sockets_the_oldest_stranger_goes(
    server: LanServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshllm.transport.lan_server.SOCKETS_MAX", 2)
    async with connected(server) as (oldest, _), connected(server), connected(server):
        assert await is_cut(oldest)
        server.know("127.0.0.1")
        async with connected(server) as (late, _):
            assert await is_cut(late)


async def test_it_moves_with_the_addresses_and_keeps_its_port(
    server: LanServer,
) -> None:
    port = server.port
    await server.listen([THERE])
    assert (server.addresses, server.port) == ([THERE], port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    async with connected(server, "127.0.0.2"):
        pass
    await server.listen([])
    assert server.addresses == []


async def test_a_port_that_is_taken_is_said(server: LanServer) -> None:
    other = LanServer({}, port=server.port)
    with pytest.raises(ConfigError, match="--lan-port"):
        await other.listen([HERE])
    await other.stop()


async def test_an_address_that_is_not_ready_yet_is_tried_again() -> None:
    """IPv6 ones are listed a second or two before they can be used."""
    server = LanServer({})
    await server.listen([LanAddress("192.0.2.1", 24, "eth0")])
    assert server.addresses == []
    await server.listen([HERE])
    assert server.addresses == [HERE]
    await server.stop()
