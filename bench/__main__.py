"""`make bench`: meshllm against direct HTTP and a raw WebSocket relay, in one run.

All three ask the same model server. Rounds are interleaved, so that a machine whose
speed drifts is unfair to nobody; what counts are the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import uvloop

from bench.crowd import crowd
from bench.far import first_tokens
from bench.hub import routed_per_s
from bench.introductions import hub_at_work
from bench.load import Measured, firsts, load, percentile
from bench.rig import Rig, Way, udp_dropped
from tests.natlab.net import missing

Figures = dict[str, float]
Scene = Callable[[Way], Awaitable[Figures]]


async def first_token(way: Way) -> Figures:
    measured = await firsts(way.url, 200)
    return {"first token p50 ms": statistics.median(measured.first_ms)}


def paced(streams: int, tokens: int = 200) -> Scene:
    async def scene(way: Way) -> Figures:
        before = way.cpu_s()
        measured = await load(way.url, streams, {"tokens": tokens, "rate": 100})
        cpu = (way.cpu_s() - before) / measured.tokens
        return _late(measured) | {"cpu us/token": cpu * 1e6}

    return scene


def full_speed(streams: int, tokens: int) -> Scene:
    async def scene(way: Way) -> Figures:
        measured = await load(way.url, streams, {"tokens": tokens, "rate": 0})
        return {"tok/s": measured.tokens / measured.seconds}

    return scene


def _late(measured: Measured) -> Figures:
    late, steady = measured.late_ms, measured.steady_ms
    return {
        "p50 ms": percentile(late, 50),
        "p99 ms": percentile(late, 99),
        "p99 ms, all begun": percentile(steady, 99),
    }


SCENES: dict[str, Scene] = {
    "first token": first_token,
    "1 x 100 tok/s": paced(1),
    "20 x 100 tok/s": paced(20),
    "50 x 100 tok/s": paced(50),
    "full speed, 1 stream": full_speed(1, 50_000),
    "full speed, 10 streams": full_speed(10, 10_000),
}


FAR = "first token, 20 ms a leg"
PEERS = "200 peers x 50 tok/s"
HUB = "signaling, its decisions"
SOCKETS = "signaling, 500 sockets"


async def run(rig: Rig, rounds: int, only: str | None) -> None:
    scenes = {name: s for name, s in SCENES.items() if only is None or only in name}
    for name, scene in scenes.items():
        found: dict[str, dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for way in rig.ways:
            await scene(way)  # warm: connections, caches, the session
        for _ in range(rounds):
            for way in rig.ways:
                for figure, value in (await scene(way)).items():
                    found[figure][way.name].append(value)
        _print(name, found)


def run_far(rounds: int) -> None:
    if why := missing():
        print(f"| {FAR} | skipped: {why} | - | - | - | - | - | - |", flush=True)
    else:
        _print(FAR, first_tokens(rounds))


def _print(name: str, found: dict[str, dict[str, list[float]]]) -> None:
    for figure, by_way in found.items():
        print(f"| {name} | {figure} | {_row(by_way)} |", flush=True)


def _row(by_way: dict[str, list[float]]) -> str:
    """Median (min-max) of each way; then what the mesh adds to direct, in units of what
    the relay adds, and the mesh as a multiple of relay and of direct."""
    cells = [
        f"{statistics.median(values):.4g} ({min(values):.4g}-{max(values):.4g})"
        for values in by_way.values()
    ]
    direct, relay, mesh = (statistics.median(values) for values in by_way.values())
    ratios = [(mesh - direct, relay - direct), (mesh, relay), (mesh, direct)]
    return " | ".join(cells + [f"{a / b:.2f}" if b > 0 else "-" for a, b in ratios])


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="scenes whose name holds this")
    wish = parser.parse_args()
    cpu = f"{os.cpu_count()} cores, {platform.machine()}, Python"
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu} {platform.python_version()}, loopback\n"
    )
    columns = ["scene", "figure", "direct", "relay", "meshllm"]
    columns += ["added, mesh/relay", "mesh/relay", "mesh/direct"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    if wish.only is None or wish.only in FAR:
        run_far(wish.rounds)
    with Rig() as rig:
        uvloop.run(run(rig, wish.rounds, wish.only))
        print("\n| alone | figure | meshllm |\n|---|---|---|")
        dropped = udp_dropped(rig.mesh.pids)
        print(f"| all of these | UDP packets dropped | {dropped} |", flush=True)
        if wish.only is None or wish.only in PEERS:
            for figure, value in uvloop.run(crowd(rig, 200, 50)).items():
                print(f"| {PEERS} | {figure} | {value:.4g} |", flush=True)
    if wish.only is None or wish.only in HUB:
        print(f"| {HUB} | messages/s of one core | {routed_per_s():.4g} |", flush=True)
    if wish.only is None or wish.only in SOCKETS:
        for figure, value in uvloop.run(hub_at_work()).items():
            print(f"| {SOCKETS} | {figure} | {value:.4g} |", flush=True)


if __name__ == "__main__":
    main()
