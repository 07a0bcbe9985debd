"""Ollama's messages as OpenAI's: images as parts, tool calls with ids and strings."""

from __future__ import annotations

from typing import Any

import orjson

from meshllm.dialects.errors import BadRequest
from meshllm.dialects.images import data_uri
from meshllm.dialects.options import Flavor, Target

ROLES = frozenset({"system", "user", "assistant", "tool"})


def openai_messages(
    messages: list[dict[str, Any]], target: Target
) -> list[dict[str, Any]]:
    """Raises BadRequest for what no model could be told."""
    calls = _CallIds()
    return [_message(message, calls, target) for message in messages]


def with_images(content: str, images: list[str]) -> str | list[dict[str, Any]]:
    """The content alone, or as parts followed by its images."""
    if not images:
        return content
    text: list[dict[str, Any]] = [{"type": "text", "text": content}] if content else []
    urls = [{"url": data_uri(image)} for image in images]
    return text + [{"type": "image_url", "image_url": url} for url in urls]


class _CallIds:
    """Ids for tool calls: Ollama's programs may leave them out, OpenAI's may not.

    Made from the position, so that the same conversation has the same ids every turn.
    """

    def __init__(self) -> None:
        self._made = 0
        self._open: list[tuple[str, str]] = []  # (id, name) without a result yet

    def call(self, given: Any, name: str) -> str:
        if isinstance(given, str) and given:
            call_id = given
        else:
            call_id = f"call_{self._made:08d}"
            self._made += 1
        self._open.append((call_id, name))
        return call_id

    def result(self, given: Any, name: Any) -> str:
        """By id, else by the tool's name, else by order."""
        if isinstance(given, str) and given:
            self._open = [call for call in self._open if call[0] != given]
            return given
        for call in self._open:
            if call[1] == name:
                self._open.remove(call)
                return call[0]
        if self._open:
            return self._open.pop(0)[0]
        return self.call(None, "")


def _message(
    message: dict[str, Any], calls: _CallIds, target: Target
) -> dict[str, Any]:
    role = str(message.get("role", "")).lower()
    if role not in ROLES:
        raise BadRequest(f'invalid role: "{role}", must be one of {sorted(ROLES)}')
    content = message.get("content")
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise BadRequest('"content" must be a string')
    images = message.get("images") or []
    if images:
        target.require("vision", "image input")
    converted: dict[str, Any] = {
        "role": role,
        "content": with_images(content, images),
    }
    if role == "tool":
        converted["tool_call_id"] = calls.result(
            message.get("tool_call_id"), message.get("tool_name")
        )
    if message.get("thinking") and target.flavor is Flavor.LLAMA_CPP:
        converted["reasoning_content"] = message["thinking"]
    if message.get("tool_calls"):
        converted["tool_calls"] = _tool_calls(message["tool_calls"], calls)
    return converted


def _tool_calls(given: Any, calls: _CallIds) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise BadRequest('"tool_calls" must be a list')
    converted = []
    for call in given:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequest("a tool call needs a function with a name")
        arguments = function.get("arguments") or {}
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        name = function["name"]
        converted.append(
            {
                "id": calls.call(call.get("id"), name),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    return converted
