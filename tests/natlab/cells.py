"""A cell: one node asks another for the first time, and what came of it.

Everything is real but the model server: `meshllm signal`, `share` and `gateway` are
processes, each behind its site's NAT.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from meshllm import control
from tests.fakes.commands import MESHLLM, Commands, Serving, commands
from tests.fakes.scripted_ollama import TOKENS, ScriptedOllama
from tests.natlab import net
from tests.natlab.nat import Kind, can_be_direct
from tests.natlab.sites import LEG_MS, Site, internet
from tests.natlab.vps import vps

MODEL = "llama3.2"
PORT = "11434"
AT_ONCE = 3  # more would wait for the machine, not for the network
CELL_S = 30.0  # a person would not wait so long
POLL_S = 0.02
CHROMIUM = (sys.executable, "-m", "tests.natlab.browser")
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
    """`first_ms` is the time to the first byte, `connect_ms` that to the open path.

    `path` is as the program was told; `candidates` are those that the gateway names
    afterwards, its own first.
    `error` says why there was no answer.
    """

    asker: Kind
    provider: Kind
    path: str | None = None
    candidates: str | None = None
    first_ms: float = 0.0
    connect_ms: float = 0.0
    error: str | None = None

    @property
    def is_direct(self) -> bool:
        return self.path not in (None, "relay")

    @property
    def is_as_theory_says(self) -> bool:
        """Connected, and direct where that is possible."""
        can_be = can_be_direct(self.asker, self.provider)
        return self.path is not None and self.is_direct == can_be


@dataclass
class World:
    """The askers and providers that run, by the kind of their site."""

    meshllm: Commands
    askers: dict[Kind, Site]
    providers: dict[Kind, Site]
    gateways: dict[Kind, Serving] = field(default_factory=dict)
    shares: dict[Kind, Serving] = field(default_factory=dict)

    async def cells(
        self, pairs: Iterable[Pair], on_cell: Callable[[Cell], None]
    ) -> None:
        """Each once, a few at a time, in this order."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def in_turn(asker: Kind, provider: Kind) -> None:
            async with turn:
                on_cell(await self.cell(asker, provider))

        async with asyncio.TaskGroup() as group:
            for pair in pairs:
                group.create_task(in_turn(*pair))

    async def cell(self, asker: Kind, provider: Kind) -> Cell:
        """The first question of this asker to this provider."""
        name = _home(self.providers[provider])
        body = {"model": f"{MODEL}@{name}", "messages": [{"role": "user"}]}
        timeout = aiohttp.ClientTimeout(total=CELL_S)
        begun = time.monotonic()
        try:
            async with (
                self._session(asker, timeout) as session,
                session.post("/api/chat", json=body) as response,
            ):
                first = await response.content.readany()
                first_ms = (time.monotonic() - begun) * 1000
                whole = first + await response.read()
        except (TimeoutError, aiohttp.ClientError) as error:
            return Cell(asker, provider, error=str(error) or "no answer in time")
        if response.status != 200:
            return Cell(asker, provider, error=json.loads(first)["error"])
        if _said(whole) != "".join(TOKENS):
            return Cell(asker, provider, error=f"a torn answer: {whole!r}")
        connect = CONNECT.search(response.headers.get("Server-Timing", ""))
        return Cell(
            asker,
            provider,
            response.headers["Meshllm-Path"],
            await self.candidates(asker, provider),
            first_ms,
            float(connect[1]) if connect else 0.0,
        )

    async def candidates(self, asker: Kind, provider: Kind) -> str:
        """Of the path that the asker's gateway uses now, its own first."""
        name = _home(self.providers[provider])
        (gateway,) = control.running(self.meshllm.home(_home(self.askers[asker])))
        rows = await control.ask(gateway, "/peers")
        (found,) = [row.get("candidates") for row in rows if row["name"] == name]
        if found is None:
            return "no path"
        return "-".join(found[side].split()[0] for side in ("local", "remote"))

    async def sees(self, asker: Kind, providers: int) -> None:
        """Until the asker's gateway knows so many."""
        async with self._session(asker) as session:
            while True:
                async with session.get("/health") as response:
                    if (await response.json())["providers"] == providers:
                        return
                await asyncio.sleep(POLL_S)

    def _session(self, asker: Kind, timeout: Any = None) -> aiohttp.ClientSession:
        """A program beside the gateway."""
        name = self.askers[asker].host()

        def beside(info: tuple[Any, ...]) -> socket.socket:
            with net.inside(name):
                return socket.socket(*info[:3])

        return aiohttp.ClientSession(
            self.gateways[asker].url,
            connector=aiohttp.TCPConnector(socket_factory=beside),
            timeout=timeout or aiohttp.ClientTimeout(),
        )


@asynccontextmanager
async def world(
    root: Path,
    pairs: Sequence[Pair],
    *,
    leg_ms: float = LEG_MS,
    lost: float = 0.0,
    asking: tuple[str, ...] = MESHLLM,
    providing: tuple[str, ...] = MESHLLM,
) -> AsyncIterator[World]:
    """Whom the pairs need, running, and every gateway knows every provider.

    `asking` and `providing` are programs with the commands of `meshllm`.
    """
    askers, providers = (dict.fromkeys(side) for side in zip(*pairs, strict=True))
    here = {kind: Site(kind, number) for number, kind in enumerate(askers, 1)}
    there = {kind: Site(kind, number) for number, kind in enumerate(providers, 101)}
    sites = [*here.values(), *there.values()]
    async with AsyncExitStack() as stack:
        stack.enter_context(internet(sites, leg_ms=leg_ms, lost=lost))
        meshllm = await stack.enter_async_context(commands(root))
        meshllm.env["MESHLLM_LOOPBACK"] = ""
        await stack.enter_async_context(vps(meshllm, [_home(site) for site in sites]))
        made = World(meshllm, here, there)
        turn = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for site in there.values():
                group.create_task(_share(made, site, turn, stack, providing))
            for site in here.values():
                group.create_task(_gateway(made, site, turn, asking))
        for kind in here:
            await made.sees(kind, len(there))
        yield made
        # At once: one after another they take a second each.
        nodes = [*made.gateways.values(), *made.shares.values()]
        await asyncio.gather(*(node.child.stop() for node in nodes))


async def _share(
    made: World,
    site: Site,
    turn: asyncio.Semaphore,
    stack: AsyncExitStack,
    program: tuple[str, ...],
) -> None:
    listening = net.bound(site.host(), socket.SOCK_STREAM, "127.0.0.1")
    ollama = await stack.enter_async_context(ScriptedOllama(sock=listening))
    backend = ("--backend", "ollama", "--url", ollama.url, "--parallel", "9")
    async with turn:
        made.shares[site.kind] = await made.meshllm.start(
            *(_home(site), "share", *backend, "--no-lan"),
            at=net.entered(site.host()),
            program=program,
        )


async def _gateway(
    made: World, site: Site, turn: asyncio.Semaphore, program: tuple[str, ...]
) -> None:
    options = ("--port", PORT, "--no-lan")
    async with turn:
        made.gateways[site.kind] = await made.meshllm.start(
            *(_home(site), "gateway", *options),
            at=net.entered(site.host()),
            program=program,
        )


def _said(answer: bytes) -> str:
    """By a chat, as NDJSON, as far as it is whole."""
    lines = [json.loads(line) for line in answer.splitlines()]
    return "".join(line["message"]["content"] for line in lines)


def _home(site: Site) -> str:
    """Its home, and its name in the mesh."""
    return f"{site.kind}-{site.number}"
