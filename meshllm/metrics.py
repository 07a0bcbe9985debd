"""/metrics: what a server of ours counts, in Prometheus' text format.

Labels have few values, all of them ours: never a peer, a person, a prompt, or a model's
name, which strangers choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from meshllm import __version__

# From a token of a small model nearby to an answer that a large one thinks about.
SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Fact(NamedTuple):
    """A number as it is now. A name that ends in `_total` is of one that only grows.

    Facts of one name have the same labels, and come one after the other.
    """

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = {}


Facts = Callable[[], Iterable[Fact]]


class Metrics:
    """Of one server: counters and histograms that are kept, and `facts`, which are
    asked for at each scrape."""

    def __init__(self, facts: Facts) -> None:
        # Else every counter has a second series that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Asked(facts))

    def counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, registry=self._registry)

    def seconds(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(name, help, labels, buckets=SECONDS, registry=self._registry)

    def page(self) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry),
            headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4},
        )


class _Asked(Collector):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing in advance: facts can be asked for when all is up, not before."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        version = Fact("meshllm_info", "Which meshllm.", 1, {"version": __version__})
        family: GaugeMetricFamily | CounterMetricFamily | None = None
        for name, help, value, labels in (version, *self._facts()):
            if family is None or family.name != name.removesuffix("_total"):
                if family is not None:
                    yield family
                kind = (
                    CounterMetricFamily
                    if name.endswith("_total")
                    else GaugeMetricFamily
                )
                family = kind(name, help, labels=tuple(labels))
            family.add_metric(tuple(labels.values()), value)
        if family is not None:
            yield family
