"""20 ms a leg: what each way costs between a laptop and a home that are apart.

Three namespaces, a line between any two. Direct and meshllm go from the asker to the
model server; the relay's packets go by the broker, as they must.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations

import uvloop

from bench.load import firsts
from bench.rig import Place, Rig
from tests.natlab import net
from tests.natlab.link import End, Line, lines

LEG_MS = 20.0
QUESTIONS = 50
# Interfaces of a namespace are called for the one at the other end.
HOSTS = {"asker": "10.99.0.1", "between": "10.99.0.2", "model": "10.99.0.3"}
HUB_PORT = 8080

Figures = dict[str, dict[str, list[float]]]


def first_tokens(rounds: int) -> Figures:
    """Milliseconds by figure and way, a value a round."""
    found: Figures = defaultdict(lambda: defaultdict(list))
    with _far_apart() as rig, net.inside("asker"):
        for count in range(rounds + 1):
            p50 = {way.name: _p50_ms(way.url) for way in rig.ways}
            if count:  # the first only warms connections, caches, the session
                for name, value in p50.items():
                    found["first token p50 ms"][name].append(value)
                    found["over direct ms"][name].append(value - p50["direct"])
    return found


def _p50_ms(url: str) -> float:
    return statistics.median(uvloop.run(firsts(url, QUESTIONS)).first_ms)


@contextmanager
def _far_apart() -> Iterator[Rig]:
    ends = [("asker", "between"), ("between", "model"), ("asker", "model")]
    legs = [Line(End(a, b), End(b, a), LEG_MS) for a, b in ends]
    with net.namespaces(*HOSTS), lines(*legs):
        for here, there in permutations(HOSTS, 2):
            net.ip(
                here,
                f"addr add {HOSTS[here]}/32 dev {there}",
                f"route add {HOSTS[there]}/32 dev {there} src {HOSTS[here]}",
            )
        places = [Place(HOSTS[at], HUB_PORT, net.entered(at)) for at in HOSTS]
        with Rig(*places) as rig:
            yield rig
