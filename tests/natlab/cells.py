"""A cell: one node asks another for the first time, and what came of it.

Everything is real but the model server: `meshllm signal`, `share` and `gateway` are
processes, each behind its site's NAT. Instead of a gateway the chat page may ask.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import aiohttp
from aiohttp import web

from meshllm import control
from meshllm.processes import Child
from tests.fakes.commands import MESHLLM, Commands, Serving, commands
from tests.fakes.counting import MODEL, CountingServer, Plan
from tests.fakes.program import Outcome, ask
from tests.natlab import net
from tests.natlab.nat import Kind, can_be_direct
from tests.natlab.sites import LEG_MS, Seat, Site, internet
from tests.natlab.visit import Visit, visit
from tests.natlab.vps import ALL_ANSWER, Servers, invited, vps

SHORT = Plan(lines=3)
SHORT_TEXT = "0 1 2"  # as a page shows it
PORT = "11434"
AT_ONCE = 3  # more would wait for the machine, not for the network
CELL_S = 30.0  # a person would not wait so long
POLL_S = 0.02
PAGE: Literal["page"] = "page"
Asking = tuple[str, ...] | Literal["page"]
"""A program with the commands of `meshllm`, or the chat page."""
CONNECT = re.compile(r"connect;dur=([\d.]+)")
Pair = tuple[Kind, Kind]
"""Who asks, and who provides."""


def all_pairs() -> list[Pair]:
    """Such that neighbours have nobody in common: they run at the same time."""
    kinds = list(Kind)
    return [
        (asker, kinds[(index + shift) % len(kinds)])
        for shift in range(len(kinds))
        for index, asker in enumerate(kinds)
    ]


@dataclass(frozen=True, slots=True)
class Cell:
    """`first_ms` is the time to the first byte (of a page: until it is shown),
    `connect_ms` that to the open path, which a page does not tell.

    `path` is as the program, or who looks at the page, was told; `candidates` are those
    that the gateway or the page names afterwards, its own first.
    `error` says why there was no answer.
    """

    asker: Kind
    provider: Kind
    can_be_direct: bool
    path: str | None = None
    candidates: str | None = None
    first_ms: float = 0.0
    connect_ms: float | None = None
    error: str | None = None

    @property
    def is_direct(self) -> bool:
        return self.path not in (None, "relay")

    @property
    def is_as_theory_says(self) -> bool:
        """Connected, and direct where that is possible."""
        return self.path is not None and self.is_direct == self.can_be_direct


def model_of(seat: Seat) -> str:
    return f"{MODEL}-{seat.name}"


@dataclass
class World:
    """The askers and providers that run, by the kind of their site."""

    meshllm: Commands
    askers: dict[Kind, Seat]
    providers: dict[Kind, Seat]
    relay: Child
    gateways: dict[Kind, Serving] = field(default_factory=dict)
    visits: dict[Kind, Visit] = field(default_factory=dict)
    shares: dict[Kind, Serving] = field(default_factory=dict)

    async def cells(
        self, pairs: Iterable[Pair], on_cell: Callable[[Cell], None]
    ) -> None:
        """Each once, a few at a time, in this order; pages one at a time, because to
        open one takes all of a small machine."""
        turn = asyncio.Semaphore(1 if self.visits else AT_ONCE)

        async def in_turn(asker: Kind, provider: Kind) -> None:
            async with turn:
                on_cell(await self.cell(asker, provider))

        async with asyncio.TaskGroup() as group:
            for pair in pairs:
                group.create_task(in_turn(*pair))

    async def cell(self, asker: Kind, provider: Kind) -> Cell:
        """The first question of this asker to this provider."""
        here, there = self.askers[asker].site, self.providers[provider].site
        cell = Cell(asker, provider, here is there or can_be_direct(asker, provider))
        by = self._by_page if asker in self.visits else self._by_gateway
        return await by(cell)

    async def _by_page(self, cell: Cell) -> Cell:
        model = model_of(self.providers[cell.provider])
        try:
            async with asyncio.timeout(CELL_S):
                shown = await self.visits[cell.asker].ask(model, SHORT.prompt)
        except TimeoutError:
            return replace(cell, error="no answer in time")
        if shown.problem is not None or shown.text != SHORT_TEXT:
            return replace(cell, error=shown.problem or "the answer is not whole")
        return replace(
            cell,
            path=shown.path,
            candidates=shown.candidates,
            first_ms=shown.first_ms,
        )

    async def _by_gateway(self, cell: Cell) -> Cell:
        asker, provider = cell.asker, cell.provider
        begun = time.monotonic()
        first: list[float] = []
        try:
            async with asyncio.timeout(CELL_S):
                outcome = await self.ask(
                    *(asker, provider, SHORT),
                    on_number=lambda number: first.append(time.monotonic()),
                )
        except TimeoutError:
            return replace(cell, error="no answer in time")
        if not outcome.is_all_of(SHORT):
            why = outcome.error or "the answer is not whole"
            return replace(cell, error=why)
        connect = CONNECT.search(outcome.headers.get("Server-Timing", ""))
        return replace(
            cell,
            path=outcome.headers["Meshllm-Path"],
            candidates=await self.candidates(asker, provider),
            first_ms=(first[0] - begun) * 1000,
            connect_ms=float(connect[1]) if connect else None,
        )

    async def ask(
        self,
        asker: Kind,
        provider: Kind,
        plan: Plan,
        on_number: Callable[[int], None],
    ) -> Outcome:
        return await ask(
            self.gateways[asker].url,
            plan,
            model=f"{MODEL}@{self.providers[provider].name}",
            on_number=on_number,
            connector=self._beside(asker),
        )

    async def candidates(self, asker: Kind, provider: Kind) -> str:
        """Of the path that the asker's gateway uses now, its own first."""
        name = self.providers[provider].name
        (gateway,) = control.running(self.meshllm.home(self.askers[asker].name))
        rows = await control.ask(gateway, "/peers")
        (found,) = [row.get("candidates") for row in rows if row["name"] == name]
        if found is None:
            return "no path"
        return "-".join(found[side].split()[0] for side in ("local", "remote"))

    async def sees(self, asker: Kind, providers: int) -> None:
        """Until the asker's gateway knows so many."""
        url = f"{self.gateways[asker].url}/health"
        async with aiohttp.ClientSession(connector=self._beside(asker)) as session:
            while True:
                async with session.get(url) as response:
                    if (await response.json())["providers"] == providers:
                        return
                await asyncio.sleep(POLL_S)

    def _beside(self, asker: Kind) -> aiohttp.TCPConnector:
        """For a program on the gateway's machine."""
        name = self.askers[asker].name

        def beside(info: tuple[Any, ...]) -> socket.socket:
            with net.inside(name):
                return socket.socket(*info[:3])

        return aiohttp.TCPConnector(socket_factory=beside)


@asynccontextmanager
async def world(
    root: Path,
    pairs: Sequence[Pair],
    *,
    leg_ms: float = LEG_MS,
    lost: float = 0.0,
    neighbours: bool = False,
    asking: Asking = MESHLLM,
    providing: tuple[str, ...] = MESHLLM,
    servers: Servers = ALL_ANSWER,
) -> AsyncIterator[World]:
    """Whom the pairs need, running, and every gateway knows every provider.

    `providing` is a program with the commands of `meshllm`. `neighbours` are on one
    LAN: those of a pair, which are of one kind. For a page each provider has a model of
    its own: to choose one in its picker would make ways to all of them.
    """
    askers, providers = (dict.fromkeys(side) for side in zip(*pairs, strict=True))
    hosts = 2 if neighbours else 1
    here = {kind: Seat(Site(kind, n, hosts)) for n, kind in enumerate(askers, 1)}
    if neighbours:
        there = {kind: Seat(here[kind].site, 1) for kind in providers}
    else:
        there = {kind: Seat(Site(kind, n)) for n, kind in enumerate(providers, 101)}
    seats = [*here.values(), *there.values()]
    sites = list(dict.fromkeys(seat.site for seat in seats))
    async with AsyncExitStack() as stack:
        stack.enter_context(internet(sites, leg_ms=leg_ms, lost=lost))
        meshllm = await stack.enter_async_context(commands(root))
        meshllm.env["MESHLLM_LOOPBACK"] = ""
        members = there.values() if asking == PAGE else seats
        homes = [seat.name for seat in members]
        relay = await stack.enter_async_context(vps(meshllm, homes, servers))
        made = World(meshllm, here, there, relay)
        turn = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for seat in there.values():
                model = model_of(seat) if asking == PAGE else MODEL
                group.create_task(_share(made, seat, turn, stack, providing, model))
            for seat in here.values():
                if asking == PAGE:
                    group.create_task(_visit(made, seat, turn, stack))
                else:
                    group.create_task(_gateway(made, seat, turn, asking))
        for kind in made.gateways:
            await made.sees(kind, len(there))
        yield made
        # At once: one after another they take a second each.
        nodes = [*made.gateways.values(), *made.shares.values()]
        await asyncio.gather(*(node.child.stop() for node in nodes))


async def _share(
    made: World,
    seat: Seat,
    turn: asyncio.Semaphore,
    stack: AsyncExitStack,
    program: tuple[str, ...],
    model: str,
) -> None:
    url = await stack.enter_async_context(_model_server(seat, model))
    backend = ("--backend", "ollama", "--url", url, "--parallel", "9")
    async with turn:
        made.shares[seat.site.kind] = await made.meshllm.start(
            *(seat.name, "share", *backend, "--no-lan"),
            at=net.entered(seat.name),
            program=program,
        )


@asynccontextmanager
async def _model_server(seat: Seat, model: str) -> AsyncIterator[str]:
    """Its URL there."""
    listening = net.bound(seat.name, socket.SOCK_STREAM, "127.0.0.1")
    host, port = listening.getsockname()
    runner = web.AppRunner(CountingServer(model).app(), access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _visit(
    made: World,
    seat: Seat,
    turn: asyncio.Semaphore,
    stack: AsyncExitStack,
) -> None:
    async with turn:
        link = await invited(made.meshllm, seat.name)
        made.visits[seat.site.kind] = await stack.enter_async_context(
            visit(seat.name, link)
        )


async def _gateway(
    made: World, seat: Seat, turn: asyncio.Semaphore, program: tuple[str, ...]
) -> None:
    options = ("--port", PORT, "--no-lan")
    async with turn:
        made.gateways[seat.site.kind] = await made.meshllm.start(
            *(seat.name, "gateway", *options),
            at=net.entered(seat.name),
            program=program,
        )
