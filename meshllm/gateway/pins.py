"""`NAME@PROVIDER`: a model's name, and which provider shall run it."""

from __future__ import annotations

from collections.abc import Iterable

from meshllm.routing.seam import Holder, Listed


def split_pin(name: str, models: Iterable[Listed]) -> tuple[str, str | None]:
    """The model's name and the pinned provider, if any.

    Both halves may hold an `@` (`chat@2.0`, `ann@example.org`), so the split is made
    where it leaves a model that the mesh knows, and at the last `@` when it knows none.
    """
    if "@" not in name:
        return name, None
    known = [model.name for model in models]
    places = [at for at, char in enumerate(name) if char == "@"]
    for at in [len(name), *places]:
        if any(is_same_model(name[:at], other) for other in known):
            return name[:at], name[at + 1 :] or None
    model, _, pin = name.rpartition("@")
    return (model, pin) if model and pin else (name, None)


def is_same_model(asked: str, listed: str) -> bool:
    """Ollama's rule: case does not matter, and no tag is the tag `latest`."""
    return _full(asked) == _full(listed)


def _full(name: str) -> str:
    name = name.casefold()
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def is_pinned(holder: Holder, pin: str) -> bool:
    """A pin is a provider's name, or the first characters of its id."""
    pin = pin.casefold()
    return holder.name.casefold() == pin or holder.id.startswith(pin)
