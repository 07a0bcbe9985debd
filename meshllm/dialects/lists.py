"""What a node says about its models, in both APIs, made from the Model alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from meshllm.dialects.model import Model

NO_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}
LONG_AGO = "1970-01-01T00:00:00Z"


def tags(models: Iterable[Model]) -> dict[str, Any]:
    """`GET /api/tags`: newest first."""
    newest = sorted(models, key=lambda model: model.modified_at, reverse=True)
    return {"models": [_tag(model) for model in newest]}


def ps(models: Iterable[Model], expires_at: str) -> dict[str, Any]:
    """`GET /api/ps`, for a server whose models are all loaded for good."""
    return {
        "models": [
            {
                "name": model.name,
                "model": model.name,
                "size": model.size,
                "digest": _digest(model),
                "details": _details(model),
                "expires_at": expires_at,
                "size_vram": 0,
                "context_length": model.context_length,
            }
            for model in models
        ]
    }


def show(model: Model) -> dict[str, Any]:
    """`POST /api/show`. What only a model's file would tell stays empty."""
    details = _details(model)
    family = details["family"] or "unknown"
    info: dict[str, Any] = {"general.architecture": family}
    if model.context_length:
        info[f"{family}.context_length"] = model.context_length
    for key, name in (
        ("parameter_count", "general.parameter_count"),
        ("embedding_length", f"{family}.embedding_length"),
    ):
        if model.details.get(key):
            info[name] = model.details[key]
    return {
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details,
        "model_info": info,
        "capabilities": list(model.capabilities),
        "modified_at": model.modified_at or LONG_AGO,
    }


def version(text: str) -> dict[str, Any]:
    """`GET /api/version`."""
    return {"version": text}


def openai_models(models: Iterable[Model]) -> dict[str, Any]:
    """`GET /v1/models`."""
    return {"object": "list", "data": [openai_model(model) for model in models]}


def openai_model(model: Model) -> dict[str, Any]:
    """`GET /v1/models/{id}`."""
    return {
        "id": model.name,
        "object": "model",
        "created": _seconds(model.modified_at),
        "owned_by": "library",
    }


def same_name(one: str, other: str) -> bool:
    """Whether both mean the same model: case and an absent `:latest` do not count."""
    return full_name(one) == full_name(other)


def full_name(name: str) -> str:
    """Folded, and with the tag that Ollama adds."""
    folded = name.strip().casefold()
    return folded if ":" in folded.rpartition("/")[2] else f"{folded}:latest"


def _tag(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": model.modified_at or LONG_AGO,
        "size": model.size,
        "digest": _digest(model),
        "details": _details(model),
        "capabilities": list(model.capabilities),
    }


def _details(model: Model) -> dict[str, Any]:
    return NO_DETAILS | dict(model.details)


def _digest(model: Model) -> str:
    """Programs show its first twelve characters; unknown, it stands for the name."""
    return model.digest or hashlib.sha256(model.name.encode()).hexdigest()


def _seconds(rfc3339: str) -> int:
    # Nanoseconds are more than datetime reads; whole seconds are all that is asked.
    whole = re.sub(r"\.\d+", "", rfc3339)
    try:
        return int(datetime.fromisoformat(whole).timestamp())
    except ValueError:
        return 0
