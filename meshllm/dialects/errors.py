"""Errors and keep-alives in the shape of each API, before and after the first byte."""

from __future__ import annotations

from typing import Any

import orjson

from meshllm.dialects.apis import Api
from meshllm.errors import MeshError

# OpenAI's `type` by status; everything else is an `api_error`.
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


class BadRequest(MeshError):
    """The program asked for something that cannot be; `status` is what to answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def error_body(api: Api, status: int, message: str, code: str | None = None) -> bytes:
    """The whole JSON body of an error that precedes the first byte of an answer.

    `code` is OpenAI's machine-readable code; Ollama's shape has no place for it.
    """
    if api is Api.OLLAMA:
        return orjson.dumps({"error": message})
    return orjson.dumps({"error": _openai_error(status, message, code)})


def stream_error(api: Api, message: str, *, at_line_start: bool = True) -> bytes:
    """What ends a stream that broke after its first byte, when the status is long sent.

    Ollama: a last NDJSON line; OpenAI: an event, which its client raises as APIError.
    `at_line_start` is False when the last byte sent was no newline: the broken line is
    then ended first. (Never a blank line otherwise: ollama-python fails on those.)
    """
    if api is Api.OLLAMA:
        line = orjson.dumps({"error": message}) + b"\n"
        return line if at_line_start else b"\n" + line
    event = b"data: " + orjson.dumps({"error": _openai_error(500, message, None)})
    return (b"" if at_line_start else b"\n\n") + event + b"\n\n"


def keep_alive(path: str, model: str, created_at: str) -> bytes:
    """A chunk without content, for a stream that has nothing to say yet.

    A comment in SSE. In NDJSON an empty chunk of the path's own kind, because clients
    hand every line to their JSON parser.
    """
    if path.startswith("/v1/"):
        return b": keep-alive\n\n"
    chunk: dict[str, Any] = {"model": model, "created_at": created_at}
    if path == "/api/generate":
        chunk["response"] = ""
    else:
        chunk["message"] = {"role": "assistant", "content": ""}
    chunk["done"] = False
    return orjson.dumps(chunk) + b"\n"


def _openai_error(status: int, message: str, code: str | None) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "api_error")
    return {"message": message, "type": kind, "param": None, "code": code}
