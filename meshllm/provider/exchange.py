"""One exchange at the provider: read the request, check it, run it, send the answer.

Everything that can go wrong ends as a response in the API's own shape before the first
byte, and as the API's in-stream error after it; the stream never just stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from meshllm.backends.base import Backend, BackendRequest, BackendResponse, Model
from meshllm.dialects import (
    JSON,
    BadRequest,
    api_of,
    error_body,
    parse_request,
    stream_error,
)
from meshllm.errors import BackendError, Code, NotAllowed, StreamReset
from meshllm.pour import pour
from meshllm.protocol.exchange import (
    HeadReader,
    RequestHead,
    ResponseHead,
    encode_head,
)
from meshllm.provider.policy import clamp, permit, resolve
from meshllm.provider.routes import Kind, kind_of, refuse_admin
from meshllm.provider.runs import Runs
from meshllm.provider.slots import Slots
from meshllm.transport.link import Stream
from meshllm.trust.admission import Admission

log = logging.getLogger(__name__)

BODY_MAX = 32 << 20
THREAD_BYTES = 1 << 20  # parsing more than this would hold up everyone's tokens

STATUS = {
    Code.FORBIDDEN: 403,
    Code.REVOKED: 403,
    Code.AUTH: 403,
    Code.QUOTA: 429,
    Code.BUSY: 503,
    Code.DRAINING: 503,
    Code.NO_MODEL: 404,
    Code.TOO_LARGE: 413,
}


class Failure(Exception):
    """The answer, when it is an error before the first byte."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Served:
    """What every exchange of one provider shares."""

    backend: Backend
    slots: Slots
    models: Callable[[], list[Model]]
    recheck: Callable[[Admission], None]
    runs: Runs = field(default_factory=Runs)
    waiting: set[Stream] = field(default_factory=set)  # for a slot


async def serve(stream: Stream, admission: Admission, served: Served) -> None:
    """The whole exchange; ends early, with the backend's socket, when the peer resets.

    Never raises for what a peer or a backend does.
    """
    if not stream.is_open:
        return  # it ended before it could begin
    task = asyncio.current_task()
    assert task is not None
    is_left = False

    def leave() -> None:
        nonlocal is_left
        if asyncio.current_task() is not task:  # else we ended it, and go on from there
            is_left = True
            task.cancel()

    stream.on_end = leave
    try:
        await _exchange(stream, admission, served)
    except asyncio.CancelledError:
        if not is_left or task.uncancel():
            raise  # somebody else wants this task to end
    except StreamReset:
        stream.reset(Code.INTERNAL, "The provider could not answer.")
    except Exception as error:
        log.exception("an exchange failed: %s", type(error).__name__)
        stream.reset(Code.INTERNAL, "The provider failed; its log says why.")
    finally:
        stream.on_end = None


async def _exchange(stream: Stream, admission: Admission, served: Served) -> None:
    head, body = await _read_request(stream)
    peer, has_answered = admission.id, True
    try:
        served.runs.begin(peer, head.id, time.monotonic())
    except StreamReset as refusal:
        stream.reset(refusal.code, str(refusal))
        raise
    try:
        await _respond(stream, head, body, admission, served)
    except asyncio.CancelledError:
        has_answered = stream.has_written
        raise
    finally:
        served.runs.end(peer, head.id, time.monotonic(), has_answered=has_answered)


async def _respond(
    stream: Stream,
    head: RequestHead,
    body: bytes,
    admission: Admission,
    served: Served,
) -> None:
    try:
        request, kind = await _check(head, body, admission, served)
        if kind is Kind.ASK:
            async with _slot(stream, served) as queued_ms:
                served.recheck(admission)
                await _run(stream, request, served.backend, {"queue": queued_ms})
        else:
            if head.path == "/api/ps":  # what is loaded, and how many are at it
                _say_load(stream, served.slots)
            await _run(stream, request, served.backend, {})
    except Failure as failure:
        _answer(stream, head.path, failure.status, str(failure))
    except NotAllowed as refusal:
        _answer(stream, head.path, STATUS.get(refusal.code, 403), str(refusal))
    except BadRequest as error:
        _answer(stream, head.path, error.status, str(error))
    await stream.drain()


@asynccontextmanager
async def _slot(stream: Stream, served: Served) -> AsyncIterator[float]:
    """A slot, and how many milliseconds it was waited for."""
    started = time.monotonic()
    served.waiting.add(stream)
    try:
        async with served.slots.take(lambda n: _say_position(stream, n)):
            served.waiting.discard(stream)
            yield (time.monotonic() - started) * 1000
    finally:
        served.waiting.discard(stream)


async def _read_request(stream: Stream) -> tuple[RequestHead, bytes]:
    reader = HeadReader(RequestHead)
    found = None
    while found is None:
        data = await stream.read()
        if not data:
            raise StreamReset(Code.PROTOCOL, "the request ends inside its head")
        found = reader.feed(data)
    head, rest = found
    body = bytearray(rest)
    while data := await stream.read():
        if len(body) + len(data) > BODY_MAX:
            stream.reset(Code.TOO_LARGE, "The request is larger than 32 MiB.")
            raise StreamReset(Code.TOO_LARGE, "a request beyond 32 MiB")
        body += data
    return head, bytes(body)


async def _check(
    head: RequestHead, body: bytes, admission: Admission, served: Served
) -> tuple[BackendRequest, Kind]:
    kind = kind_of(head.method, head.path)
    if kind is None:
        raise Failure(404, f"This provider knows no {head.method} {head.path}.")
    if kind is Kind.ADMIN:
        raise refuse_admin(head.path)
    served.recheck(admission)
    if head.method == "GET":
        return BackendRequest(head.method, head.path, None, head.id), kind
    if len(body) > THREAD_BYTES:
        parsed = await asyncio.to_thread(parse_request, body, head.path)
    else:
        parsed = parse_request(body, head.path)
    return _resolved(head, parsed, admission, served), kind


def _resolved(
    head: RequestHead, parsed: dict[str, Any], admission: Admission, served: Served
) -> BackendRequest:
    asked = str(parsed.get("model") or "")
    models = served.models()
    model = resolve(asked, models)
    if model is None and "@" in asked:  # the gateway's pin, already followed
        asked = asked.rpartition("@")[0]
        model = resolve(asked, models)
    if model is None:
        raise Failure(404, f"model '{asked}' not found")
    permit(model, admission)
    parsed["model"] = model.name
    clamped = clamp(parsed, model, admission.role)
    return BackendRequest(head.method, head.path, clamped, head.id, asked)


async def _run(
    stream: Stream, request: BackendRequest, backend: Backend, timing: dict[str, float]
) -> None:
    try:
        response = await backend.run(request)
    except BackendError as error:
        raise Failure(error.status, str(error)) from error
    try:
        head = ResponseHead(
            status=response.status,
            type=response.content_type,
            timing=timing | response.timing,
        )
        await _send(stream, encode_head(head), request.path, response)
        stream.finish()
    finally:
        await response.aclose()


async def _send(
    stream: Stream, head: bytes, path: str, response: BackendResponse
) -> None:
    sending = _Sending(stream, head)
    try:
        await pour(response, sending)
        if not stream.has_written:
            stream.write(head)
    except BackendError as error:
        log.warning("the model server broke off: %s", error)
        if not stream.has_written:
            raise Failure(error.status, str(error)) from error
        if response.content_type.startswith("application/json"):
            # Half an object cannot be mended: the reader must see that it is cut.
            stream.reset(Code.BACKEND, str(error))
            return
        at_line_start = sending.last.endswith(b"\n")
        stream.write(
            stream_error(api_of(path), str(error), at_line_start=at_line_start)
        )


class _Sending:
    """The head leaves with the first byte: some servers give theirs before they have
    read the prompt, when another provider could still answer."""

    def __init__(self, stream: Stream, head: bytes) -> None:
        self.last = b""
        self._stream = stream
        self._head = head

    def write(self, data: bytes) -> None:
        self.last = data
        if not self._stream.has_written:
            data = self._head + data
        self._stream.write(data)

    @property
    def is_full(self) -> bool:
        return not self._stream.can_write

    async def drain(self) -> None:
        await self._stream.drain()


def _answer(stream: Stream, path: str, status: int, text: str) -> None:
    head = ResponseHead(status=status, type=JSON, timing={})
    stream.write(encode_head(head))
    stream.write(error_body(api_of(path), status, text))
    stream.finish()


def _say_load(stream: Stream, slots: Slots) -> None:
    stream.inform(orjson.dumps({"running": slots.running, "waiting": slots.waiting}))


def _say_position(stream: Stream, position: int) -> None:
    stream.inform(orjson.dumps({"queue": position}))
