"""Any OpenAI-compatible server: llama.cpp, vLLM, LM Studio, or one far away.

`/v1/*` passes through, or is collected when the asker wants no stream; `/api/*` is
translated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson

from meshllm.backends.base import BackendRequest, BackendResponse, Model, WholeResponse
from meshllm.backends.checked import checked, refuse_page
from meshllm.backends.ollama_front import OllamaFront
from meshllm.backends.upstream import Upstream, UpstreamResponse
from meshllm.dialects import JSON, Api, api_of, error_body
from meshllm.dialects.collect import COLLECTED, Collector, streamed
from meshllm.dialects.lists import openai_model, openai_models, same_name
from meshllm.dialects.options import Flavor
from meshllm.dialects.sse import ProgressFilter
from meshllm.errors import BackendError

# Streams that take return_progress; see ProgressFilter.
REPORTING = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})


class OpenAIBackend:
    """A server with OpenAI's API at `url`, with or without `/v1` at its end."""

    kind = "openai"

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        socket: Path | None = None,
        parallel: int | None = None,
        complete: Callable[[Model], Model] = lambda model: model,
    ) -> None:
        """`complete` adds to an entry what the server does not tell of it."""
        self.url = url.rstrip("/").removesuffix("/v1")
        self.parallel = parallel
        self.flavor = Flavor.GENERIC
        self._upstream = Upstream(self.url, api_key=api_key, socket=socket)
        self._complete = complete
        self._known: dict[str, Model] = {}
        self._front = OllamaFront(self._upstream)

    async def models(self, *, timeout_s: float = 10.0) -> list[Model]:
        """From `/v1/models`, and from llama.cpp's own `/props`."""
        answer, server = await self._upstream.server_of(
            "/v1/models", timeout_s=timeout_s
        )
        entries = answer.get("data", 0) if isinstance(answer, dict) else 0
        if not isinstance(entries, list | None):  # null is Ollama's empty list
            raise BackendError(f"{self.url} does not speak OpenAI's API.")
        entries = [entry for entry in entries or () if isinstance(entry, dict)]
        props: dict[str, Any] = {}
        if server == "llama.cpp" or any(
            entry.get("owned_by") == "llamacpp" for entry in entries
        ):
            self.flavor = Flavor.LLAMA_CPP
            props = await self._props()
            self.parallel = self.parallel or props.get("total_slots")
        found = [
            self._complete(_model(entry, props)) for entry in entries if entry.get("id")
        ]
        self._known = {model.name: model for model in found}
        return found

    async def run(self, request: BackendRequest) -> BackendResponse:
        if not self._known:
            await self.models()
        path = request.path
        if api_of(path) is Api.OLLAMA:
            return await self._front.run(request, self._known, self.flavor)
        if path == "/v1/models" or path.startswith("/v1/models/"):
            return self._listed(path)
        body = request.body
        if body is not None and path in REPORTING and self.flavor is Flavor.LLAMA_CPP:
            body = body | {"return_progress": True}
        if body is not None and path in COLLECTED and not body.get("stream"):
            body = streamed(path, body)
            return await self._collect(request, body)
        response = await self._upstream.send(
            request.method, path, body, request.request_id
        )
        if body is not None and "return_progress" in body and response.status == 200:
            return _Unreported(response)
        return await checked(response, path, self._upstream.where)

    async def aclose(self) -> None:
        await self._upstream.aclose()

    async def _collect(
        self, request: BackendRequest, body: dict[str, Any]
    ) -> BackendResponse:
        response = await self._upstream.send(
            request.method, request.path, body, request.request_id
        )
        try:
            if response.status != 200:
                return await checked(response, request.path, self._upstream.where)
            refuse_page(response, request.path, self._upstream.where)
            collector = Collector(request.path)
            async for chunk in response:
                collector.feed(chunk)
            whole = collector.result()
        except BackendError as exc:
            content = error_body(Api.OPENAI, exc.status, str(exc))
            return WholeResponse(exc.status, JSON, content)
        finally:
            await response.aclose()
        timing = response.timing | prefill(whole.get("timings"))
        return WholeResponse(200, JSON, orjson.dumps(whole), timing)

    def _listed(self, path: str) -> BackendResponse:
        """Made here: llama.cpp has no `/v1/models/{id}`."""
        if path == "/v1/models":
            return _json(openai_models(self._known.values()))
        name = path.removeprefix("/v1/models/").replace("%2F", "/").replace("%3A", ":")
        for model in self._known.values():
            if same_name(model.name, name):
                return _json(openai_model(model))
        message = f"model '{name}' not found"
        return WholeResponse(404, JSON, error_body(Api.OPENAI, 404, message))

    async def _props(self) -> dict[str, Any]:
        try:
            props = await self._upstream.get_json("/props")
        except BackendError:  # a server may have it turned off; it only tells more
            return {}
        return props if isinstance(props, dict) else {}


class _Unreported:
    """A stream without the reports on the prompt that only we asked for."""

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.content_type
        self.timing = response.timing

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reports = ProgressFilter()
        async for chunk in self._response:
            if kept := reports.feed(chunk):
                yield kept
        if rest := reports.end():
            yield rest

    async def aclose(self) -> None:
        await self._response.aclose()


def prefill(timings: Any) -> dict[str, float]:
    """How long the prompt took, in ms, when the server tells."""
    took = timings.get("prompt_ms") if isinstance(timings, dict) else None
    return {"prefill": round(float(took), 1)} if took else {}


def _json(answer: dict[str, Any]) -> WholeResponse:
    return WholeResponse(200, JSON, orjson.dumps(answer))


def _model(entry: dict[str, Any], props: dict[str, Any]) -> Model:
    meta = entry.get("meta") or {}
    settings = props.get("default_generation_settings") or {}
    context = settings.get("n_ctx") or meta.get("n_ctx") or entry.get("max_model_len")
    details: dict[str, Any] = {}
    if count := meta.get("n_params"):
        details |= {"parameter_count": count, "parameter_size": _millions(count)}
    if meta.get("n_embd"):
        details["embedding_length"] = meta["n_embd"]
    if meta.get("ftype"):
        details |= {"format": "gguf", "quantization_level": meta["ftype"]}
    return Model(
        name=str(entry["id"]),
        size=int(meta.get("size") or 0),
        details=details,
        capabilities=_capabilities(props),
        context_length=int(context or 0),
    )


def _capabilities(props: dict[str, Any]) -> tuple[str, ...]:
    """llama.cpp tells; of others we suppose tools, and leave refusing to them."""
    if not props:
        return ("completion", "tools")
    found = ["completion"]
    caps = props.get("chat_template_caps") or {}
    if caps.get("supports_tool_calls"):
        found.append("tools")
    if (props.get("modalities") or {}).get("vision"):
        found.append("vision")
    template = str(props.get("chat_template") or "")
    if "enable_thinking" in template or "<think>" in template:
        found.append("thinking")
    return tuple(found)


def _millions(count: int) -> str:
    if count >= 1_000_000_000:
        return f"{count / 1_000_000_000:.1f}B"
    return f"{count / 1_000_000:.2f}M"
