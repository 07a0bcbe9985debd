"""An Ollama that says what a test wrote down: by hand, from Ollama's API, no model.

Never made with our translator: one code on both sides would hide an error they share.
Out of the box it is real enough for the official client; `script` puts answers in line.
"""

from __future__ import annotations

import json
import socket
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from tests.fakes.scripted_http import Answer, ScriptedServer, Seen, Step, json_answer

NDJSON = "application/x-ndjson"
DIGEST = "9077fe9d2ae1a4a41a868836b56b8163731a8fe16621397028c2c76f838c6907"
WHEN = "2026-01-02T03:04:05.678901234Z"
TOKENS = ("Hel", "lo ", "wörld")
VERSION = "0.33.0"
ROUTES = {
    "/": "GET",
    "/api/version": "GET",
    "/api/tags": "GET",
    "/api/ps": "GET",
    "/api/show": "POST",
    "/api/chat": "POST",
    "/api/generate": "POST",
    "/api/embed": "POST",
    "/v1/chat/completions": "POST",
}


def line(value: dict[str, Any]) -> bytes:
    """One NDJSON line. Text stays UTF-8, so that a test can cut characters."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def chat_line(model: str, content: str, **message: Any) -> bytes:
    said = {"role": "assistant", "content": content, **message}
    return line({"model": model, "created_at": WHEN, "message": said, "done": False})


def chat_end(model: str, reason: str = "stop", count: int = 3) -> bytes:
    said = {"role": "assistant", "content": ""}
    head = {"model": model, "created_at": WHEN, "message": said, "done": True}
    return line({**head, "done_reason": reason, **metrics(count)})


def generate_line(model: str, text: str) -> bytes:
    return line({"model": model, "created_at": WHEN, "response": text, "done": False})


def generate_end(model: str, reason: str = "stop", count: int = 3) -> bytes:
    head = {"model": model, "created_at": WHEN, "response": "", "done": True}
    end = {**head, "done_reason": reason, "context": [1, 2, 3], **metrics(count)}
    return line(end)


def metrics(count: int) -> dict[str, int]:
    return {
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": 11,
        "prompt_eval_duration": 2_000_000,
        "eval_count": count,
        "eval_duration": 2_000_000,
    }


class ScriptedOllama(ScriptedServer):
    """`models` are its names; `old=True` leaves out what older versions left out."""

    def __init__(
        self,
        models: tuple[str, ...] = ("llama3.2:latest",),
        *,
        old: bool = False,
        remote: tuple[str, ...] = (),
        server_name: str = "",
        sock: socket.socket | None = None,
    ) -> None:
        super().__init__(self._answer, server_name=server_name, sock=sock)
        self.models = models
        self._old = old
        self._remote = remote
        self._waiting: dict[str, deque[Answer]] = defaultdict(deque)

    async def __aenter__(self) -> ScriptedOllama:
        await super().__aenter__()
        return self

    def script(self, path: str, steps: Sequence[Step], **more: Any) -> Answer:
        """The next answer of a path; a stream unless `content_type` says otherwise."""
        answer = Answer(list(steps), **({"content_type": NDJSON} | more))
        self._waiting[path].append(answer)
        return answer

    def script_json(self, path: str, value: Any, status: int = 200) -> None:
        self._waiting[path].append(json_answer(value, status))

    def _answer(self, seen: Seen) -> Answer:
        method = ROUTES.get(seen.path)
        if method is None:
            return Answer([b"404 page not found"], 404, "text/plain")
        if seen.method != method and (seen.method, method) != ("HEAD", "GET"):
            return Answer([b"405 method not allowed"], 405, "text/plain")
        if method == "POST":
            refusal = self._refusal(seen)
            if refusal is not None:
                return refusal
        if self._waiting[seen.path]:
            return self._waiting[seen.path].popleft()
        match seen.path:
            case "/":
                return Answer([b"Ollama is running"], 200, "text/plain; charset=utf-8")
            case "/api/version":
                return json_answer({"version": VERSION})
            case "/api/tags":
                return json_answer({"models": [self._tag(n) for n in self._names()]})
            case "/api/ps":
                return json_answer({"models": [self._loaded(n) for n in self.models]})
            case "/api/show":
                return json_answer(self._shown())
            case "/api/embed":
                return json_answer(_embedded(seen))
            case "/v1/chat/completions":
                return json_answer(_openai_chat(seen))
            case path:
                return _spoken(seen, chat=path == "/api/chat")

    def _refusal(self, seen: Seen) -> Answer | None:
        if not seen.raw:
            return json_answer({"error": "missing request body"}, 400)
        name = str(seen.json.get("model") or seen.json.get("name") or "")
        if not name and seen.path != "/api/generate":
            return json_answer({"error": "model is required"}, 400)
        full = name if ":" in name else f"{name}:latest"
        if full.lower() not in [model.lower() for model in self.models]:
            return json_answer({"error": f"model '{name}' not found"}, 404)
        return None

    def _names(self) -> tuple[str, ...]:
        return self.models + self._remote

    def _tag(self, name: str) -> dict[str, Any]:
        tag = {
            "name": name,
            "model": name,
            "modified_at": "2026-01-01T10:00:00.5+01:00",
            "size": 2019393189,
            "digest": DIGEST,
            "details": _details(),
        }
        if not self._old:
            tag["details"] = {**_details(), "context_length": 131072}
            tag["capabilities"] = ["completion", "tools"]
        if name in self._remote:
            tag |= {"remote_model": name, "remote_host": "https://elsewhere.example"}
        return tag

    def _loaded(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "model": name,
            "size": 3_000_000_000,
            "digest": DIGEST,
            "details": _details(),
            "expires_at": "2126-01-02T03:04:05.678901+01:00",
            "size_vram": 3_000_000_000,
            "context_length": 4096,
        }

    def _shown(self) -> dict[str, Any]:
        return {
            "license": "free",
            "modelfile": "FROM llama3.2",
            "parameters": 'stop                           "<|eot_id|>"',
            "template": "{{ .Prompt }}",
            "details": _details(),
            "model_info": {
                "general.architecture": "llama",
                "general.parameter_count": 3212749888,
                "llama.context_length": 131072,
            },
            "capabilities": ["completion", "tools"],
            "modified_at": "2026-01-01T10:00:00.5+01:00",
        }


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.2B",
        "quantization_level": "Q4_K_M",
    }


def _spoken(seen: Seen, *, chat: bool) -> Answer:
    model = str(seen.json["model"])
    asked = seen.json.get("messages" if chat else "prompt")
    if not asked:
        said = {"message": {"role": "assistant", "content": ""}}
        body = {"model": model, "created_at": WHEN, **(said if chat else _empty())}
        return json_answer({**body, "done": True, "done_reason": "load"})
    if seen.json.get("stream") is False:
        end = json.loads(chat_end(model) if chat else generate_end(model))
        if chat:
            end["message"]["content"] = "".join(TOKENS)
        else:
            end["response"] = "".join(TOKENS)
        return json_answer(end)
    if chat:
        lines = [chat_line(model, token) for token in TOKENS]
        return Answer([*lines, chat_end(model)], content_type=NDJSON)
    lines = [generate_line(model, token) for token in TOKENS]
    return Answer([*lines, generate_end(model)], content_type=NDJSON)


def _empty() -> dict[str, Any]:
    return {"response": ""}


def _embedded(seen: Seen) -> dict[str, Any]:
    given = seen.json.get("input") or []
    texts = [given] if isinstance(given, str) else given
    vectors = [[0.6, 0.8] for _ in texts]
    return {
        "model": seen.json["model"],
        "embeddings": vectors,
        "total_duration": 1_000_000,
        "load_duration": 1_000,
        "prompt_eval_count": 4,
    }


def _openai_chat(seen: Seen) -> dict[str, Any]:
    said = {"role": "assistant", "content": "".join(TOKENS)}
    return {
        "id": "chatcmpl-123",
        "object": "chat.completion",
        "created": 1767323045,
        "model": seen.json["model"],
        "system_fingerprint": "fp_ollama",
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }
