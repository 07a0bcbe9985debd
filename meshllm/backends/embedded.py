"""The embedded default: llama.cpp in a child process, spoken to in OpenAI's API.

The child serves on a Unix socket in a folder that only we may enter; where there are
none, on loopback with a random key. It starts with the first use, and again with the
next use after it died.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from meshllm.backends.base import BackendRequest, BackendResponse, Model
from meshllm.backends.embedded_child import Settings
from meshllm.backends.model_file import SMOLLM2, Progress, fetch
from meshllm.backends.openai import OpenAIBackend
from meshllm.errors import BackendError, ConfigError
from meshllm.processes import Child

log = logging.getLogger(__name__)

CONTEXT = 4096  # tokens for one request: memory is taken for all of them at the start
MAX_TOKENS = 2048  # for requests without a limit; a small model may never stop itself
READY_S = 120.0  # a large file from a slow disk
BACKOFF_S = 0.25  # doubled with every death in a row, so that a broken file is no storm
BACKOFF_MOST_S = 8.0
SOCKET_PATH_MOST = 100  # macOS takes 104 bytes, Linux 108


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file on this machine, and what is known of it without reading it."""

    path: Path
    name: str
    digest: str = ""
    size: int = 0
    modified_at: str = ""
    details: dict[str, Any] = field(default_factory=dict)


async def open_embedded(
    *,
    parallel: int | None = None,
    model_file: Path | None = None,
    progress: Progress | None = None,
) -> EmbeddedBackend:
    """Fetches the default model unless a file is given, and starts the child.

    ConfigError when the engine is not installed or the file cannot be had.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError(
            "The embedded model needs an extra that is not installed: "
            'pip install "meshllm[embedded]". Or start a model server, such as Ollama.'
        )
    if model_file is None:
        found = await asyncio.to_thread(_described, await fetch(progress=progress))
    else:
        found = await asyncio.to_thread(_own, model_file)
    backend = EmbeddedBackend(found, parallel=parallel or 1)
    try:
        await backend.models()
    except BaseException:
        await backend.aclose()
        raise
    return backend


class EmbeddedBackend:
    """Owns the child; hands every exchange to the OpenAI backend in front of it."""

    kind = "embedded"

    def __init__(self, file: ModelFile, *, parallel: int = 1) -> None:
        self.url = f"embedded:{file.name}"
        self.parallel: int | None = parallel
        self._file = file
        self._models: list[Model] = []
        self._running: _Running | None = None
        self._starting = asyncio.Lock()
        self._deaths = 0  # in a row, without an answer between them
        self._not_before = 0.0
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        return self._running.child.pid if self._running is not None else None

    async def models(self) -> list[Model]:
        if not self._models:
            server = (await self._server()).server
            self._models = await server.models()
        return self._models

    async def run(self, request: BackendRequest) -> BackendResponse:
        running = await self._server()
        try:
            response = await running.server.run(request)
        except BackendError as exc:
            raise await running.reason(exc) from exc
        if response.status < 500:
            self._deaths = 0
        return _Watched(response, running)

    async def aclose(self) -> None:
        self._is_closed = True
        async with self._starting:
            if self._running is not None:
                await self._running.aclose()
                self._running = None

    async def _server(self) -> _Running:
        async with self._starting:
            if self._is_closed:
                raise BackendError("The embedded model server was closed.", 503)
            if self._running is not None:
                if self._running.child.returncode is None:
                    return self._running
                log.warning("embedded model server: %s", self._running.child.why())
                await self._running.aclose()
                self._running = None
                self._note_death()
            clock = asyncio.get_running_loop().time
            await asyncio.sleep(self._not_before - clock())
            try:
                self._running = await _Running.start(self._file, self.parallel or 1)
            except BackendError:
                self._note_death()
                raise
            return self._running

    def _note_death(self) -> None:
        wait_s = min(BACKOFF_S * 2**self._deaths, BACKOFF_MOST_S)
        self._deaths += 1
        self._not_before = asyncio.get_running_loop().time() + wait_s


class _Running:
    """A child that serves, with its folder and a client for it."""

    def __init__(self, child: Child, server: OpenAIBackend, folder: Path) -> None:
        self.child = child
        self.server = server
        self._folder = folder

    @classmethod
    async def start(cls, file: ModelFile, parallel: int) -> _Running:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="meshllm-"))
        settings = _settings(file, parallel, folder)
        argv = [sys.executable, "-P", "-m", "meshllm.backends.embedded_child"]
        child: Child | None = None
        try:
            child = await Child.start(
                [*argv, settings.to_json()], name="The embedded model server"
            )
            said = await child.wait_json(READY_S)
            if "ready" not in said:
                raise BackendError(f"{file.path} cannot be served: {said.get('error')}")
            server = _client(settings, str(said["ready"]), file)
            return cls(child, server, folder)
        except BaseException:
            if child is not None:
                await child.stop()
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def reason(self, error: BackendError) -> BackendError:
        """The error, or the child's death when that is what is behind it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):  # its socket closes before it is reaped
                await self.child.wait()
        if self.child.returncode is None:
            return error
        return BackendError(f"{self.child.why()}. The next request starts it again.")

    async def aclose(self) -> None:
        await self.server.aclose()
        await self.child.stop()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


class _Watched:
    """A response whose breaking off is explained by the child's end."""

    def __init__(self, response: BackendResponse, running: _Running) -> None:
        self._response = response
        self._running = running
        self.status = response.status
        self.content_type = response.content_type

    @property
    def timing(self) -> dict[str, float]:
        return self._response.timing

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response:
                yield chunk
        except BackendError as exc:
            raise await self._running.reason(exc) from exc

    async def aclose(self) -> None:
        await self._response.aclose()


def _settings(file: ModelFile, parallel: int, folder: Path) -> Settings:
    socket = folder / "llama.sock"  # llama.cpp knows a socket by this ending
    by_socket = sys.platform != "win32" and len(str(socket)) <= SOCKET_PATH_MOST
    return Settings(
        model=str(file.path),
        alias=file.name,
        host=str(socket) if by_socket else "127.0.0.1",
        port=0,
        api_key="" if by_socket else secrets.token_urlsafe(32),
        # ggml's threads spin at barriers: taking every core makes all of it slow.
        threads=max(1, (os.cpu_count() or 2) - 1),
        parallel=parallel,
        context=CONTEXT,
        max_tokens=MAX_TOKENS,
        folder=str(folder),
    )


def _client(settings: Settings, address: str, file: ModelFile) -> OpenAIBackend:
    by_socket = not settings.api_key
    return OpenAIBackend(
        "http://embedded" if by_socket else address,
        socket=Path(settings.host) if by_socket else None,
        api_key=settings.api_key or None,
        parallel=settings.parallel,
        complete=partial(_completed, file),
    )


def _completed(file: ModelFile, model: Model) -> Model:
    """The server's entry, with what we know of the file."""
    return replace(
        model,
        digest=file.digest,
        size=file.size or model.size,
        modified_at=file.modified_at,
        details={**model.details, **file.details},
        capabilities=(*model.capabilities, "embedding"),
    )


def _described(path: Path) -> ModelFile:
    return ModelFile(
        path=path,
        name=SMOLLM2.name,
        digest=SMOLLM2.sha256,
        size=SMOLLM2.size,
        modified_at=_modified_at(path),
        details={
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "134.52M",
            "quantization_level": "Q4_1",
        },
    )


def _own(path: Path) -> ModelFile:
    if not path.is_file():
        raise ConfigError(f"There is no model file {path}.")
    return ModelFile(
        path=path.resolve(),
        name=path.stem.lower(),
        size=path.stat().st_size,
        modified_at=_modified_at(path),
        details={"format": "gguf"},
    )


def _modified_at(path: Path) -> str:
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return modified.isoformat().replace("+00:00", "Z")
