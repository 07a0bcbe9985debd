"""Collects an OpenAI stream into the one object that `stream: false` asked for.

A server goes on with a request that does not stream although its asker is gone; so we
always stream, and put together here what the server would have said at once.
"""

from __future__ import annotations

from typing import Any

from meshllm.dialects.openai_events import merge_tool_calls, read_event
from meshllm.dialects.sse import DONE, EventStream
from meshllm.errors import BackendError

COLLECTED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
# The pieces of these are joined; of anything else in a delta the last one counts.
JOINED = ("content", "reasoning_content", "reasoning", "refusal")
RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete"})


def streamed(path: str, request: dict[str, Any]) -> dict[str, Any]:
    """The same request, as a stream that ends with its usage."""
    if path == "/v1/responses":
        return request | {"stream": True}
    options = dict(request.get("stream_options") or {}) | {"include_usage": True}
    return request | {"stream": True, "stream_options": options}


class Collector:
    """Feed it the stream; `result` is the object, once the stream has ended."""

    def __init__(self, path: str) -> None:
        self._is_response = path == "/v1/responses"
        self._events = EventStream()
        self._whole: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._response: dict[str, Any] | None = None
        self._is_done = False

    def feed(self, data: bytes) -> None:
        """BackendError when the server reports one."""
        for event in self._events.feed(data):
            self._read(event)

    def result(self) -> dict[str, Any]:
        """BackendError when the stream ended without having finished."""
        for event in self._events.end():
            self._read(event)
        if self._is_response and self._response is not None:
            return self._response
        choices = [self._choices[index] for index in sorted(self._choices)]
        finished = all(choice["finish_reason"] for choice in choices)
        if not choices or self._is_response or not (finished or self._is_done):
            raise BackendError("The model server broke off in mid-answer.")
        for choice in choices:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        return self._whole | {"choices": [_tidy(choice) for choice in choices]}

    def _read(self, data: bytes) -> None:
        if data == DONE:
            self._is_done = True
            return
        event = read_event(data)
        if self._is_response:
            self._read_response(event)
            return
        event.pop("prompt_progress", None)
        kind = str(event.get("object", "")).removesuffix(".chunk")
        for choice in event.pop("choices", None) or ():
            self._add(choice)
        self._whole |= event | {"object": kind}

    def _read_response(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind in RESPONSE_ENDS:
            self._response = event.get("response")
        elif kind == "response.failed":
            error = (event.get("response") or {}).get("error") or {}
            raise BackendError(str(error.get("message") or "The model failed."), 500)

    def _add(self, piece: dict[str, Any]) -> None:
        index = piece.get("index", 0)
        choice = self._choices.setdefault(
            index, {"index": index, "finish_reason": None, "logprobs": None}
        )
        choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
        _add_logprobs(choice, piece.get("logprobs"))
        if "text" in piece:
            choice["text"] = choice.get("text", "") + (piece["text"] or "")
            return
        message = choice.setdefault("message", {"role": "assistant", "content": None})
        for key, value in (piece.get("delta") or {}).items():
            if key == "tool_calls":
                merge_tool_calls(message.setdefault("tool_calls", []), value)
            elif key in JOINED and isinstance(value, str):
                message[key] = (message.get(key) or "") + value
            elif value is not None:
                message[key] = value


def _add_logprobs(choice: dict[str, Any], given: Any) -> None:
    if not isinstance(given, dict):
        return
    joined = choice["logprobs"] = choice["logprobs"] or {}
    for key, value in given.items():
        if isinstance(value, list) and isinstance(joined.get(key), list):
            joined[key] = joined[key] + value
        elif value is not None or key not in joined:
            joined[key] = value


def _tidy(choice: dict[str, Any]) -> dict[str, Any]:
    """Fields in their usual order; calls without the index that only streams have."""
    message = choice.get("message")
    if message is None:
        return choice
    calls = message.get("tool_calls")
    if calls:
        message["tool_calls"] = [
            {key: value for key, value in call.items() if key != "index"}
            for call in calls
        ]
    elif message["content"] is None:
        message["content"] = ""
    return choice
