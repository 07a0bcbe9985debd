"""A whole mesh on this machine, to try: signaling, provider, gateway, three processes.

They are the real commands, in homes of their own that go when the demo goes, and they
meet over WebRTC like anywhere else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from meshllm import founding, joining
from meshllm.backends.find import ollama_url
from meshllm.backends.ollama import OllamaBackend
from meshllm.config import DEMO_VARIABLE
from meshllm.errors import BackendError, ConfigError, MeshError
from meshllm.processes import Child
from meshllm.routing.seam import Ask, Listed

log = logging.getLogger(__name__)

READY_S: Final = 30.0
FETCH_S: Final = 1800.0  # a model of 100 MB over a slow line
PROBE_S: Final = 1.5
# Of the user's settings, what concerns the machine and not one node.
INHERITED: Final = ("MESHLLM_CACHE", "MESHLLM_LOOPBACK", "MESHLLM_LOG_LEVEL")

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Demo:
    """A mesh that runs. `url` is the gateway's, `page` the one-time link of its chat
    page, `model` one that chats; the gateway is the last of `children`."""

    url: str
    page: str
    signaling: str
    backend: str
    model: str
    children: tuple[Child, ...]

    async def drain(self) -> None:
        """Take no new question; returns when the answers that run have ended.

        Cancelled, it leaves the gateway for `start` to end: it is told again.
        """
        gateway = self.children[-1]
        gateway.terminate()
        await gateway.wait()

    async def ended(self) -> None:
        """Until one of the processes ends by itself, and says why by BackendError."""
        waits = [asyncio.ensure_future(child.wait()) for child in self.children]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        gone = next(child for child in self.children if child.returncode is not None)
        raise BackendError(gone.why())


@asynccontextmanager
async def start(
    *, signal_port: int = 0, gateway_port: int = 0, progress: Progress
) -> AsyncIterator[Demo]:
    """Runs it for as long as the block lasts; nothing of it is left afterwards."""
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="meshllm-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        children = _Children(folder)
        stack.push_async_callback(children.stop)
        kind = await _backend()
        hub = await children.start("signal", "--port", str(signal_port))
        await founding.init(folder / "share", str(hub["link"]), name="demo")
        sharing = asyncio.create_task(
            children.start("share", "--no-lan", "--backend", kind, progress=progress)
        )
        stack.push_async_callback(_cancel, sharing)
        link = await joining.invite(folder / "share", name="gateway", role="guest")
        await joining.join(folder / "gateway", link.link)
        shared = await sharing
        if not shared["models"]:
            raise MeshError(
                "The provider has no model. `ollama pull llama3.2` gets one."
            )
        gateway = await children.start(
            "gateway", "--no-lan", "--port", str(gateway_port)
        )
        url = str(gateway["url"])
        yield Demo(
            url=url,
            page=str(gateway["page"]),
            signaling=str(hub["url"]),
            backend=kind,
            model=await _model_that_chats(url),
            children=tuple(children.all),
        )


class GatewayClient:
    """The demo's own way to ask: its gateway's HTTP, like any program's."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    def models(self) -> list[Listed]:
        return []

    async def ask(self, ask: Ask) -> HttpAnswer:
        try:
            response = await self._session.post(self._url + ask.path, data=ask.body)
        except aiohttp.ClientError as exc:
            raise MeshError(f"The demo's gateway does not answer: {exc}.") from exc
        return HttpAnswer(response)


class HttpAnswer:
    """A response of the gateway as an answer of the mesh."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.content_type
        self.provider = response.headers.get("Meshllm-Provider", "")
        self.path = response.headers.get("Meshllm-Path", "")
        self.timing: dict[str, float] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as exc:
            raise MeshError("The demo's gateway broke off.") from exc

    async def aclose(self) -> None:
        self._response.close()


class _Children:
    """The commands that run, each in the home of its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Child] = []

    async def start(
        self, command: str, *options: str, progress: Progress | None = None
    ) -> dict[str, Any]:
        """What it said until and with `ready`. BackendError when it ends before."""
        home = self._folder / command
        argv = [sys.executable, "-m", "meshllm", command, "--json"]
        child = await Child.start(
            [*argv, "--home", str(home), *options],
            {**_no_settings(), DEMO_VARIABLE: str(self._folder)},
            name=f"meshllm {command}",
        )
        self.all.append(child)
        said: dict[str, Any] = {}
        while said.get("event") != "ready":
            said |= await child.wait_json(FETCH_S if progress else READY_S)
            if said["event"] == "progress" and progress is not None:
                progress(said["done"], said["total"])
        return said

    async def stop(self) -> None:
        """The last first: who uses another ends before it."""
        for child in reversed(self.all):
            await child.stop()


def _no_settings() -> dict[str, str]:
    """Blanks what would set up the user's own node; an empty variable is none."""
    return {
        name: ""
        for name in os.environ
        if name.startswith("MESHLLM_") and name not in INHERITED
    }


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _backend() -> str:
    """`ollama` if one answers and has a model that chats, else `embedded`."""
    try:
        ollama = OllamaBackend(ollama_url())
    except ConfigError as exc:
        log.info("%s", exc)
        return "embedded"
    try:
        models = await ollama.models(timeout_s=PROBE_S)
    except BackendError as exc:
        log.info("no Ollama: %s", exc)
        return "embedded"
    finally:
        await ollama.aclose()
    return (
        "ollama" if any("completion" in m.capabilities for m in models) else "embedded"
    )


async def _model_that_chats(url: str) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/api/tags") as response,
    ):
        models = (await response.json())["models"]
    for model in models:
        if "completion" in model.get("capabilities", ["completion"]):
            return str(model["name"])
    raise MeshError("The gateway sees no model that can chat.")
