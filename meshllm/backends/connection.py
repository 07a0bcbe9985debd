"""One connection to a model server: HTTP/1.1, one exchange at a time.

llhttp parses (httptools). What arrives is handed from the socket's callback to whoever
reads the answer, in one step: a general client's layers cost a provider more per token
than all that is ours (docs/decisions/0006-own-http-client.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import httptools

from meshllm.pour import Sink, Source

HEAD_MAX = 65_536  # bytes of header names and values
# Above it the socket is not read, so that a paused reader stalls the server.
READ_BUFFER = 128 * 1024


class Broken(Exception):
    """The server hung up or sent what is no HTTP; the text says which."""


class Connection(Source, asyncio.Protocol):
    """`request`, then `read` until b"", or `pour`; again while it `is_reusable`."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._head_size = 0
        self._has_head = False
        self._is_whole = False
        self._is_kept = False  # by the server, when the answer is whole
        self._is_paused = False
        self._error: Broken | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def request(
        self, line: str, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        """Sends it; returns when the head of the answer is known. Broken."""
        assert self._transport is not None
        self.headers, self._head_size = {}, 0
        self._has_head = self._is_whole = False
        self._parser = httptools.HttpResponseParser(self)
        lines = [line, *(f"{name}: {value}" for name, value in headers.items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
        if body is not None and len(body) > READ_BUFFER:
            self._transport.writelines([head, body])
        else:
            self._transport.write(head + (body or b""))
        while not self._has_head:
            await self._wait()

    async def read(self) -> bytes:
        """What has come of the body; b"" after its end. Broken."""
        while not self._chunks:
            if self._is_whole:
                return b""
            await self._wait()
        data = self._take()
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    @property
    def is_reusable(self) -> bool:
        """The answer is whole and the server keeps the connection open."""
        return self._is_whole and self._is_kept and self._error is None

    def abort(self) -> None:
        """Now: the server sees that nobody waits for its answer any more."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._is_whole:
            self._fail("sent more than its answer")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("answered with what is no HTTP")
        if self._sink is not None and self._error is None:
            self._give(self._sink)
        elif self._waiter is not None:
            self._wake()
        if self._buffered > READ_BUFFER and self._transport and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._on_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()
        self._transport = None

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_MAX:
            raise Broken("a head beyond 64 KiB")
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= 200  # after 1xx comes another head

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        self._is_whole = self._has_head
        self._is_kept = self._parser.should_keep_alive()  # which it forgets hereafter

    # Inside

    def _take(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        return data

    def _give(self, sink: Sink) -> None:
        if self._chunks:
            sink.write(self._take())
        if self._is_whole or sink.is_full:
            self._wake()

    async def _woken(self) -> None:
        if not self._is_whole:
            await self._wait()

    def _on_end(self) -> None:
        framed = self.headers.keys() & {"content-length", "transfer-encoding"}
        if self._has_head and not framed:
            self._is_whole = True  # RFC 9112 §6.3: the end is the end of the answer
        self._fail("hung up")

    def _fail(self, why: str) -> None:
        if self._error is None:
            self._error = Broken(why)
        self.abort()
        self._wake()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
