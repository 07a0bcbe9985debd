"""Which model a request means, whether its asker may have it, and what it may cost.

Pure. The name is resolved to an entry of the provider's own list first, and rights are
checked on that entry, so that no spelling of a name gets round them (design: "HTTP over
a data channel"; threat 19).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from meshllm.dialects import Model
from meshllm.dialects.lists import same_name
from meshllm.errors import Code, NotAllowed
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Role

# What others may ask of a machine that is not theirs. Generous for any chat, and far
# from what fills a graphics card or keeps it busy for an hour.
CONTEXT_MAX = 32_768
TOKENS_MAX = 16_384
MACHINE_OPTIONS = frozenset(
    {"num_gpu", "main_gpu", "num_thread", "num_batch", "use_mmap", "draft_num_predict"}
)
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")


def resolve(name: str, models: Iterable[Model]) -> Model | None:
    """The entry a name means: exact, else without regard to case and `:latest`."""
    same = [entry for entry in models if same_name(entry.name, name)]
    exact = [entry for entry in same if entry.name == name]
    return next(iter(exact or same), None)


def permit(model: Model, admission: Admission) -> None:
    """NotAllowed when the asker's membership names other models only."""
    allowed = admission.caps.models
    if allowed is None or any(same_name(name, model.name) for name in allowed):
        return
    raise NotAllowed(
        f"Your invitation to this mesh does not include the model {model.name}.",
        Code.FORBIDDEN,
    )


def visible(models: Iterable[Model], shared: Sequence[str]) -> list[Model]:
    """The models that `share --model` offers; all of them when it names none."""
    if not shared:
        return list(models)
    return [m for m in models if any(same_name(m.name, name) for name in shared)]


def clamp(body: dict[str, Any], model: Model, role: Role) -> dict[str, Any]:
    """The request with what costs the machine limited, for all but the owner."""
    if role is Role.OWNER:
        return body
    body = {key: value for key, value in body.items() if key != "keep_alive"}
    for key in TOKEN_LIMITS:
        if key in body:
            body[key] = _limited(body[key], TOKENS_MAX)
    if isinstance(options := body.get("options"), dict):
        body["options"] = _clamp_options(options, model)
    for key in ("n", "best_of"):
        if key in body:
            body[key] = 1
    return body


def _clamp_options(options: dict[str, Any], model: Model) -> dict[str, Any]:
    kept = {k: v for k, v in options.items() if k not in MACHINE_OPTIONS}
    if "num_ctx" in kept:
        most = min(CONTEXT_MAX, model.context_length or CONTEXT_MAX)
        kept["num_ctx"] = _limited(kept["num_ctx"], most)
    if "num_predict" in kept:
        kept["num_predict"] = _limited(kept["num_predict"], TOKENS_MAX)
    return kept


def _limited(value: Any, most: int) -> Any:
    """A wrong type is left for the model server to complain about."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    return most if value < 0 or value > most else value
