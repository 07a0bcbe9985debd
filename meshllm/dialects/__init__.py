"""Pure: the Ollama and OpenAI APIs, their chunks, errors and translation."""

from meshllm.dialects.apis import JSON, NDJSON, SSE, Api, api_of
from meshllm.dialects.errors import BadRequest, error_body, keep_alive, stream_error
from meshllm.dialects.model import Model
from meshllm.dialects.requests import model_of, parse_request

__all__ = [
    "JSON",
    "NDJSON",
    "SSE",
    "Api",
    "BadRequest",
    "Model",
    "api_of",
    "error_body",
    "keep_alive",
    "model_of",
    "parse_request",
    "stream_error",
]
