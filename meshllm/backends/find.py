"""Finds a model server: the one that was named, else one that answers, else our own."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from meshllm.backends.base import Backend
from meshllm.backends.embedded import open_embedded
from meshllm.backends.model_file import Progress
from meshllm.backends.ollama import OllamaBackend
from meshllm.backends.openai import OpenAIBackend
from meshllm.errors import BackendError, ConfigError

log = logging.getLogger(__name__)

OLLAMA_PORT = 11434
# llama.cpp, vLLM, LM Studio: their own defaults.
OPENAI_URLS = (
    "http://127.0.0.1:8080",
    "http://127.0.0.1:8000",
    "http://127.0.0.1:1234",
)
PROBE_S = 1.5  # a server of this machine that is slower has other troubles


async def open_backend(
    kind: str = "auto",
    url: str | None = None,
    *,
    parallel: int | None = None,
    model_file: Path | None = None,
    api_key: str | None = None,
    progress: Progress | None = None,
) -> Backend:
    """The backend, once it has answered. `kind`: auto, ollama, openai or embedded.

    BackendError or ConfigError says in a sentence what to do.
    """
    if model_file is not None and kind == "auto" and url is None:
        kind = "embedded"  # there is nothing else to do with a file
    match kind:
        case "ollama":
            return await _answering(
                OllamaBackend(_http(url) if url else ollama_url(), parallel=parallel)
            )
        case "openai":
            if url is None:
                raise ConfigError(
                    "Where is the OpenAI-compatible server? Say so with --url, "
                    f"for example --url {OPENAI_URLS[0]}."
                )
            return await _answering(_openai(url, api_key, parallel))
        case "embedded":
            return await open_embedded(
                parallel=parallel, model_file=model_file, progress=progress
            )
        case "auto" if url is not None:
            return await _named(url, api_key, parallel)
        case "auto":
            found = await _any_answering(api_key, parallel)
            return found or await open_embedded(parallel=parallel, progress=progress)
        case _:
            raise ConfigError(
                f"There is no backend {kind!r}: auto, ollama, openai or embedded."
            )


def ollama_url(host: str | None = None) -> str:
    """Where Ollama listens, by `OLLAMA_HOST` in any of the forms it allows."""
    text = (os.environ.get("OLLAMA_HOST", "") if host is None else host).strip()
    text = text.strip("\"'")
    if not text:
        return f"http://127.0.0.1:{OLLAMA_PORT}"
    scheme, found, rest = text.rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        given = parts.port
    except ValueError as exc:
        raise ConfigError(f"OLLAMA_HOST={text} is no address of a server.") from exc
    port = given or ({"http": 80, "https": 443}.get(scheme) if found else None)
    name = parts.hostname or "127.0.0.1"
    # It may listen on every address; one cannot ask there.
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
    name = f"[{name}]" if ":" in name else name
    return f"{scheme or 'http'}://{name}:{port or OLLAMA_PORT}{parts.path.rstrip('/')}"


async def _named(url: str, api_key: str | None, parallel: int | None) -> Backend:
    """The server at a given address, whichever API it has."""
    try:
        return await _answering(OllamaBackend(_http(url), parallel=parallel))
    except BackendError as exc:
        if exc.status in (504, 508):
            raise
    return await _answering(_openai(url, api_key, parallel))


async def _any_answering(api_key: str | None, parallel: int | None) -> Backend | None:
    """The first, in order of preference, of those that answer on this machine."""
    candidates: list[OllamaBackend | OpenAIBackend] = [
        OllamaBackend(ollama_url(), parallel=parallel),
        *(_openai(url, api_key, parallel) for url in OPENAI_URLS),
    ]
    probes = [asyncio.ensure_future(_probe(backend)) for backend in candidates]
    found: Backend | None = None
    try:
        for backend, probe in zip(candidates, probes, strict=True):
            if await probe:
                found = backend
                return found
        return None
    finally:
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        for backend in candidates:
            if backend is not found:
                await backend.aclose()


async def _probe(backend: OllamaBackend | OpenAIBackend) -> bool:
    try:
        await backend.models(timeout_s=PROBE_S)
    except BackendError as exc:
        log.debug("no backend at %s: %s", backend.url, exc)
        return False
    return True


async def _answering(backend: OllamaBackend | OpenAIBackend) -> Backend:
    try:
        await backend.models()
    except BaseException:
        await backend.aclose()
        raise
    return backend


def _openai(url: str, api_key: str | None, parallel: int | None) -> OpenAIBackend:
    return OpenAIBackend(_http(url), api_key=api_key, parallel=parallel)


def _http(url: str) -> str:
    """The address with a scheme; ConfigError for one that is none."""
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return full
    except ValueError:  # a port that is no number
        pass
    raise ConfigError(f"{url} is no address of a server; try http://HOST:PORT.")
