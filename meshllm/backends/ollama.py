"""Ollama itself: what it streams is passed on byte by byte, unread."""

from __future__ import annotations

import asyncio
from typing import Any

from meshllm.backends.base import BackendRequest, BackendResponse, Model
from meshllm.backends.checked import checked
from meshllm.backends.upstream import LIST_S, Upstream
from meshllm.errors import BackendError

SHOWS_AT_ONCE = 4  # an old Ollama is asked about each model by itself


class OllamaBackend:
    """An Ollama server at `url`."""

    kind = "ollama"

    def __init__(self, url: str, *, parallel: int | None = None) -> None:
        self.url = url.rstrip("/")
        self.parallel = parallel
        self._upstream = Upstream(self.url)
        self._shown: dict[str, dict[str, Any]] = {}  # by digest: it never changes

    async def models(self, *, timeout_s: float = LIST_S) -> list[Model]:
        """From `/api/tags`; what an old Ollama leaves out there, from `/api/show`.

        Models that Ollama itself would send elsewhere are left out: whoever asks here
        means this machine.
        """
        answer = await self._upstream.get_json("/api/tags", timeout_s=timeout_s)
        entries = answer.get("models", 0) if isinstance(answer, dict) else 0
        if not isinstance(entries, list | None):
            raise BackendError(f"{self.url} does not speak Ollama's API.")
        local = [
            entry
            for entry in entries or ()
            if isinstance(entry, dict)
            and not entry.get("remote_host")
            and (entry.get("name") or entry.get("model"))
        ]
        slots = asyncio.Semaphore(SHOWS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._model(entry, slots)) for entry in local]
        return [task.result() for task in asked]

    async def run(self, request: BackendRequest) -> BackendResponse:
        response = await self._upstream.send(
            request.method, request.path, request.body, request.request_id
        )
        return await checked(response, request.path, self._upstream.where)

    async def aclose(self) -> None:
        await self._upstream.aclose()

    async def _model(self, entry: dict[str, Any], slots: asyncio.Semaphore) -> Model:
        name = str(entry.get("name") or entry["model"])
        digest = str(entry.get("digest") or "")
        details = dict(entry.get("details") or {})
        capabilities = entry.get("capabilities")
        context = details.get("context_length")
        if not capabilities or not context:
            async with slots:
                shown = await self._show(name, digest)
            capabilities = capabilities or shown.get("capabilities") or ["completion"]
            context = context or _context_length(shown.get("model_info") or {})
        return Model(
            name=name,
            digest=digest,
            size=int(entry.get("size") or 0),
            modified_at=str(entry.get("modified_at") or ""),
            details=details,
            capabilities=tuple(str(item) for item in capabilities),
            context_length=int(context or 0),
        )

    async def _show(self, name: str, digest: str) -> dict[str, Any]:
        if digest in self._shown:
            return self._shown[digest]
        try:
            shown = await self._upstream.post_json("/api/show", {"model": name})
        except BackendError:  # it was deleted just now; the next list lacks it
            return {}
        kept = shown if isinstance(shown, dict) else {}
        if digest:
            self._shown[digest] = {
                key: kept.get(key) for key in ("capabilities", "model_info")
            }
        return kept


def _context_length(info: dict[str, Any]) -> int:
    for key, value in info.items():
        if key.endswith(".context_length") and isinstance(value, int):
            return value
    return 0
