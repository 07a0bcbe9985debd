"""Pure: which providers a question may go to, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from meshllm.routing.choose import find_model
from meshllm.routing.roster import Provider, pinned
from meshllm.routing.seam import NoRoute

RETRY_AFTER_S: Final = 5
NAMED_MAX: Final = 5  # a sentence, not a list
NOBODY: Final = (
    "No provider is in the mesh now. On the machine with the models: `meshllm share`."
)


def candidates(
    providers: Sequence[Provider],
    model: str | None,
    pin: str | None,
    knows: Callable[[str], bool],
) -> list[Provider]:
    """Those of `providers` that have the model, and that the pin means if there is one.

    `knows` whether a model was offered before. NoRoute (404, 503) when nobody is left.
    """
    chosen = list(providers) if pin is None else pinned(providers, pin)
    if pin is not None and not chosen:
        raise NoRoute(
            404,
            f"no provider '{pin}' is in the mesh now; `meshllm peers` lists those "
            "that are",
            "provider_not_found",
        )
    if not chosen:
        raise NoRoute(503, NOBODY, "no_provider", RETRY_AFTER_S)
    if model is None:
        return chosen
    found = [provider for provider in chosen if find_model(provider, model)]
    if not found:
        raise _nobody_has(model, pin, providers, chosen, knows)
    return found


def _nobody_has(
    model: str,
    pin: str | None,
    providers: Sequence[Provider],
    chosen: Sequence[Provider],
    knows: Callable[[str], bool],
) -> NoRoute:
    if pin is not None and not any(provider.models for provider in chosen):
        return NoRoute(
            503,
            f"provider '{pin}' offers no model now; its model server may be off",
            "no_provider",
            RETRY_AFTER_S,
        )
    others = sorted(p.name for p in providers if find_model(p, model))
    if pin is not None and others:
        return NoRoute(
            404,
            f"provider '{pin}' does not have model '{model}'; {_named(others)}",
            "model_not_found",
        )
    if knows(model):
        return NoRoute(
            503,
            f"model '{model}' is away: no provider that has it is in the mesh now",
            "no_provider",
            RETRY_AFTER_S,
        )
    return NoRoute(
        404,
        f"model '{model}' not found, try pulling it first on a provider; "
        "`meshllm models` lists those that are there",
        "model_not_found",
    )


def _named(others: Sequence[str]) -> str:
    shown, rest = others[:NAMED_MAX], len(others) - NAMED_MAX
    if len(others) == 1:
        return f"{shown[0]} has it"
    if rest > 0:
        return f"{', '.join(shown)} and {rest} more have it"
    return f"{', '.join(shown[:-1])} and {shown[-1]} have it"
