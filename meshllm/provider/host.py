"""A provider at work: its backend's models, its sessions, its slots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from meshllm.backends.base import Backend, Model
from meshllm.errors import BackendError
from meshllm.provider.exchange import Served, serve
from meshllm.provider.policy import visible
from meshllm.provider.sessions import Guest, Sessions
from meshllm.provider.slots import Slots
from meshllm.transport.link import Stream
from meshllm.trust.admission import Admission

log = logging.getLogger(__name__)

LOOK_S = 10.0  # how soon a model that was pulled or removed is known


class Host:
    """`recheck` raises when an admission no longer holds (expired, revoked)."""

    def __init__(
        self,
        backend: Backend,
        *,
        parallel: int,
        queue: int,
        shared: tuple[str, ...],
        recheck: Callable[[Admission], None],
    ) -> None:
        self.backend = backend
        self.slots = Slots(parallel, queue)
        self.models: list[Model] = []  # as announced: none while the backend is away
        self._known: list[Model] = []  # as last seen: what a request may still name
        self.on_models: Callable[[], None] = lambda: None
        self._shared = shared
        self._recheck = recheck
        self._is_up = True
        self._exchanges: set[asyncio.Task[None]] = set()
        self._served = Served(backend, self.slots, lambda: self._known, recheck)
        self.sessions = Sessions(
            self._on_stream, is_waiting=self._served.waiting.__contains__
        )

    async def look(self) -> bool:
        """Ask the backend what it offers; True when that changed."""
        try:
            models = visible(await self.backend.models(), self._shared)
            self._known = models
            self._is_up = True
        except BackendError as error:
            if self._is_up:
                log.warning("the model server does not answer: %s", error)
            self._is_up = False
            models = []
        changed = models != self.models
        self.models = models
        return changed

    async def watch(self) -> None:
        """Look again every 10 s, for as long as the node runs."""
        while True:
            await asyncio.sleep(LOOK_S)
            if await self.look():
                log.info("models: %s", ", ".join(m.name for m in self.models) or "none")
                self.on_models()

    @property
    def is_up(self) -> bool:
        """Whether the model server answered when it was last asked."""
        return self._is_up

    def recheck(self) -> None:
        """Rights have changed: end the sessions that have none any more."""
        self.sessions.recheck(self._recheck)

    async def drain(self) -> None:
        """Take nothing new; returns when what runs has ended."""
        await self.sessions.drain()

    async def close(self) -> None:
        for task in list(self._exchanges):
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self.sessions.close()

    def ready(self) -> tuple[bool, str]:
        """Whether it can answer, and one sentence why (not)."""
        if self.models:
            return True, "ready"
        if not self._is_up:
            return False, "The model server does not answer."
        return False, "The model server has no model."

    def status(self) -> dict[str, Any]:
        return {
            "backend": self.backend.kind,
            "url": self.backend.url,
            "llm_available": self._is_up,
            "models": [model.name for model in self.models],
            "parallel": self.slots.parallel,
            "running": self.slots.running,
            "waiting": self.slots.waiting,
            "clients": len(self.sessions.guests),
        }

    def guest_rows(self) -> list[dict[str, Any]]:
        return [_row(guest) for guest in self.sessions.guests]

    def _on_stream(self, stream: Stream, admission: Admission) -> None:
        task = asyncio.create_task(
            serve(stream, admission, self._served), name=f"serve {admission.name}"
        )
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)


def _row(guest: Guest) -> dict[str, Any]:
    return {
        "id": str(guest.admission.id),
        "name": guest.admission.name,
        "role": guest.admission.role.value,
        "direction": "client",
        "models": [],
        "found": {},  # it found us
    } | guest.link.describe()
