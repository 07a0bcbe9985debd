"""The local control socket: a running `share` or `gateway` says how it is.

HOME/run/ (0700) holds, for each of them, a socket (0600) and a pointer `NAME.json`,
`{"pid", "socket", "started"}`, because a Unix socket's path may be 104 bytes (macOS) or
108 (Linux) long: in a home deeper than that the socket lies in a folder of its own.
`share.lock` is held, by flock, for as long as the one `share` of this home runs.

    GET /status        this node, one object
    GET /peers         everybody it sees, a list
    GET /logs          the latest log lines, a list; ?follow=1: one a line, as they come
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from meshllm.errors import ConfigError, MeshError
from meshllm.health import name_server
from meshllm.loglines import LogLines
from meshllm.store import sole, try_lock

PATH_BYTES: Final = 100
ANSWER_S: Final = 2.0  # it is on this machine: slower than that is stuck
SECOND_SHARE: Final = (
    "This node already shares: process {pid}. End that one, or share as another node"
    " with --home."
)
FOLDER_PREFIX: Final = "meshllm-run-"


@dataclass(frozen=True, slots=True)
class Running:
    """A process of this home; `name` is `share` or `gateway-PID`."""

    name: str
    pid: int
    socket: str
    started: float

    @property
    def role(self) -> str:
        return self.name.partition("-")[0]


@dataclass(frozen=True, slots=True)
class State:
    """What the socket tells, asked for anew each time."""

    status: Callable[[], dict[str, Any]]
    peers: Callable[[], list[dict[str, Any]]]
    logs: LogLines


# Serving


@contextlib.asynccontextmanager
async def serve(home: Path, role: str, state: State) -> AsyncIterator[None]:
    """Answers on the socket of this process for as long as the block lasts.

    ConfigError for a second `share`: it names the process of the first.
    """
    folder = _run_folder(home)
    async with contextlib.AsyncExitStack() as stack:
        if role == "share":
            stack.enter_context(sole(folder / "share.lock", SECOND_SHARE))
        if sys.platform != "win32":  # asyncio has no Unix sockets there
            remove_stale(home)
            name = role if role == "share" else f"{role}-{os.getpid()}"
            await stack.enter_async_context(_listening(folder, name, state))
        yield


@contextlib.asynccontextmanager
async def _listening(folder: Path, name: str, state: State) -> AsyncIterator[None]:
    app = web.Application()
    app.on_response_prepare.append(name_server)
    app.add_routes(_routes(state))
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0
    )
    with _socket_path(folder, name) as path:
        await runner.setup()
        try:
            await web.UnixSite(runner, path).start()
            path.chmod(0o600)
            with _pointer(folder, Running(name, os.getpid(), str(path), time.time())):
                yield
        finally:
            state.logs.end()
            await runner.cleanup()


def _routes(state: State) -> list[web.RouteDef]:
    async def status(_: web.Request) -> web.Response:
        return web.json_response(state.status())

    async def peers(_: web.Request) -> web.Response:
        return web.json_response(state.peers())

    async def logs(request: web.Request) -> web.StreamResponse:
        if request.query.get("follow") != "1":
            return web.json_response(state.logs.lines)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async with contextlib.aclosing(state.logs.follow()) as lines:
                async for line in lines:
                    await response.write(json.dumps(line).encode() + b"\n")
        return response

    return [
        web.get("/status", status),
        web.get("/peers", peers),
        web.get("/logs", logs),
    ]


@contextlib.contextmanager
def _socket_path(folder: Path, name: str) -> Iterator[Path]:
    path = folder / f"{name}.sock"
    own: str | None = None
    if len(os.fsencode(path)) > PATH_BYTES:
        own = tempfile.mkdtemp(prefix=FOLDER_PREFIX)
        path = Path(own) / f"{name}.sock"
    path.unlink(missing_ok=True)  # of an earlier process with our name
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def _run_folder(home: Path) -> Path:
    folder = home / "run"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be used: {exc.strerror}.") from exc
    return folder


@contextlib.contextmanager
def _pointer(folder: Path, running: Running) -> Iterator[None]:
    """The pointer file, locked for as long as it is true."""
    path = folder / f"{running.name}.json"
    draft = path.with_suffix(".new")
    fields = asdict(running)
    del fields["name"]
    with draft.open("w", encoding="utf-8") as file:
        try_lock(file.fileno())
        json.dump(fields, file)
        file.flush()
        draft.replace(path)  # nobody ever reads half of one
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


# Asking


def running(home: Path) -> list[Running]:
    """What runs in this home: `share` first, then gateways, the oldest first."""
    found = [one for one, lives in _pointers(home) if lives]
    return sorted(found, key=lambda one: (one.name != "share", one.started))


def remove_stale(home: Path) -> None:
    """Forgets processes that ended without saying so."""
    for one, lives in _pointers(home):
        if lives:
            continue
        (home / "run" / f"{one.name}.json").unlink(missing_ok=True)
        path = Path(one.socket)
        path.unlink(missing_ok=True)
        if path.parent.name.startswith(FOLDER_PREFIX):
            shutil.rmtree(path.parent, ignore_errors=True)


async def ask(one: Running, path: str) -> Any:
    """The JSON of `path`. MeshError when the process does not answer."""
    async with _get(one, path, aiohttp.ClientTimeout(total=ANSWER_S)) as response:
        return await response.json()


async def follow_logs(one: Running) -> AsyncGenerator[dict[str, Any], None]:
    """Its log lines, kept ones first, until it ends."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S)
    async with _get(one, "/logs?follow=1", timeout) as response:
        async for line in response.content:
            yield json.loads(line)


@contextlib.asynccontextmanager
async def _get(
    one: Running, path: str, timeout: aiohttp.ClientTimeout
) -> AsyncIterator[aiohttp.ClientResponse]:
    connector = aiohttp.UnixConnector(path=one.socket)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://meshllm{path}") as response,
        ):
            yield response
    except (TimeoutError, aiohttp.ClientError, OSError) as exc:
        raise MeshError(
            f"`meshllm {one.role}` (process {one.pid}) does not answer on its control"
            " socket. End it and start it again."
        ) from exc


def _pointers(home: Path) -> Iterator[tuple[Running, bool]]:
    """Every pointer, and whether its process lives: then it holds the lock."""
    for path in (home / "run").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            # What is suppressed ended this very moment, or is no file of ours.
            with path.open(encoding="utf-8") as file:
                lives = not try_lock(file.fileno(), shared=True)
                fields = json.load(file)
            pid, started = int(fields["pid"]), float(fields["started"])
            yield Running(path.stem, pid, str(fields["socket"]), started), lives
