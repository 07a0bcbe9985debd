"""Ollama's `options`, `format` and `think` as fields of an OpenAI-style request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from meshllm.dialects.errors import BadRequest

# What a server that does not tell its context is asked for at most.
UNKNOWN_CAP = 4096
# Below this a cap would cut ordinary answers of models with a small context.
LEAST_CAP = 256

THINK_LEVELS = frozenset({"low", "medium", "high", "max"})
FLOATS = frozenset(
    {
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    }
)
INTEGERS = frozenset({"num_keep", "seed", "num_predict", "top_k", "repeat_last_n"})
# Ollama's defaults where llama.cpp has others. Seed -1 means random in both.
OLLAMA_DEFAULTS: dict[str, Any] = {
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "temperature": 0.8,
    "repeat_penalty": 1.0,
    "num_keep": 4,
}
# The ones that llama.cpp calls otherwise.
LLAMA_CPP_NAMES = {"num_predict": "n_predict", "num_keep": "n_keep"}
# All that OpenAI's own API has; strict servers refuse anything more.
OPENAI_NAMES = {
    "num_predict": "max_tokens",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}


class Flavor(Enum):
    """What kind of OpenAI-compatible server it is: what it takes beyond the common."""

    LLAMA_CPP = "llama.cpp"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class Target:
    """The server and model that a request is translated for.

    `capabilities` is None when the server does not tell: then nothing is refused here.
    `requested` is the model's name as the program spelled it.
    """

    flavor: Flavor
    model: str
    requested: str
    context_length: int = 0
    capabilities: tuple[str, ...] | None = None

    def require(self, capability: str, doing: str) -> None:
        """Raises Ollama's 400 when the model is known not to have a capability."""
        if self.capabilities is not None and capability not in self.capabilities:
            raise BadRequest(f'"{self.requested}" does not support {doing}')


def sampling(options: dict[str, Any], target: Target) -> dict[str, Any]:
    """The options that bear on sampling; always with a cap on the answer's length.

    Those that a model is loaded with (`num_ctx` and the like) are the server's own
    affair and are left out, like every key unknown to Ollama.
    """
    given = {
        name: _typed(name, value)
        for name, value in options.items()
        if value is not None and (name in FLOATS or name in INTEGERS or name == "stop")
    }
    if target.flavor is Flavor.LLAMA_CPP:
        given = OLLAMA_DEFAULTS | given
        names = {name: LLAMA_CPP_NAMES.get(name, name) for name in given}
    else:
        names = OPENAI_NAMES
    fields = {names[name]: value for name, value in given.items() if name in names}
    if fields.get("seed", 0) < 0:
        del fields["seed"]
    limit = "n_predict" if target.flavor is Flavor.LLAMA_CPP else "max_tokens"
    fields[limit] = _cap(given.get("num_predict"), target)
    return fields


def response_format(value: Any) -> dict[str, Any]:
    """Ollama's `format` as `response_format`; empty when the text is free."""
    if value is None or value == "":
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    if isinstance(value, dict):
        schema = {"name": "response", "schema": value, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    raise BadRequest(
        f'invalid format: {value!r}; expected "json" or a valid JSON Schema object', 500
    )


def thinking(value: Any, target: Target) -> dict[str, Any]:
    """Ollama's `think` for the server; empty when it is to decide by itself."""
    if value is None:
        return {}
    if not isinstance(value, bool) and value not in THINK_LEVELS:
        raise BadRequest(
            f"invalid think value: {value!r} (must be true, false, or one of "
            '"high", "medium", "low", "max")'
        )
    if value is not False:
        target.require("thinking", "thinking")
    if target.flavor is Flavor.LLAMA_CPP:
        kwargs: dict[str, Any] = {"enable_thinking": value is not False}
        if isinstance(value, str):
            kwargs["reasoning_effort"] = value
        return {"chat_template_kwargs": kwargs}
    if isinstance(value, str):
        return {"reasoning_effort": "high" if value == "max" else value}
    return {}  # on and off have no name that every server knows


def top_logprobs(request: dict[str, Any]) -> int | None:
    """How many alternatives were asked for; None without `logprobs`."""
    count = request.get("top_logprobs") or 0
    if not isinstance(count, int) or not 0 <= count <= 20:
        raise BadRequest("top_logprobs must be between 0 and 20")
    return count if request.get("logprobs") else None


def _cap(asked: int | None, target: Target) -> int:
    """Ollama bounds open-ended answers too; llama.cpp would run on to its context."""
    if asked is not None and asked >= 0:
        return asked if target.flavor is Flavor.LLAMA_CPP else max(asked, 1)
    if not target.context_length:
        return UNKNOWN_CAP
    if target.flavor is Flavor.LLAMA_CPP:
        return max(target.context_length // 2, LEAST_CAP)
    # Other servers refuse when the prompt and the cap together exceed the context.
    return max(min(target.context_length // 4, UNKNOWN_CAP), LEAST_CAP)


def _typed(name: str, value: Any) -> Any:
    if name == "stop":
        return _stops(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in INTEGERS:
        if not number:
            raise BadRequest(f'option "{name}" must be of type integer', 500)
        return int(value)
    if not number:
        raise BadRequest(f'option "{name}" must be of type float32', 500)
    return float(value)


def _stops(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise BadRequest('option "stop" must be of type array', 500)
    if not all(isinstance(item, str) for item in value):
        raise BadRequest('option "stop" must be of an array of strings', 500)
    return value
