"""Which of the two APIs a path belongs to, and the content types they answer with."""

from __future__ import annotations

from enum import Enum

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Api(Enum):
    """The two APIs that every program already speaks."""

    OLLAMA = "ollama"
    OPENAI = "openai"


def api_of(path: str) -> Api:
    """OpenAI's for `/v1` and below, Ollama's for everything else."""
    if path == "/v1" or path.startswith("/v1/"):
        return Api.OPENAI
    return Api.OLLAMA
