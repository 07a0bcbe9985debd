"""An Ollama request as one for an OpenAI-compatible server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from meshllm.dialects.errors import BadRequest
from meshllm.dialects.messages import openai_messages, with_images
from meshllm.dialects.options import (
    Flavor,
    Target,
    response_format,
    sampling,
    thinking,
    top_logprobs,
)

# What Go's time.ParseDuration takes: "0", or signed numbers that each have a unit.
_DURATION = re.compile(r"[+-]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")


@dataclass(frozen=True, slots=True)
class Translated:
    """What to send. It always streams: only a stream can be cancelled at the server.

    `stream` is whether the asker wants one.
    """

    path: str
    body: dict[str, Any]
    stream: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """Nothing to send: the asker wants the model loaded or unloaded, no answer.

    `reason` is Ollama's `done_reason`. Such servers hold their models by themselves.
    """

    reason: str


def translate_request(
    path: str, request: dict[str, Any], target: Target
) -> Translated | Loaded:
    """For `/api/chat` and `/api/generate`. BadRequest holds the answer's text."""
    unload = _unloads(request.get("keep_alive"))
    if path == "/api/chat":
        if not request.get("messages"):
            return Loaded("unload" if unload else "load")
        return _chat(request, target)
    if not request.get("prompt") and not request.get("suffix"):
        return Loaded("unload" if unload else "load")
    return _generate(request, target)


def _chat(request: dict[str, Any], target: Target) -> Translated:
    target.require("completion", "chat")
    messages = openai_messages(request["messages"], target)
    tools = request.get("tools")
    if tools:
        target.require("tools", "tools")
    body = _common(request, target) | {"messages": messages}
    body |= response_format(request.get("format"))
    body |= thinking(request.get("think"), target)
    if tools:
        body["tools"] = tools
    return Translated("/v1/chat/completions", body, _streams(request))


def _generate(request: dict[str, Any], target: Target) -> Translated:
    target.require("completion", "generate")
    prompt, system = _text(request, "prompt"), _text(request, "system")
    if request.get("raw"):
        if any(request.get(field) for field in ("template", "system", "context")):
            raise BadRequest("raw mode does not support template, system, or context")
        return _complete(request, prompt, target)
    if request.get("suffix"):
        return _insert(request, prompt, target)
    for field in ("template", "context"):
        if request.get(field):
            raise BadRequest(
                f'"{field}" is not supported by this model server; '
                "use /api/chat, or raw with a whole prompt"
            )
    images = request.get("images") or []
    if images:
        target.require("vision", "image input")
    messages: list[dict[str, Any]] = []
    if system:
        messages.append({"role": "system", "content": system})
    messages.append({"role": "user", "content": with_images(prompt, images)})
    body = _common(request, target) | {"messages": messages}
    body |= response_format(request.get("format"))
    body |= thinking(request.get("think"), target)
    return Translated("/v1/chat/completions", body, _streams(request))


def _complete(request: dict[str, Any], prompt: str, target: Target) -> Translated:
    body = _common(request, target) | {"prompt": prompt}
    wanted = response_format(request.get("format"))
    if wanted and target.flavor is Flavor.LLAMA_CPP:
        # Its older API knows schemas by another name, and "json" as any object.
        schema = wanted["response_format"].get("json_schema", {}).get("schema")
        body["json_schema"] = {"type": "object"} if schema is None else schema
    else:
        body |= wanted
    if body.pop("logprobs", None):
        body["logprobs"] = body.pop("top_logprobs")  # a number in this older API
    return Translated("/v1/completions", body, _streams(request))


def _insert(request: dict[str, Any], prompt: str, target: Target) -> Translated:
    """OpenAI's older API has a suffix; llama.cpp ignores it there."""
    if target.flavor is Flavor.LLAMA_CPP:
        raise BadRequest(f'"{target.requested}" does not support insert')
    target.require("insert", "insert")
    translated = _complete(request, prompt, target)
    body = translated.body | {"suffix": _text(request, "suffix")}
    return Translated(translated.path, body, translated.stream)


def _common(request: dict[str, Any], target: Target) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": target.model,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= sampling(request.get("options") or {}, target)
    alternatives = top_logprobs(request)
    if alternatives is not None:
        body |= {"logprobs": True, "top_logprobs": max(alternatives, 1)}
    if target.flavor is Flavor.LLAMA_CPP:
        body["return_progress"] = True  # see sse.ProgressFilter
    return body


def _streams(request: dict[str, Any]) -> bool:
    return request.get("stream") is not False


def _text(request: dict[str, Any], field: str) -> str:
    value = request.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f'"{field}" must be a string')
    return value


def _unloads(keep_alive: Any) -> bool:
    """Whether it is zero; BadRequest when it is no duration."""
    if keep_alive is None:
        return False
    if isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool):
        return keep_alive == 0
    if not isinstance(keep_alive, str):
        raise BadRequest('"keep_alive" must be a number of seconds or a duration')
    if not _DURATION.fullmatch(keep_alive):
        if re.fullmatch(r"[+-]?\d+(\.\d*)?", keep_alive):
            raise BadRequest(f'time: missing unit in duration "{keep_alive}"')
        raise BadRequest(f'time: invalid duration "{keep_alive}"')
    return not re.search("[1-9]", keep_alive)
