"""An OpenAI stream as Ollama's: events in, cut anywhere, NDJSON out; or one object."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from meshllm.dialects.openai_events import (
    first_choice,
    merge_tool_calls,
    read_event,
    thinking_of,
)
from meshllm.dialects.sse import DONE, EventStream
from meshllm.errors import BackendError

_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Moment:
    """When something came: RFC 3339 text, and nanoseconds since the request began."""

    created_at: str
    elapsed_ns: int


class OllamaStream:
    """Turns one stream into Ollama's chunks, as objects; `ndjson` makes lines of them.

    `failure` is set when the server reports an error, or ends without having finished:
    what was given out stands, and the caller ends the stream with an error, never with
    `done`. `seed` makes the ids of tool calls that came without one.
    """

    def __init__(self, path: str, model: str, seed: str, *, alternatives: bool) -> None:
        self.failure: BackendError | None = None
        self._generate = path == "/api/generate"
        self._model = model
        self._seed = seed
        self._alternatives = alternatives
        self._events = EventStream()
        self._calls: list[dict[str, Any]] = []
        self._reason = ""
        self._is_done = False
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._pieces = 0
        self._first_ns = 0
        self._last_ns = 0

    def feed(self, data: bytes, at: Moment) -> list[dict[str, Any]]:
        """The chunks that these bytes complete."""
        chunks: list[dict[str, Any]] = []
        try:
            for event in self._events.feed(data):
                self._read(event, at, chunks)
        except BackendError as exc:
            self.failure = self.failure or exc
        return chunks

    def end(self, at: Moment) -> list[dict[str, Any]]:
        """The last chunks, once the server has closed its stream."""
        chunks: list[dict[str, Any]] = []
        try:
            for event in self._events.end():
                self._read(event, at, chunks)
            if not self._is_done and self.failure is None:
                if not self._reason:
                    raise BackendError("The model server broke off in mid-answer.")
                self._finish(at, chunks)
        except BackendError as exc:
            self.failure = self.failure or exc
        return chunks

    def _read(self, data: bytes, at: Moment, chunks: list[dict[str, Any]]) -> None:
        if self._is_done or self.failure is not None:
            return
        if data == DONE:
            self._finish(at, chunks)
            return
        event = read_event(data)
        self._usage = event.get("usage") or self._usage
        self._timings = event.get("timings") or self._timings
        choice = first_choice(event)
        delta = choice.get("delta") or choice
        content = delta.get("text" if "text" in choice else "content") or ""
        thought = thinking_of(delta)
        merge_tool_calls(self._calls, delta.get("tool_calls"))
        if thought or content or delta.get("tool_calls"):
            self._pieces += 1
            self._first_ns = self._first_ns or at.elapsed_ns
            self._last_ns = at.elapsed_ns
        logprobs = self._logprobs(choice.get("logprobs"))
        if thought:  # never in one chunk with content
            chunks.append(self._chunk(at, "", {"thinking": thought}))
        if content or (logprobs and not thought):
            chunks.append(self._chunk(at, content, {}))
        if logprobs and chunks:
            chunks[-1]["logprobs"] = logprobs
        self._reason = choice.get("finish_reason") or self._reason

    def _chunk(
        self, at: Moment, content: str, extra: dict[str, Any], *, done: bool = False
    ) -> dict[str, Any]:
        head = {"model": self._model, "created_at": at.created_at}
        if self._generate:
            return head | {"response": content} | extra | {"done": done}
        message = {"role": "assistant", "content": content} | extra
        return head | {"message": message, "done": done}

    def _finish(self, at: Moment, chunks: list[dict[str, Any]]) -> None:
        self._is_done = True
        if self._calls:
            calls = [
                self._tool_call(position, call)
                for position, call in enumerate(self._calls)
            ]
            chunks.append(self._chunk(at, "", {"tool_calls": calls}))
        last = self._chunk(at, "", {}, done=True)
        last["done_reason"] = "length" if self._reason == "length" else "stop"
        chunks.append(last | self._metrics(at))

    def _tool_call(self, position: int, call: dict[str, Any]) -> dict[str, Any]:
        name, text = call["function"]["name"], call["function"]["arguments"]
        try:
            arguments = orjson.loads(text or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise BackendError(
                f'The model called "{name}" with arguments that are no JSON object.'
            )
        return {
            "id": call["id"] or f"call_{_letters(f'{self._seed}/{position}')}",
            "function": {"index": position, "name": name, "arguments": arguments},
        }

    def _metrics(self, at: Moment) -> dict[str, int]:
        """Exact where the server tells, else as seen from here; zeros are left out."""
        timings, usage = self._timings, self._usage
        first, last = self._first_ns or at.elapsed_ns, self._last_ns or at.elapsed_ns
        if timings:
            prompt = timings.get("cache_n", 0) + timings.get("prompt_n", 0)
            count = timings.get("predicted_n", 0)
            prompt_ns = _ns(timings.get("prompt_ms"))
            eval_ns = _ns(timings.get("predicted_ms"))
        else:
            prompt = usage.get("prompt_tokens", 0)
            # Nearly every server sends a token an event.
            count = usage.get("completion_tokens") or self._pieces
            prompt_ns, eval_ns = first, last - first
        metrics = {
            "total_duration": at.elapsed_ns,
            # What passed before the prompt was worked on. A model that is already
            # loaded costs next to nothing, but the field is always there in Ollama.
            "load_duration": max(first - prompt_ns, 1),
            "prompt_eval_count": prompt,
            "prompt_eval_duration": prompt_ns,
            "eval_count": count,
            "eval_duration": eval_ns,
        }
        return {name: value for name, value in metrics.items() if value}

    def _logprobs(self, given: Any) -> list[dict[str, Any]]:
        if not isinstance(given, dict):
            return []
        if isinstance(given.get("content"), list):
            return [self._logprob(item) for item in given["content"]]
        tokens = given.get("tokens") or []  # OpenAI's older API
        values = given.get("token_logprobs") or []
        return [
            {"token": token, "logprob": value or 0.0, "bytes": list(token.encode())}
            for token, value in zip(tokens, values, strict=False)
        ]

    def _logprob(self, item: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = _token(item)
        if self._alternatives:
            others = item.get("top_logprobs") or ()
            found["top_logprobs"] = [_token(other) for other in others]
        return found


def ndjson(chunks: list[dict[str, Any]]) -> bytes:
    """A line each."""
    return b"".join(orjson.dumps(chunk) + b"\n" for chunk in chunks)


def gather(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """All the chunks of a finished stream as the one object of `stream: false`."""
    whole = dict(chunks[-1])
    parts = [chunk.get("message", chunk) for chunk in chunks]
    text = "response" if "response" in whole else "content"
    joined: dict[str, Any] = {text: "".join(part[text] for part in parts)}
    if thinking := "".join(part.get("thinking", "") for part in parts):
        joined["thinking"] = thinking
    if calls := [call for part in parts for call in part.get("tool_calls", ())]:
        joined["tool_calls"] = calls
    if "message" in whole:
        whole["message"] = whole["message"] | joined
    else:
        whole |= joined
    logprobs = [item for chunk in chunks for item in chunk.get("logprobs", ())]
    return whole | ({"logprobs": logprobs} if logprobs else {})


def loaded(path: str, model: str, created_at: str, reason: str) -> dict[str, Any]:
    """The answer to a request that has nothing to ask."""
    answer: dict[str, Any] = {"model": model, "created_at": created_at}
    if path == "/api/generate":
        answer["response"] = ""
    else:
        answer["message"] = {"role": "assistant", "content": ""}
    return answer | {"done": True, "done_reason": reason}


def _token(item: dict[str, Any]) -> dict[str, Any]:
    token = item.get("token", "")
    raw = item.get("bytes")
    return {
        "token": token,
        "logprob": item.get("logprob", 0.0),
        "bytes": list(token.encode()) if raw is None else raw,
    }


def _letters(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    letters = []
    for _ in range(8):
        number, rest = divmod(number, len(_ID_LETTERS))
        letters.append(_ID_LETTERS[rest])
    return "".join(letters)


def _ns(milliseconds: Any) -> int:
    return int(float(milliseconds or 0) * 1_000_000)
