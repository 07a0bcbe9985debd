"""HTTP/1.1 to a model server, byte by byte: no socket, but where reuse is shown."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from meshllm.backends.connection import HEAD_MAX, READ_BUFFER, Broken, Connection
from meshllm.backends.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


class Socket(asyncio.Transport):
    """Notes what was written, and whether it is read."""

    def __init__(self, owner: Connection) -> None:
        super().__init__()
        self._owner = owner
        self.written = b""
        self.is_read = True
        self.is_aborted = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def abort(self) -> None:
        if not self.is_aborted:
            self.is_aborted = True
            self._owner.connection_lost(None)


def connected() -> tuple[Connection, Socket]:
    connection = Connection()
    socket = Socket(connection)
    connection.connection_made(socket)
    return connection, socket


async def asked(*pieces: bytes) -> tuple[Connection, Socket]:
    """A connection whose head has come."""
    connection, socket = connected()
    asking = asyncio.create_task(connection.request("GET / HTTP/1.1", {}, None))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    await asking
    return connection, socket


async def body_of(connection: Connection) -> bytes:
    body = b""
    while data := await connection.read():
        body += data
    return body


async def test_a_request_is_written_with_its_length() -> None:
    connection, socket = connected()
    headers = {"Host": "there:1"}
    asking = asyncio.create_task(
        connection.request("POST /x HTTP/1.1", headers, b"body")
    )
    await asyncio.sleep(0)
    assert socket.written == (
        b"POST /x HTTP/1.1\r\nHost: there:1\r\nContent-Length: 4\r\n\r\nbody"
    )
    asking.cancel()


@pytest.mark.parametrize("answer", [SIZED, CHUNKED])
@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
async def test_an_answer_is_read_however_it_is_cut(answer: bytes, size: int) -> None:
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    connection, _ = await asked(*pieces)
    assert (connection.status, await body_of(connection)) == (200, b"hello")
    assert connection.is_reusable


async def test_a_connection_serves_the_next_exchange() -> None:
    connection, _ = await asked(CHUNKED)
    assert await body_of(connection) == b"hello"
    asking = asyncio.create_task(connection.request("GET / HTTP/1.1", {}, None))
    await asyncio.sleep(0)
    connection.data_received(SIZED.replace(b"hello", b"again"))
    await asking
    assert await body_of(connection) == b"again"
    assert connection.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.0 200 OK\r\n", OK + b"Connection: close\r\n"]
)
async def test_one_that_the_server_closes_is_not_used_again(head: bytes) -> None:
    connection, _ = await asked(head + b"Content-Length: 2\r\n\r\nhi")
    assert await body_of(connection) == b"hi"
    assert not connection.is_reusable


async def test_without_a_length_the_end_is_the_end() -> None:
    connection, _ = await asked(OK + b"\r\nhel", b"lo")
    connection.eof_received()
    assert await body_of(connection) == b"hello"
    assert not connection.is_reusable


@pytest.mark.parametrize("answer", [SIZED, CHUNKED])
async def test_an_answer_that_is_cut_is_no_whole_one(answer: bytes) -> None:
    connection, _ = await asked(answer[:-3])
    connection.connection_lost(ConnectionResetError())
    assert await connection.read() == b"hello"[: 5 if answer is CHUNKED else 2]
    with pytest.raises(Broken, match="hung up"):
        await connection.read()


async def test_what_comes_before_the_answer_is_passed_over() -> None:
    connection, _ = await asked(b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED)
    assert (connection.status, await body_of(connection)) == (200, b"hello")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        OK + b"X: " + b"x" * (HEAD_MAX + 1) + b"\r\n\r\n",
        b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_answer_breaks(answer: bytes) -> None:
    with pytest.raises(Broken, match="no HTTP"):
        await asked(answer)


async def test_a_hang_up_before_the_head_is_told() -> None:
    connection, _ = connected()
    asking = asyncio.create_task(connection.request("GET / HTTP/1.1", {}, None))
    await asyncio.sleep(0)
    connection.connection_lost(None)
    with pytest.raises(Broken, match="hung up"):
        await asking


async def test_bytes_that_nobody_asked_for_end_a_connection() -> None:
    connection, socket = await asked(SIZED)
    assert connection.is_reusable
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert socket.is_aborted
    assert not connection.is_reusable
    assert await connection.read() == b"hello"  # which was whole


async def test_a_paused_reader_stalls_the_server() -> None:
    head = OK + b"Content-Length: %d\r\n\r\n" % (READ_BUFFER * 2)
    connection, socket = await asked(head + b"x" * READ_BUFFER)
    assert socket.is_read
    connection.data_received(b"x")
    assert not socket.is_read
    assert len(await connection.read()) == READ_BUFFER + 1
    assert socket.is_read


async def test_questions_share_a_connection_until_it_is_closed() -> None:
    talks: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK + b"Content-Length: 2\r\n\r\n{}")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    upstream = Upstream(f"http://{host}:{port}")
    assert await upstream.get_json("/x") == {}
    assert await upstream.get_json("/x") == {}
    assert len(talks) == 1
    while any(kept.is_reusable for kept in upstream._kept):
        await asyncio.sleep(0)  # the server's FIN is on its way
    assert await upstream.get_json("/x") == {}
    assert len(talks) == 2
    await upstream.aclose()
    server.close()
    await asyncio.gather(*(talk for talk in talks if talk is not None))
