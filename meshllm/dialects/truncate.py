"""Drops the oldest messages of a conversation that has outgrown the model's context.

Ollama does so unless `truncate` is false; other servers refuse the whole request.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from meshllm.errors import BackendError

# llama.cpp's words: "request (5031 tokens) exceeds the available context size (2048 …".
_EXCEEDS = re.compile(r"\((\d+) tokens\) exceeds the available context size \((\d+)")
# Of the context, for the prompt: the answer needs some too.
ROOM = 0.75


def overflow(error: BackendError) -> tuple[int, int] | None:
    """The tokens of the prompt and of the context, when that is what is wrong."""
    found = _EXCEEDS.search(str(error))
    return (int(found[1]), int(found[2])) if found else None


def shortened(
    messages: list[dict[str, Any]], tokens: int, context: int
) -> list[dict[str, Any]] | None:
    """The messages less the oldest ones; None when there is none to leave out.

    System messages and the last one stay. How many must go is judged by their length,
    so the server may have to be asked again. A tool's result never comes first: its
    call is gone.
    """
    sizes = [len(orjson.dumps(message)) for message in messages]
    wanted = sum(sizes) * (context * ROOM) / tokens
    gone: set[int] = set()
    size = sum(sizes)
    for position, message in enumerate(messages[:-1]):
        if message.get("role") == "system":
            continue
        if size <= wanted and message.get("role") != "tool":
            break
        gone.add(position)
        size -= sizes[position]
    if not gone:
        return None
    return [message for n, message in enumerate(messages) if n not in gone]
