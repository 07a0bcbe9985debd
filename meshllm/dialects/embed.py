"""Ollama's two embedding calls over OpenAI's one."""

from __future__ import annotations

import math
import re
from typing import Any

from meshllm.dialects.errors import BadRequest
from meshllm.errors import BackendError

TOO_LONG = "the input length exceeds the context length"
# How llama.cpp words it, with the number of tokens that it would take.
_LIMIT = re.compile(r"current batch size: (\d+)|available context size \((\d+) tokens")


def texts_of(path: str, request: dict[str, Any]) -> list[str]:
    """What to embed; [] when there is nothing, which is no error in Ollama."""
    given = request.get("prompt" if path == "/api/embeddings" else "input")
    if given is None or given == "":
        return []
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise BadRequest("invalid input type")
    return given


def truncation(request: dict[str, Any], error: BackendError) -> int | None:
    """To how many tokens to cut each text after this error; None when it is another.

    BadRequest when the asker wants no cutting.
    """
    found = _LIMIT.search(str(error))
    if found is None:
        return None
    if request.get("truncate") is False:
        raise BadRequest(TOO_LONG)
    return int(found[1] or found[2])


def embeddings_answer(
    path: str, request: dict[str, Any], model: str, answer: Any, elapsed_ns: int
) -> dict[str, Any]:
    """The answer to `/api/embed` (normalised) or `/api/embeddings` (as they come)."""
    try:
        rows = sorted(answer["data"], key=lambda row: int(row.get("index", 0)))
        vectors = [[float(value) for value in row["embedding"]] for row in rows]
        tokens = int((answer.get("usage") or {}).get("prompt_tokens", 0))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise BackendError("The model server sent no embeddings.") from exc
    if path == "/api/embeddings":
        return {"embedding": vectors[0] if vectors else []}
    dimensions = request.get("dimensions")
    if isinstance(dimensions, int) and dimensions > 0:
        vectors = [vector[:dimensions] for vector in vectors]
    whole = {
        "model": model,
        "embeddings": [_normalised(vector) for vector in vectors],
        "total_duration": elapsed_ns,
        "load_duration": 1,
        "prompt_eval_count": tokens,
    }
    return {name: value for name, value in whole.items() if value or value == []}


def nothing_embedded(path: str, model: str) -> dict[str, Any]:
    """The answer when there was nothing to embed."""
    if path == "/api/embeddings":
        return {"embedding": []}
    return {"model": model, "embeddings": []}


def _normalised(vector: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(value * value for value in vector))
    return [value / length for value in vector] if length else vector
