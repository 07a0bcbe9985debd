"""Which provider answers: a pure choice over what is known now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshllm.dialects import Model
from meshllm.dialects.lists import same_name
from meshllm.routing.roster import Provider
from meshllm.trust.keys import PeerId


@dataclass(frozen=True, slots=True)
class Warmth:
    """What we know of a provider from our own session with it."""

    is_warm: bool = False
    open_streams: int = 0
    rtt_s: float = 0.0
    failed_lately: bool = False


COLD = Warmth()


def find_model(provider: Provider, name: str) -> Model | None:
    """The provider's entry for a name: exact, else without regard to case and tag."""
    same = [model for model in provider.models if same_name(model.name, name)]
    exact = [model for model in same if model.name == name]
    return next(iter(exact or same), None)


def order(
    providers: Iterable[Provider], warmth: Mapping[PeerId, Warmth]
) -> list[Provider]:
    """Best first: not failing, a slot free as far as we know, connected, near."""

    def rank(provider: Provider) -> tuple[bool, int, bool, int, float, str]:
        known = warmth.get(provider.id, COLD)
        parallel = max(1, provider.announcement.parallel)
        return (
            known.failed_lately,
            max(0, known.open_streams - parallel + 1),  # those who would wait
            not known.is_warm,
            known.open_streams,
            known.rtt_s,
            provider.id,
        )

    return sorted(providers, key=rank)
