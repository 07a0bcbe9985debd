"""Reads a request body strictly, so that provider and backend see the same request.

A model server in Go matches keys without regard to case and lets the last one win; we
would check one `model` and it would run another. So keys that repeat, or differ only by
case, are refused where they carry meaning for us: at the top, in `options` and in each
message. Inside `tools`, `format`, arguments and schemas they are the program's own.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from meshllm.dialects.apis import api_of
from meshllm.dialects.errors import BadRequest
from meshllm.dialects.images import refuse_remote_images


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Fields that we, or a provider's limits, read. Spelled in another case they would be
# honoured by Ollama and overlooked by us: they are renamed.
TOP_FIELDS = _names(
    "model name messages prompt suffix system template context raw images input stream "
    "stream_options format keep_alive tools options think truncate shift logprobs "
    "top_logprobs dimensions max_tokens max_completion_tokens max_output_tokens n "
    "n_predict best_of verbose response_format reasoning reasoning_effort "
    "source destination from"
)
MESSAGE_FIELDS = _names(
    "role content thinking images tool_calls tool_name tool_call_id name"
)
OPTION_FIELDS = _names(
    "num_keep seed num_predict top_k top_p min_p typical_p repeat_last_n temperature "
    "repeat_penalty presence_penalty frequency_penalty stop num_ctx num_batch num_gpu "
    "main_gpu use_mmap num_thread draft_num_predict"
)

# These handlers look the empty name up and find nothing; the others ask for a name.
EMPTY_NAME_IS_UNKNOWN = frozenset({"/api/generate", "/api/embed"})
NEEDS_MODEL = frozenset(
    {
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/embeddings",
        "/api/show",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
    }
)


_MODEL_KEY = re.compile(rb'"model"\s*:', re.IGNORECASE)


class _Ambiguous(dict[str, Any]):
    """A JSON object with two keys that a careless reader takes for one."""

    clash: str


def parse_request(body: bytes, path: str) -> dict[str, Any]:
    """The request as one unambiguous JSON object that can be encoded again.

    Unknown fields are kept. Raises BadRequest whose text and status are the answer.
    Takes some 0.1 s for 20 MB: use a thread for bodies beyond a megabyte.
    """
    if not body.strip():
        raise BadRequest("missing request body")
    request = _parse_json(body)
    if not isinstance(request, dict):
        raise BadRequest("the request body must be a JSON object")
    request = _unambiguous(request, TOP_FIELDS, "the request")
    if isinstance(request.get("options"), dict):
        request["options"] = _unambiguous(
            request["options"], OPTION_FIELDS, '"options"'
        )
    elif request.get("options") is not None:
        raise BadRequest('"options" must be an object')
    if request.get("messages") is not None:
        request["messages"] = _messages(request["messages"])
    _settle_model(request, path)
    if path == "/v1/chat/completions" and not request.get("messages"):
        # llama.cpp would take this and talk to itself to the end of its context.
        raise BadRequest("[] is too short - 'messages'")
    if not isinstance(request.get("stream"), bool | None):
        raise BadRequest('"stream" must be true or false')
    refuse_remote_images(request, api_of(path))
    return request


def model_of(body: bytes, path: str) -> str:
    """The model that a request names, for whoever only passes it on.

    What is no proper request, or seems to name two, is read strictly and raises
    BadRequest as `parse_request` does; all else is left to the provider.
    """
    if len(_MODEL_KEY.findall(body)) == 1:
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError:
            request = None
        if isinstance(request, dict):
            model = request.get("model")
            if isinstance(model, str) and model:
                return model
    return str(parse_request(body, path)["model"])


def _parse_json(body: bytes) -> Any:
    try:
        value = _DECODER.decode(body.decode())
        # Proves that what we send on says the same: no lone surrogate, no integer
        # beyond 64 bits, no depth at which the next parser gives up.
        orjson.dumps(value)
    except UnicodeDecodeError as exc:
        raise BadRequest(f"the request body is not UTF-8 at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise BadRequest(
            f"the request body is not JSON: {exc.msg} at line {exc.lineno} "
            f"column {exc.colno}"
        ) from exc
    except RecursionError as exc:
        raise BadRequest("the request body is nested too deeply") from exc
    except orjson.JSONEncodeError as exc:
        raise BadRequest(_unencodable(str(exc))) from exc
    except ValueError as exc:  # an integer of thousands of digits
        raise BadRequest("the request body holds a number out of range") from exc
    return value


def _unencodable(reason: str) -> str:
    lowered = reason.lower()
    if "recursion" in lowered:
        return "the request body is nested too deeply"
    if "surrogate" in lowered or "utf-8" in lowered:
        return "the request body holds a lone surrogate, which is no text"
    return "the request body holds a number out of range"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(set(map(str.casefold, found))) == len(pairs):
        return found
    ambiguous = _Ambiguous(found)
    seen: dict[str, str] = {}
    for key, _ in pairs:
        first = seen.get(key.casefold())
        if first is not None:
            ambiguous.clash = (
                f'key "{key}" is repeated'
                if first == key
                else f'keys "{first}" and "{key}" differ only by case'
            )
            break
        seen[key.casefold()] = key
    return ambiguous


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"the request body is not JSON: {name} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadRequest("the request body holds a number out of range")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
)


def _unambiguous(
    found: dict[str, Any], fields: frozenset[str], place: str
) -> dict[str, Any]:
    if isinstance(found, _Ambiguous):
        raise BadRequest(f"{found.clash} in {place}")
    if found.keys() <= fields:
        return found
    return {_spelled(key, fields): value for key, value in found.items()}


def _spelled(key: str, fields: frozenset[str]) -> str:
    folded = key.casefold()
    return folded if folded in fields else key


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list):
        raise BadRequest('"messages" must be a list')
    checked = []
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            raise BadRequest(f"message {position} must be an object")
        checked.append(_unambiguous(message, MESSAGE_FIELDS, f"message {position}"))
    return checked


def _settle_model(request: dict[str, Any], path: str) -> None:
    """Old programs ask `/api/show` for a `name`; from here on it is a `model`."""
    if path == "/api/show" and not request.get("model") and "name" in request:
        request["model"] = request.pop("name")
    model = request.get("model")
    if model is not None and not isinstance(model, str):
        raise BadRequest('"model" must be a string')
    if model or path not in NEEDS_MODEL:
        return
    if path in EMPTY_NAME_IS_UNKNOWN:
        raise BadRequest("model '' not found", 404)
    raise BadRequest("model is required")
