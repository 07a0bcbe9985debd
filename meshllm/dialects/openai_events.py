"""One event of an OpenAI stream, read: what it adds, and what went wrong."""

from __future__ import annotations

from typing import Any

import orjson

from meshllm.errors import BackendError

# Ollama and newer servers say `reasoning`; llama.cpp, vLLM say `reasoning_content`.
THINKING_KEYS = ("reasoning_content", "reasoning")


def read_event(data: bytes) -> dict[str, Any]:
    """The event's object. BackendError when it is none, or reports an error."""
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise BackendError("The model server sent an event that is not JSON.") from exc
    if not isinstance(event, dict):
        raise BackendError("The model server sent an event that is no object.")
    if event.get("error"):
        raise error_of(event)
    return event


def error_of(answer: Any, status: int = 500) -> BackendError:
    """A server's error, in any of the shapes that are about, with its status."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return BackendError(str(error) or f"status {status}", status)
    code = error.get("code")
    if isinstance(code, int) and 400 <= code <= 599:
        status = code
    message = error.get("message") or error.get("detail") or f"status {status}"
    return BackendError(str(message), status)


def first_choice(event: dict[str, Any]) -> dict[str, Any]:
    """The choice with index 0; {} for an event of usage alone."""
    for choice in event.get("choices") or ():
        if isinstance(choice, dict) and choice.get("index", 0) == 0:
            return choice
    return {}


def thinking_of(delta: dict[str, Any]) -> str:
    """The delta's thinking under whichever of its names."""
    for key in THINKING_KEYS:
        if isinstance(delta.get(key), str) and delta[key]:
            return str(delta[key])
    return ""


def merge_tool_calls(calls: list[dict[str, Any]], deltas: Any) -> None:
    """Adds the pieces of tool calls in a delta: joined by index, arguments as text."""
    for delta in deltas or ():
        if not isinstance(delta, dict):
            continue
        call = _call_of(calls, delta)
        if delta.get("id"):
            call["id"] = delta["id"]
        function = delta.get("function") or {}
        if function.get("name"):
            call["function"]["name"] = function["name"]
        arguments = function.get("arguments")
        if isinstance(arguments, dict):  # some servers send it whole, as an object
            arguments = orjson.dumps(arguments).decode()
        if isinstance(arguments, str):
            call["function"]["arguments"] += arguments


def _call_of(calls: list[dict[str, Any]], delta: dict[str, Any]) -> dict[str, Any]:
    """The call that a piece belongs to; without an index, a new id is a new call."""
    index = delta.get("index")
    if not isinstance(index, int):
        index = len(calls) if delta.get("id") or not calls else calls[-1]["index"]
    for call in calls:
        if call["index"] == index:
            return call
    call = {
        "index": index,
        "id": "",
        "type": "function",
        "function": {"name": "", "arguments": ""},
    }
    calls.append(call)
    return call
