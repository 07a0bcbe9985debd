"""A real Chromium, driven through web/test/browser/driver.mjs; none outlives us."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

WEB = Path(__file__).parents[2] / "web"
MODULES = WEB / "node_modules"
# Quiet, and nothing but the test's own traffic.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LINE_MAX = 64 << 20  # whole answers come back on one line


class BrowserError(Exception):
    """What the page, or the driver, said."""


def find(command: str) -> str | None:
    """Node.js may be one that `make setup` put beside this Python."""
    beside = Path(sys.executable).parent
    return shutil.which(command) or shutil.which(command, path=str(beside))


def missing() -> str | None:
    """What this machine lacks for a browser test."""
    for command in ("node", "chromium"):
        if find(command) is None:
            return command
    return None if (MODULES / "playwright-core").is_dir() else "web/node_modules"


class Page:
    """One page; `call` runs a function of `window.harness` and returns its value."""

    def __init__(self, browser: Browser, name: str) -> None:
        self._browser = browser
        self._name = name

    async def call(self, function: str, *arguments: Any) -> Any:
        given = ", ".join(json.dumps(one) for one in arguments)
        return await self.run(f"return await harness.{function}({given})")

    async def run(self, code: str) -> Any:
        return await self._browser.say("evaluate", page=self._name, code=code)

    async def follow(self, code: str) -> None:
        """Until the page is loaded anew, as this code makes it."""
        await self._browser.say("follow", page=self._name, code=code)

    async def read(self, name: str) -> bytes:
        """The whole answer that is read as `name`."""
        return base64.b64decode(await self.call("read", name))

    async def goto(self, url: str) -> None:
        """From another page, so that this one is opened anew whatever its fragment."""
        await self._browser.say("goto", page=self._name, url=url)

    async def reload(self) -> None:
        await self._browser.say("reload", page=self._name)

    async def close(self) -> None:
        await self._browser.say("close", page=self._name)


class Browser:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())
        self.errors: list[str] = []
        self.console: list[str] = []

    async def ready(self) -> str:
        """The browser's version."""
        return str(await self._ready)

    async def open(self, url: str) -> Page:
        """A page with storage of its own."""
        name = f"page{next(self._ids)}"
        await self.say("open", page=name, url=url)
        return Page(self, name)

    async def say(self, do: str, **fields: Any) -> Any:
        assert self._process.stdin is not None
        id = next(self._ids)
        answered = self._waiting[id] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": id, "do": do} | fields)
        self._process.stdin.write(line.encode() + b"\n")
        return await answered

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._take(json.loads(line))
        ended = BrowserError("the browser has ended")
        for future in [*self._waiting.values(), self._ready]:
            if not future.done():
                future.set_exception(ended)
                future.exception()

    def _take(self, said: dict[str, Any]) -> None:
        match said:
            case {"ready": version}:
                self._ready.set_result(version)
            case {"id": id, "error": text}:
                self._waiting.pop(id).set_exception(BrowserError(text))
            case {"id": id}:
                self._waiting.pop(id).set_result(said["ok"])
            case {"pageError": text}:
                self.errors.append(text)
            case {"console": text}:
                self.console.append(text)


@asynccontextmanager
async def chromium(*flags: str, at: tuple[str, ...] = ()) -> AsyncIterator[Browser]:
    """`flags` are more of its own; `at` leads it into a network namespace."""
    node, browser = find("node"), find("chromium")
    assert node is not None and browser is not None
    process = await asyncio.create_subprocess_exec(
        *(*at, node, str(WEB / "test" / "browser" / "driver.mjs")),
        *(browser, *FLAGS, *flags),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_MAX,
        cwd=WEB,
    )
    running = Browser(process)
    try:
        await running.ready()
        yield running
    finally:
        await running.stop()


async def build_harness(folder: Path) -> None:
    """The harness page, as a browser can load it."""
    process = await asyncio.create_subprocess_exec(
        *(
            find("node") or "",
            str(MODULES / "vite" / "bin" / "vite.js"),
            "build",
            "test/browser",
        ),
        *("--config", "vite.config.ts", "--outDir", str(folder), "--minify", "false"),
        *("--logLevel", "warn"),
        cwd=WEB,
        env={**os.environ, "NODE_ENV": "production"},
    )
    assert await process.wait() == 0


@asynccontextmanager
async def serve(folder: Path) -> AsyncIterator[str]:
    """Where a browser finds this folder, on loopback: a secure context."""

    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / "index.html")

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_static("/", folder)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
