"""`make natlab`: every kind of site asks every kind; what came of it, as a table."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.fakes.commands import MESHLLM
from tests.natlab import ablated, events
from tests.natlab.cells import PAGE, Cell, Pair, all_pairs, world
from tests.natlab.nat import Kind, can_be_direct
from tests.natlab.net import PREFIX, missing
from tests.natlab.probe import EXPECTED, classify, probe_server
from tests.natlab.sites import Site, internet
from tests.natlab.vps import Servers


async def prove(kinds: Iterable[Kind]) -> None:
    """RuntimeError when a site is not what it is called: then no cell counts."""
    sites = [Site(kind, number) for number, kind in enumerate(kinds, 1)]
    with internet(sites):
        async with probe_server():
            found = await asyncio.gather(*(classify(site.host()) for site in sites))
    for site, one in zip(sites, found, strict=True):
        if one != EXPECTED[site.kind]:
            raise RuntimeError(f"{site.kind} probes as {one}")
    _say(f"{len(sites)} kinds of sites probe as they are called.\n")


async def run(wish: argparse.Namespace) -> None:
    pairs = [
        pair
        for pair in all_pairs()
        if (wish.only is None or wish.only in pair)
        and set(pair) <= set(wish.among)
        and (can_be_direct(*pair) or not wish.only_direct)
        and (pair[0] is pair[1] is not Kind.PUBLIC or not wish.neighbours)
    ]
    if not pairs:
        raise RuntimeError("no cell is as you wish")
    await prove(dict.fromkeys(kind for pair in pairs for kind in pair))
    cells: list[Cell] = []
    _say("| asker | provider | theory | path | via | first byte ms | open ms |")
    _say("|---|---|---|---|---|---|---|")
    for _ in range(wish.times):
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
            cells += await once(Path(folder), pairs, wish)
    _say(f"\n{summary(cells)}")


async def once(
    root: Path, pairs: Sequence[Pair], wish: argparse.Namespace
) -> list[Cell]:
    """Each cell, among nodes that have just been started and know no path."""
    cells: list[Cell] = []
    late: list[str] = []

    def on_cell(cell: Cell) -> None:
        cells.append(cell)
        _say(_row(cell))

    ours = ablated.program(wish.without) if wish.without else MESHLLM
    leg_ms = wish.rtt / 4  # two legs there, two back
    async with world(
        root,
        pairs,
        leg_ms=leg_ms,
        lost=wish.loss,
        neighbours=wish.neighbours,
        servers=Servers(dead=wish.dead),
        asking=PAGE if wish.page else ours,
        providing=ours,
    ) as made:
        await made.cells(pairs, on_cell)
        for cell in cells:
            if wish.page or cell.error is not None:
                continue
            if not cell.is_as_theory_says:
                via = await made.candidates(cell.asker, cell.provider)
                late.append(f"{cell.asker} asked {cell.provider}: in the end {via}.")
    for line in late:
        _say(line)
    return cells


async def run_events() -> None:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        found = await events.run_all(Path(folder))
    _say("| event | pair | before | after | went on after s | numbers |")
    _say("|---|---|---|---|---|---|")
    for ran in found:
        event = ran.event
        row = (
            *(event.name, f"{event.asker} asks {event.provider}"),
            *(ran.before, ran.after, f"{ran.back_s:.1f}", ran.error or "each once"),
        )
        _say(f"| {' | '.join(row)} |")


def _row(cell: Cell) -> str:
    theory = "direct" if cell.can_be_direct else "relay"
    if cell.error is not None:
        found = f"**none** | {cell.error} | - | -"
    else:
        path = cell.path if cell.is_as_theory_says else f"**{cell.path}**"
        found = f"{path} | {cell.candidates} | {cell.first_ms:.0f}"
        found += " | -" if cell.connect_ms is None else f" | {cell.connect_ms:.0f}"
    return f"| {cell.asker} | {cell.provider} | {theory} | {found} |"


def summary(cells: Sequence[Cell]) -> str:
    can = [cell for cell in cells if cell.can_be_direct]
    lines = [
        f"{sum(cell.error is None for cell in cells)} of {len(cells)} connect,",
        f"{sum(cell.is_direct for cell in can)} of {len(can)} that can be are direct.",
    ]
    for title, sides in (("UDP on both sides", 2), ("on one", 1), ("on neither", 0)):
        group = [
            cell
            for cell in cells
            if cell.error is None
            and cell.asker.has_udp + cell.provider.has_udp == sides
        ]
        if group:
            first = _spread([cell.first_ms for cell in group])
            lines.append(f"{title}: first byte {first}{_opened(group)}.")
    return "\n".join(lines)


def _opened(cells: Sequence[Cell]) -> str:
    """Nothing of a page, which tells no time of its path."""
    times = [cell.connect_ms for cell in cells if cell.connect_ms is not None]
    return f"; open {_spread(times)}" if times else ""


def _spread(times_ms: Sequence[float]) -> str:
    return f"median {statistics.median(times_ms):.0f} ms, at most {max(times_ms):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make natlab ARGS=", description=__doc__)
    parser.add_argument("--only", type=Kind, help="cells with a site of this kind")
    parser.add_argument("--among", type=Kind, nargs="+", default=list(Kind))
    parser.add_argument("--rtt", type=float, default=40.0, help="ms between sites")
    parser.add_argument(
        "--loss", type=float, default=0.0, help="per cent between sites"
    )
    parser.add_argument("--page", action="store_true", help="the chat page asks")
    parser.add_argument(
        "--without",
        choices=[*ablated.STEPS, ablated.ALL],
        help="a step of ours: what is it worth?",
    )
    parser.add_argument("--neighbours", action="store_true", help="on one LAN")
    parser.add_argument("--dead", choices=("stun", "turn"), help="one more, silent")
    parser.add_argument("--events", action="store_true", help="in mid-answer, instead")
    parser.add_argument("--only-direct", action="store_true", help="that can be")
    parser.add_argument("--times", type=int, default=1, help="each time from the start")
    wish = parser.parse_args()
    more = {"chromium": "chromium"} if wish.page else {}
    if why := missing(nft="nftables", turnserver="coturn", **more):
        sys.exit(f"The laboratory {why}.")
    asyncio.run(run_events() if wish.events else run(wish))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
