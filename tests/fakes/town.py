"""A mesh of real processes that may be killed, frozen and started anew."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from meshllm import control
from meshllm.processes import Child
from tests.fakes.commands import READY_S, Commands, Serving, commands

POLL_S = 0.02
ORPHAN_S = 5.0  # a child whose parent was killed has 3 s to end by itself


@dataclass
class Backend:
    """The counting server as a process."""

    child: Child
    url: str

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    async def counts(self) -> dict[str, Any]:
        """`begun`, `running`, `sent` and `heard`."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/counts") as response,
        ):
            found: dict[str, Any] = await response.json()
            return found

    async def until(self, is_so: Callable[[dict[str, Any]], bool]) -> None:
        while not is_so(await self.counts()):
            await asyncio.sleep(POLL_S)

    async def idle(self) -> None:
        await self.until(lambda counts: counts["running"] == 0)

    async def runs(self, count: int) -> None:
        await self.until(lambda counts: counts["running"] == count)


@dataclass
class Town:
    """`anna` owns the mesh; whoever else is here is a member."""

    meshllm: Commands
    hub: Serving
    _backends: list[Backend] = field(default_factory=list)

    async def backend(self, port: str = "0") -> Backend:
        argv = (sys.executable, "-m", "tests.fakes.counting", port)
        child = await Child.start(argv, self.meshllm.env, name="backend")
        backend = Backend(child, str((await child.wait_json(READY_S))["url"]))
        self._backends.append(backend)
        return backend

    async def share(
        self, backend: Backend, home: str = "anna", *options: str
    ) -> Serving:
        where = ("--backend", "ollama", "--url", backend.url)
        return await self.meshllm.start(home, "share", *where, *options)

    async def gateway(self, home: str = "anna", port: str = "0") -> Serving:
        return await self.meshllm.start(home, "gateway", "--port", port)

    async def joins(
        self, name: str, by: Callable[[str], str] = lambda link: link
    ) -> None:
        """A member of its own home, admitted by anna's running node. `by` makes
        another way to the signaling server of the link."""
        words = ("--name", name, "--role", "member")
        link = (await self.meshllm.run("anna", "invite", *words)).out.strip()
        await self.meshllm.run(name, "join", by(link))

    async def told(self, role: str, path: str, home: str = "anna") -> Any:
        """What the control socket of a running `share` or `gateway` says."""
        running = control.running(self.meshllm.home(home))
        (one,) = [one for one in running if one.role == role]
        return await control.ask(one, path)

    async def path(self) -> str | None:
        """How anna's gateway is connected to its provider, as it says itself."""
        rows = await self.told("gateway", "/peers")
        (row,) = [row for row in rows if row["direction"] == "provider"]
        path: str | None = row["path"]
        return path

    async def slots(
        self, home: str = "anna", *, running: int | None = None, waiting: int = 0
    ) -> None:
        """Until so many requests run and wait at a provider."""
        while True:
            shares = (await self.told("share", "/status", home))["shares"]
            is_running = running is None or shares["running"] == running
            if is_running and shares["waiting"] == waiting:
                return
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        for backend in self._backends:
            await backend.child.stop()


@asynccontextmanager
async def town(root: Path) -> AsyncIterator[Town]:
    """At its end no process, and no lock that is held, may be left."""
    async with commands(root) as meshllm:
        hub = await meshllm.start("hub", "signal", "--port", "0")
        await meshllm.run("anna", "init", str(hub.said["link"]))
        here = Town(meshllm, hub)
        try:
            yield here
        finally:
            await here.stop()
    if sys.platform == "linux":
        clock = asyncio.get_running_loop().time
        until = clock() + ORPHAN_S
        while (left := outlived(root)) and clock() < until:
            await asyncio.sleep(POLL_S)
        assert not left, left


def outlived(root: Path) -> list[str]:
    """Processes that know this folder, and locks in it that somebody holds."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            is_ours = str(root).encode() in (entry / "environ").read_bytes()
            argv = (entry / "cmdline").read_bytes().split(bytes(1))
        except OSError:
            continue  # no process, or not one of ours
        if is_ours and int(entry.name) != os.getpid():
            found.append(f"process {entry.name}: {b' '.join(argv).decode()}")
    return found + [str(path) for path in root.glob("*/run/*.lock") if is_held(path)]


def is_held(lock: Path) -> bool:
    import fcntl

    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def kill(child: Child) -> None:
    """As `kill -9` does it: nothing can be said or tidied up."""
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()


def memory_kib(child: Child) -> int:
    """What it holds in memory now (Linux)."""
    for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def freeze(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)


def thaw(child: Child) -> None:
    os.kill(child.pid, signal.SIGCONT)


async def has(gateway: Serving, providers: int) -> None:
    """Until the gateway sees so many providers."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{gateway.url}/health") as response:
                if (await response.json())["providers"] == providers:
                    return
            await asyncio.sleep(POLL_S)


class Mark:
    """`on_number` of a program: an event for having come so far."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.reached = asyncio.Event()

    def __call__(self, number: int) -> None:
        if number >= self._number:
            self.reached.set()
