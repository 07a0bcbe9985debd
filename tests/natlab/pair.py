"""One asker and one provider beside any hub: what a relay of ours does for them."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from meshllm import control
from meshllm.processes import Child
from tests.fakes.commands import Commands, Serving
from tests.fakes.scripted_ollama import ScriptedOllama
from tests.natlab import net

MODEL = "llama3.2"
ASKER, PROVIDER = "asker", "provider"
ASK_S = 30.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """`candidates` are those of the path, the asker's first."""

    text: str
    path: str
    candidates: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pair:
    meshllm: Commands
    gateway: Serving
    ollama: ScriptedOllama
    namespace: str

    async def ask(self, prompt: str) -> Answer:
        messages = [{"role": "user", "content": prompt}]
        async with (
            self._session() as session,
            session.post(
                "/api/chat", json={"model": MODEL, "messages": messages}
            ) as response,
        ):
            lines = (await response.text()).splitlines()
            assert response.status == 200, lines
        said = (json.loads(line)["message"]["content"] for line in lines)
        (running,) = control.running(self.meshllm.home(ASKER))
        (peer,) = await control.ask(running, "/peers")
        found = peer["candidates"]
        kinds = (found["local"].split()[0], found["remote"].split()[0])
        return Answer("".join(said), response.headers["Meshllm-Path"], kinds)

    async def sees_provider(self) -> None:
        async with self._session() as session:
            while True:
                async with session.get("/health") as response:
                    if (await response.json())["providers"]:
                        return
                await asyncio.sleep(POLL_S)

    def _session(self) -> aiohttp.ClientSession:
        """A program beside the gateway."""

        def beside(info: tuple[Any, ...]) -> socket.socket:
            with net.inside(self.namespace):
                return socket.socket(*info[:3])

        return aiohttp.ClientSession(
            self.gateway.url,
            connector=aiohttp.TCPConnector(socket_factory=beside),
            timeout=aiohttp.ClientTimeout(total=ASK_S),
        )


@asynccontextmanager
async def pair(
    meshllm: Commands,
    link: str,
    *,
    asker: str,
    provider: str,
    hub: str,
    names: Path | None = None,
    options: Sequence[str] = (),
) -> AsyncIterator[Pair]:
    """`link` is the hub's setup link; `asker`, `provider` and `hub` are namespaces, and
    `names` is an /etc/hosts for all of them. `options` are for both nodes."""
    await settle(meshllm, link, hub, names)
    async with AsyncExitStack() as stack:
        listening = net.bound(provider, socket.SOCK_STREAM, "127.0.0.1")
        ollama = await stack.enter_async_context(ScriptedOllama(sock=listening))
        backend = ("--backend", "ollama", "--url", ollama.url, "--no-lan", *options)
        _, gateway = await asyncio.gather(
            meshllm.start(PROVIDER, "share", *backend, at=at(provider, names)),
            meshllm.start(
                *(ASKER, "gateway", "--port", "11434", "--no-lan", *options),
                at=at(asker, names),
            ),
        )
        made = Pair(meshllm, gateway, ollama, asker)
        await made.sees_provider()
        yield made


async def settle(
    meshllm: Commands, link: str, hub: str, names: Path | None = None
) -> None:
    """A mesh of an owner and the two."""
    command = (sys.executable, "-m", "tests.natlab.settle")
    argv = (*command, str(meshllm.home("")), link, ASKER, PROVIDER)
    child = await Child.start(at(hub, names, *argv), meshllm.env, name="settle")
    if await child.wait():
        raise RuntimeError(child.why())


def at(namespace: str, names: Path | None, *argv: str) -> tuple[str, ...]:
    """What leads a command into a namespace where these names are known."""
    if names is None:
        return net.entered(namespace, *argv)
    known = f'mount --bind {shlex.quote(str(names))} /etc/hosts && exec "$@"'
    return net.entered(namespace, "unshare", "--mount", "sh", "-c", known, "sh", *argv)
