"""Pure: what the roster says of the models, in the shapes of both APIs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from meshllm import __version__
from meshllm.gateway.pins import is_pinned, is_same_model, split_pin
from meshllm.routing.seam import Listed

# The release whose API we speak: programs compare it before they use newer fields.
OLLAMA_VERSION = "0.33.0"
UNKNOWN_TIME = datetime(1, 1, 1, tzinfo=UTC)  # Go's zero time, as Ollama would write it


def version() -> dict[str, str]:
    """`GET /api/version`."""
    return {"version": OLLAMA_VERSION, "meshllm": __version__}


def tags(models: Iterable[Listed]) -> dict[str, Any]:
    """`GET /api/tags`, newest first."""
    newest = sorted(models, key=lambda model: moment(model.modified_at), reverse=True)
    return {"models": [_tag(model) for model in newest]}


def openai_models(models: Iterable[Listed]) -> dict[str, Any]:
    """`GET /v1/models`."""
    return {
        "object": "list",
        "data": [openai_model(model, model.name) for model in models],
    }


def openai_model(model: Listed, name: str) -> dict[str, Any]:
    """`GET /v1/models/{name}`; `created` is 0 when nobody knows."""
    created = max(0, int(moment(model.modified_at).timestamp()))
    return {"id": name, "object": "model", "created": created, "owned_by": "library"}


def find(name: str, models: list[Listed]) -> Listed | None:
    """The model of that name; with `@PROVIDER`, if that provider has it."""
    asked, pin = split_pin(name, models)
    for model in models:
        if is_same_model(asked, model.name) and (
            pin is None or any(is_pinned(holder, pin) for holder in model.providers)
        ):
            return model
    return None


def running(models: Iterable[Any]) -> dict[str, Any]:
    """`GET /api/ps` of several providers as one, longest expiry first."""
    entries = [model for model in models if isinstance(model, dict)]
    entries.sort(key=lambda entry: moment(entry.get("expires_at")), reverse=True)
    return {"models": entries}


def moment(text: object) -> datetime:
    """An RFC 3339 time of a provider; UNKNOWN_TIME when it is none."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else UNKNOWN_TIME
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return UNKNOWN_TIME


def _tag(model: Listed) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        # Clients parse it as a time: an empty one would fail their whole list.
        "modified_at": model.modified_at or "0001-01-01T00:00:00Z",
        "size": model.size,
        "digest": model.digest,
        "details": dict(model.details),
        "capabilities": list(model.capabilities),
    }
