"""Ollama's API in front of an OpenAI-compatible server: the edge of the translation.

What is decided is in `dialects`; here the bytes move, and the clock is read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from meshllm import __version__
from meshllm.backends.base import BackendRequest, BackendResponse, Model, WholeResponse
from meshllm.backends.checked import error_in, refuse_page
from meshllm.backends.upstream import Upstream, UpstreamResponse
from meshllm.dialects import JSON, NDJSON, Api, BadRequest, error_body
from meshllm.dialects.embed import (
    embeddings_answer,
    nothing_embedded,
    texts_of,
    truncation,
)
from meshllm.dialects.lists import ps, show, tags, version
from meshllm.dialects.options import Flavor, Target
from meshllm.dialects.translate_request import Loaded, Translated, translate_request
from meshllm.dialects.translate_response import (
    Moment,
    OllamaStream,
    gather,
    loaded,
    ndjson,
)
from meshllm.dialects.truncate import overflow, shortened
from meshllm.errors import BackendError

# Such servers keep their models for as long as they run.
LOADED_FOR = timedelta(days=365)


class OllamaFront:
    """Answers the paths of Ollama's API that a provider passes on."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def run(
        self, request: BackendRequest, models: Mapping[str, Model], flavor: Flavor
    ) -> BackendResponse:
        try:
            match request.path:
                case "/api/chat" | "/api/generate":
                    return await self._ask(request, models, flavor)
                case "/api/embed" | "/api/embeddings":
                    return await self._embed(request, models, flavor)
                case "/api/show":
                    return _json(show(_model_of(request, models)))
                case "/api/tags":
                    return _json(tags(models.values()))
                case "/api/ps":
                    until = (datetime.now(UTC) + LOADED_FOR).isoformat()
                    return _json(ps(models.values(), until.replace("+00:00", "Z")))
                case "/api/version":
                    return _json(version(__version__))
                case _:
                    raise BadRequest(
                        f"{request.path} is not possible with this model server", 501
                    )
        except BadRequest as exc:
            return _error(exc.status, str(exc))

    async def _ask(
        self, request: BackendRequest, models: Mapping[str, Model], flavor: Flavor
    ) -> BackendResponse:
        began_ns = time.monotonic_ns()
        assert request.body is not None
        target = _target(request, _model_of(request, models), flavor)
        asked = translate_request(request.path, request.body, target)
        if isinstance(asked, Loaded):
            name = target.requested
            return _json(loaded(request.path, name, _now_text(), asked.reason))
        response = await self._send(asked, request)
        if isinstance(response, BackendError):
            return _error(response.status, str(response))
        stream = OllamaStream(
            request.path,
            target.requested,
            request.request_id,
            alternatives=bool(request.body.get("top_logprobs")),
        )
        translating = _Translating(response, stream, began_ns)
        return translating if asked.stream else await _gathered(translating)

    async def _send(
        self, asked: Translated, request: BackendRequest
    ) -> UpstreamResponse | BackendError:
        """Asks, with fewer of the oldest messages each time they were too many."""
        assert request.body is not None
        body = asked.body
        while True:
            response = await self._upstream.send(
                "POST", asked.path, body, request.request_id
            )
            if response.status == 200:
                return await self._stream(response, asked.path)
            error = await self._error_in(response, asked.path)
            excess = overflow(error)
            if excess is None or request.body.get("truncate") is False:
                return error
            fewer = shortened(body.get("messages") or [], *excess)
            if fewer is None:
                return error
            body = body | {"messages": fewer}

    async def _stream(self, response: UpstreamResponse, path: str) -> UpstreamResponse:
        try:
            refuse_page(response, path, self._upstream.where)
        except BackendError:
            await response.aclose()
            raise
        return response

    async def _embed(
        self, request: BackendRequest, models: Mapping[str, Model], flavor: Flavor
    ) -> BackendResponse:
        began_ns = time.monotonic_ns()
        assert request.body is not None
        target = _target(request, _model_of(request, models), flavor)
        texts = texts_of(request.path, request.body)
        if not texts:
            return _json(nothing_embedded(request.path, target.requested))
        try:
            answer = await self._vectors(target.model, texts, request.request_id)
        except BackendError as exc:
            limit = truncation(request.body, exc)
            if limit is None or flavor is not Flavor.LLAMA_CPP:
                return _error(exc.status, str(exc))
            cut = await self._cut(texts, limit)
            answer = await self._vectors(target.model, cut, request.request_id)
        elapsed_ns = time.monotonic_ns() - began_ns
        return _json(
            embeddings_answer(
                request.path, request.body, target.requested, answer, elapsed_ns
            )
        )

    async def _vectors(
        self, model: str, texts: list[str] | list[list[int]], request_id: str
    ) -> Any:
        body = {"model": model, "input": texts}
        path = "/v1/embeddings"
        response = await self._upstream.send("POST", path, body, request_id)
        if response.status != 200:
            raise await self._error_in(response, path)
        try:
            content = await response.read()
        finally:
            await response.aclose()
        return _parsed(content)

    async def _error_in(self, response: UpstreamResponse, path: str) -> BackendError:
        try:
            return await error_in(response, path, self._upstream.where)
        finally:
            await response.aclose()

    async def _cut(self, texts: list[str], limit: int) -> list[list[int]]:
        """The texts as tokens, no more than the server takes, less one it adds."""
        cut = []
        for text in texts:
            found = await self._upstream.post_json("/tokenize", {"content": text})
            cut.append(found["tokens"][: limit - 1])
        return cut


class _Translating:
    """A stream of the server, given out as Ollama's; satisfies BackendResponse."""

    def __init__(
        self, response: UpstreamResponse, stream: OllamaStream, began_ns: int
    ) -> None:
        self.status = 200
        self.content_type = NDJSON
        self.timing = response.timing
        self._response = response
        self._stream = stream
        self._began_ns = began_ns

    async def chunks(self) -> AsyncIterator[list[dict[str, Any]]]:
        """What each of the server's writes becomes; raises its error after them."""
        async for data in self._response:
            if chunks := self._stream.feed(data, self._now()):
                yield chunks
            if self._stream.failure is not None:
                raise self._stream.failure
        if chunks := self._stream.end(self._now()):
            yield chunks
        if self._stream.failure is not None:
            raise self._stream.failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunks in self.chunks():
            yield ndjson(chunks)

    async def aclose(self) -> None:
        await self._response.aclose()

    def _now(self) -> Moment:
        return Moment(_now_text(), time.monotonic_ns() - self._began_ns)


async def _gathered(translating: _Translating) -> BackendResponse:
    found: list[dict[str, Any]] = []
    try:
        async for chunks in translating.chunks():
            found += chunks
    except BackendError as exc:
        return _error(exc.status, str(exc))
    finally:
        await translating.aclose()
    whole = gather(found)
    timing = dict(translating.timing)
    if took := whole.get("prompt_eval_duration"):
        timing["prefill"] = round(took / 1_000_000, 1)
    return WholeResponse(200, JSON, orjson.dumps(whole), timing)


def _model_of(request: BackendRequest, models: Mapping[str, Model]) -> Model:
    name = (request.body or {}).get("model", "")
    if name not in models:
        raise BadRequest(f"model '{request.requested_model or name}' not found", 404)
    return models[name]


def _target(request: BackendRequest, model: Model, flavor: Flavor) -> Target:
    return Target(
        flavor=flavor,
        model=model.name,
        requested=request.requested_model or model.name,
        context_length=model.context_length,
        capabilities=model.capabilities if flavor is Flavor.LLAMA_CPP else None,
    )


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode(errors="replace")[:500]


def _json(answer: dict[str, Any]) -> WholeResponse:
    return WholeResponse(200, JSON, orjson.dumps(answer))


def _error(status: int, message: str) -> WholeResponse:
    return WholeResponse(status, JSON, error_body(Api.OLLAMA, status, message))


def _now_text() -> str:
    """RFC 3339, UTC, to the nanosecond as Ollama writes it."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds:09d}Z"
