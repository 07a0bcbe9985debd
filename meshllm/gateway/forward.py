"""Takes a program's question into the mesh and streams the answer back."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http import StreamWriter

from meshllm.dialects import BadRequest, model_of, parse_request, stream_error
from meshllm.errors import BackendError, MeshError
from meshllm.gateway.call import REQUEST_ID, RETRY_AFTER, Call
from meshllm.gateway.pins import split_pin
from meshllm.gateway.records import ENDS, Records
from meshllm.now import run_now
from meshllm.pour import pour
from meshllm.routing.seam import Answer, Ask

log = logging.getLogger(__name__)

BODY_LIMIT = 32 * 1024 * 1024  # docs/protocol.md §7
PARSE_IN_THREAD = 1024 * 1024  # bytes; beyond, parsing would hold up other streams
# An answer of one piece is held until it is whole, up to this many bytes: it then has a
# length, and a provider that is lost half way is still an error with its own status.
WHOLE_LIMIT = 256 * 1024
PAGE_ASK = "Meshllm-Ask"
PAGE_PIN = "Meshllm-Pin"  # saves the page from naming the model NAME@PROVIDER
WORD_LENGTH = 64
TIMINGS = ("queue", "connect", "rtt", "load", "prefill")
# What a provider says reaches browsers under our origin: nothing they would render.
CONTENT_TYPE = re.compile(
    r"(application/(json|x-ndjson)|text/(event-stream|plain))(; ?charset=[\w-]+)?",
    re.ASCII | re.IGNORECASE,
)


NO_LINGER = struct.pack("ii", 1, 0)  # close sends a reset at once


async def forward(call: Call) -> web.StreamResponse:
    """Answers a POST whose body names a model."""
    if REQUEST_ID in call.request.headers:
        raise BadRequest(
            "This request came round again: a provider of the mesh has this gateway "
            "as its model server. Point its `meshllm share --url` at the real one.",
            508,
        )
    body = await read_body(call.request)
    ask = await _ask(call, body)
    try:
        answer = await call.mesh.ask(ask)
    finally:
        call.waiting.pop(_word(call), None)
    return await _relay(call, answer)


def _word(call: Call) -> str:
    """What the page calls its question, to hear of its place in the line."""
    return call.request.headers.get(PAGE_ASK, "")[:WORD_LENGTH] if call.is_page else ""


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body, <= 32 MiB. Raises BadRequest (413, 415)."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise BadRequest("Send the request without Content-Encoding.", 415)
    if (request.content_length or 0) > BODY_LIMIT:
        raise _too_large()
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    if request.content.is_eof():  # it came along with its head, as most do
        return request.content.read_nowait()
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise _too_large()
    return bytes(body)


def _too_large() -> BadRequest:
    limit = BODY_LIMIT // (1024 * 1024)
    return BadRequest(f"The request is larger than {limit} MiB.", 413)


async def _ask(call: Call, body: bytes) -> Ask:
    if len(body) > PARSE_IN_THREAD:
        model = await asyncio.to_thread(model_of, body, call.path)
    else:
        model = model_of(body, call.path)
    pin = None
    if "@" in model:
        model, pin = split_pin(model, call.mesh.models())
    if pin is not None:
        # The provider reads the body itself, and knows its models without `@`.
        body = orjson.dumps(parse_request(body, call.path) | {"model": model})
    if call.is_page:
        pin = call.request.headers.get(PAGE_PIN) or pin
    word = _word(call)

    def on_queue(place: int) -> None:
        call.waiting[word] = place

    return Ask(
        request_id=call.id,
        method=call.request.method,
        path=call.path,
        model=model,
        provider=pin,
        content_type="application/json",  # whatever the program called it
        body=body,
        on_queue=on_queue if word else None,
    )


async def _relay(call: Call, answer: Answer) -> web.StreamResponse:
    """Raises MeshError when it breaks off before anything was sent on."""
    async with aclosing(answer):
        _describe(call, answer)
        content_type = _safe_type(answer.content_type)
        media_type = content_type.partition(";")[0].lower()
        if media_type in ENDS:
            return await _stream(call, answer, content_type)
        return await _whole(call, answer.status, content_type, aiter(answer))


def _describe(call: Call, answer: Answer) -> None:
    call.headers["Meshllm-Provider"] = answer.provider
    call.headers["Meshllm-Path"] = answer.path
    timing = server_timing(answer.timing)
    if timing:
        call.headers["Server-Timing"] = timing
    call.headers["X-Content-Type-Options"] = "nosniff"
    if answer.status == 503:  # all slots and the line are full
        call.headers["Retry-After"] = RETRY_AFTER
    if not 200 <= answer.status <= 599 or answer.status in (204, 304):
        raise BackendError(f"The provider answered with status {answer.status}.")


def server_timing(timing: Mapping[str, Any]) -> str:
    """The Server-Timing header: what we know by name, in the order it happened."""
    known = [(name, timing[name]) for name in TIMINGS if name in timing]
    return ", ".join(
        f"{name};dur={value:.1f}" for name, value in known if 0 <= value < math.inf
    )


def _safe_type(content_type: str) -> str:
    if CONTENT_TYPE.fullmatch(content_type):
        return content_type
    return "application/octet-stream"


async def _stream(call: Call, answer: Answer, content_type: str) -> web.StreamResponse:
    records = Records(content_type.partition(";")[0].lower())
    response, writer = await _start(call, answer.status, content_type)
    try:
        await pour(answer, _Body(call, writer, records))
    except MeshError as exc:
        call.has_broken_off = True
        log.info("request %s broke off: %s", call.id, exc)
        if records.is_torn:
            return _break_off(call, response)
        await response.write(stream_error(call.api, str(exc)))
    else:
        rest = records.rest()
        if rest:
            await response.write(rest)
    await response.write_eof()
    return response


class _Body:
    """The streamed body on its way to the program: whole records only."""

    def __init__(self, call: Call, writer: StreamWriter, records: Records) -> None:
        self._call = call
        self._protocol = call.request.protocol
        self._writer = writer
        self._records = records
        self._error: Exception | None = None

    def write(self, data: bytes) -> None:
        if self._call.first_at is None:
            self._call.first_at = time.monotonic()
        whole = self._records.feed(data)
        if whole and self._error is None:
            try:
                run_now(self._writer.write(whole, drain=False))
            except ConnectionError as error:  # the program went away
                self._error = error

    @property
    def is_full(self) -> bool:
        return self._protocol.writing_paused or self._error is not None

    async def drain(self) -> None:
        if self._error is not None:
            raise self._error
        await self._writer.drain()


async def _whole(
    call: Call, status: int, content_type: str, chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > WHOLE_LIMIT:
            break
    else:
        return call.reply(bytes(body), content_type, status)
    response, _ = await _start(call, status, content_type)
    try:
        await response.write(body)
        async for chunk in chunks:
            await response.write(chunk)
    except MeshError as exc:
        call.has_broken_off = True
        log.info("request %s broke off: %s", call.id, exc)
        return _break_off(call, response)
    await response.write_eof()
    return response


async def _start(
    call: Call, status: int, content_type: str
) -> tuple[web.StreamResponse, StreamWriter]:
    response = _Streamed(
        status=status, headers={**call.headers, "Content-Type": content_type}
    )
    writer = await response.prepare(call.request)
    assert isinstance(writer, StreamWriter)
    asyncio.get_running_loop().call_soon(_send_head, writer)
    return response, writer


class _Streamed(web.StreamResponse):
    """Its head leaves with the first bytes of its body if these are there already."""

    _send_headers_immediately = False  # aiohttp's switch: web.Response has it off too


def _send_head(writer: StreamWriter) -> None:
    with suppress(ConnectionError):  # the program went away: its handler is told
        writer.send_headers()


def _break_off(call: Call, response: web.StreamResponse) -> web.StreamResponse:
    """Ends the connection so that no program takes the answer for a whole one.

    By a reset, because to HTTP/1.0 an orderly end is the end of the answer.
    """
    transport = call.request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        transport.abort()
    return response
