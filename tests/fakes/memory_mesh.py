"""A mesh in memory: providers answer from a script, and tests hold its gates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshllm.routing.seam import Ask, Holder, Listed

ANN = Holder("annaaaaa" + "a" * 44, "ann", "host")
BOB = Holder("bobbbbbb" + "b" * 44, "bob", None)
LLAMA = Listed(
    name="llama3.2:1b",
    digest="d" * 64,
    size=1_321_098_329,
    modified_at="2026-08-01T10:00:00.123456789+02:00",
    details={"family": "llama", "parameter_size": "1.2B"},
    capabilities=("completion", "tools"),
    context_length=4096,
    providers=(ANN, BOB),
)
QWEN = Listed(
    name="hf.co/org/qwen:latest", modified_at="2026-08-02T00:00:00Z", providers=(BOB,)
)

# Bytes are a chunk, an event is waited for, an error is raised.
Step = bytes | asyncio.Event | Exception


@dataclass
class MemoryAnswer:
    """What a provider says, step by step, and how far the gateway has taken it."""

    content_type: str
    steps: list[Step]
    status: int = 200
    provider: str = ANN.id
    path: str = "host"
    timing: Mapping[str, float] = field(
        default_factory=lambda: {"queue": 1.0, "connect": 0.0, "rtt": 12.5}
    )
    taken: int = 0
    is_whole: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            match step:
                case bytes():
                    self.taken += 1
                    yield step
                case asyncio.Event():
                    await step.wait()
                case _:
                    raise step
        self.is_whole = True

    async def aclose(self) -> None:
        self.closed.set()


# What an ask gets; an event is waited for before the reply behind it.
Reply = MemoryAnswer | Exception | asyncio.Event


class MemoryMesh:
    """Answers every ask with the next thing in `replies`; keeps what was asked."""

    def __init__(self, *models: Listed) -> None:
        self.listed = list(models)
        self.replies: list[Reply] = []
        self.asked: list[Ask] = []
        self.has_ask = asyncio.Event()
        self.ask_cancelled = asyncio.Event()
        self.is_ready = True

    def models(self) -> list[Listed]:
        return self.listed

    def paths(self) -> list[dict[str, Any]]:
        return [{"id": ANN.id, "name": "ann", "path": "host", "rtt_ms": 12.5}]

    async def ask(self, ask: Ask) -> MemoryAnswer:
        self.asked.append(ask)
        self.has_ask.set()
        reply = self.replies.pop(0)
        while isinstance(reply, asyncio.Event):
            try:
                await reply.wait()
            except asyncio.CancelledError:
                self.ask_cancelled.set()
                raise
            reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def health(self) -> dict[str, Any]:
        return {"peers": 2}

    def ready(self) -> tuple[bool, str]:
        if self.is_ready:
            return True, "One provider is connected."
        return False, "No provider is present."
