"""A server with OpenAI's API that says what a test wrote down, byte by byte.

Written by hand from what llama.cpp, vLLM and Ollama send. `llama_cpp=True` makes it
name itself as llama.cpp does and serve `/props`.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from tests.fakes.scripted_http import Answer, ScriptedServer, Seen, Step, json_answer

SSE = "text/event-stream"
DONE = b"data: [DONE]\n\n"
MODEL = "tiny"


def event(value: Any) -> bytes:
    """One server-sent event. Text stays UTF-8, so that a test can cut characters."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chat_chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """A chat chunk as llama.cpp writes it."""
    return event(
        {
            "choices": [{"finish_reason": finish, "index": 0, "delta": delta}],
            "created": 1700000000,
            "id": "chatcmpl-abc",
            "model": MODEL,
            "system_fingerprint": "b1",
            "object": "chat.completion.chunk",
            **more,
        }
    )


def text_chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
    """A chunk of the older completions API."""
    return event(
        {
            "choices": [
                {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
            ],
            "created": 1700000000,
            "id": "cmpl-abc",
            "model": MODEL,
            "object": "text_completion",
            **more,
        }
    )


def chat_says(*tokens: str, finish: str = "stop") -> list[bytes]:
    """A whole, ordinary chat stream."""
    return [
        chat_chunk({"role": "assistant", "content": None}),
        *(chat_chunk({"content": token}) for token in tokens),
        chat_chunk({}, finish),
        usage_chunk(prompt=7, completion=len(tokens)),
        DONE,
    ]


def usage_chunk(prompt: int, completion: int, **more: Any) -> bytes:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return event(
        {
            "choices": [],
            "created": 1700000000,
            "id": "chatcmpl-abc",
            "model": MODEL,
            "object": "chat.completion.chunk",
            "usage": usage,
            **more,
        }
    )


class ScriptedOpenAI(ScriptedServer):
    """`script(path, steps)` puts the next answer of a path in line."""

    def __init__(
        self,
        *,
        llama_cpp: bool = False,
        models: tuple[str, ...] = (MODEL,),
        props: dict[str, Any] | None = None,
        api_key: str | None = None,
        server_name: str | None = None,
    ) -> None:
        own_name = "llama.cpp" if llama_cpp else "scripted"
        super().__init__(self._answer, server_name=server_name or own_name)
        self._llama_cpp = llama_cpp
        self._models = models
        self._props = props
        self._api_key = api_key
        self._waiting: dict[str, deque[Answer]] = defaultdict(deque)

    async def __aenter__(self) -> ScriptedOpenAI:
        await super().__aenter__()
        return self

    def script(self, path: str, steps: Sequence[Step], **more: Any) -> Answer:
        answer = Answer(list(steps), **({"content_type": SSE} | more))
        self._waiting[path].append(answer)
        return answer

    def script_json(self, path: str, value: Any, status: int = 200) -> None:
        self._waiting[path].append(json_answer(value, status))

    def _answer(self, seen: Seen) -> Answer:
        wanted = f"Bearer {self._api_key}"
        if self._api_key and seen.headers.get("authorization") != wanted:
            return json_answer(_error(401, "Invalid API Key"), 401)
        if self._waiting[seen.path]:
            return self._waiting[seen.path].popleft()
        if seen.path == "/v1/models":
            return json_answer({"object": "list", "data": self._list()})
        if seen.path == "/props" and self._llama_cpp:
            return json_answer(self._props or PROPS)
        return json_answer(_error(404, "File Not Found"), 404)

    def _list(self) -> list[dict[str, Any]]:
        owner = "llamacpp" if self._llama_cpp else "scripted"
        return [
            {"id": name, "object": "model", "created": 1, "owned_by": owner}
            for name in self._models
        ]


PROPS = {
    "default_generation_settings": {"n_ctx": 2048},
    "total_slots": 3,
    "modalities": {"vision": False, "audio": False},
    "chat_template": "{% if enable_thinking %}<think>{% endif %}",
    "chat_template_caps": {"supports_tools": True, "supports_tool_calls": True},
}


def _error(code: int, message: str) -> dict[str, Any]:
    kind = {401: "authentication_error", 404: "not_found_error"}[code]
    return {"error": {"code": code, "message": message, "type": kind}}
