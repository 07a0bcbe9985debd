"""Pure: `NAME@PROVIDER`, a model's name and which provider shall run it."""

from __future__ import annotations

from collections.abc import Iterable

from meshllm.dialects.lists import same_name
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
        if any(same_name(name[:at], other) for other in known):
            return name[:at], name[at + 1 :] or None
    model, _, pin = name.rpartition("@")
    return (model, pin) if model and pin else (name, None)


def find(name: str, models: list[Listed]) -> Listed | None:
    """The model of that name; with `@PROVIDER`, only if that provider has it."""
    asked, pin = split_pin(name, models)
    for model in models:
        if same_name(asked, model.name) and (
            pin is None or any(_is_pinned(holder, pin) for holder in model.providers)
        ):
            return model
    return None


def _is_pinned(holder: Holder, pin: str) -> bool:
    pin = pin.casefold()
    return holder.name.casefold() == pin or holder.id.startswith(pin)
