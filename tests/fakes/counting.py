"""`python -m tests.fakes.counting [PORT]`: a model server that counts, as a process.

It can be killed and frozen. What it says is in the prompt, a JSON object: `lines`
numbered lines, one every `every_ms`, the first after `head_ms`, each with `pad` more
bytes of two-byte characters. `GET /counts` tells Counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from meshllm.processes import exit_when_parent_dies

MODEL = "count:1b"


@dataclass
class Counts:
    begun: int = 0
    running: int = 0
    sent: int = 0  # bytes of streams that our socket took
    heard: str = ""  # SHA-256 of the last message of the latest question


@dataclass(frozen=True)
class Plan:
    """What an answer shall be."""

    lines: int
    every_ms: float = 0.0
    head_ms: float = 0.0
    pad: int = 0

    @property
    def prompt(self) -> str:
        return json.dumps(asdict(self))


def text_of(plan: Plan, number: int) -> str:
    return f"{number} " + "ä" * (plan.pad // 2)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plan(body: dict[str, Any]) -> Plan:
    return Plan(**json.loads(body["messages"][0]["content"]))


async def _numbers(plan: Plan) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(plan.head_ms / 1000)
    began = clock()
    for number in range(plan.lines):
        due = began + number * plan.every_ms / 1000
        if plan.every_ms:
            await asyncio.sleep(max(0.0, due - clock()))
        yield text_of(plan, number)


class CountingServer:
    def __init__(self, model: str = MODEL) -> None:
        self.counts = Counts()
        self._model = model

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.get("/", self._root),
                web.get("/counts", self._counts),
                web.get("/api/version", self._version),
                web.get("/api/tags", self._tags),
                web.post("/api/chat", self._chat),
                web.post("/v1/chat/completions", self._completions),
            ]
        )
        return app

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _counts(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self.counts))

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.33.0"})

    async def _tags(self, _: web.Request) -> web.Response:
        details = {"family": "count", "context_length": 4096}
        named = {"name": self._model, "model": self._model}
        tag = named | {"size": 1, "digest": "0" * 64}
        more = {"details": details, "capabilities": ["completion"]}
        return web.json_response({"models": [tag | more]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.counts.heard = digest(body["messages"][-1]["content"])
        last = {"model": MODEL, "message": {"content": ""}, "done": True}
        if body.get("stream") is False:
            with self._counted():
                said = "".join([text async for text in _numbers(_plan(body))])
                whole = last | {"message": {"role": "assistant", "content": said}}
                return web.json_response(whole)

        def line(text: str) -> bytes:
            said = {"role": "assistant", "content": text}
            return _json({"model": MODEL, "message": said, "done": False}) + b"\n"

        end = _json(last | {"done_reason": "stop", "eval_count": 1}) + b"\n"
        return await self._stream(
            request, _plan(body), "application/x-ndjson", line, end
        )

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        def event(text: str) -> bytes:
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            chunk = {"object": "chat.completion.chunk", "choices": [choice]}
            return b"data: " + _json(chunk) + b"\n\n"

        plan = _plan(await request.json())
        return await self._stream(
            request, plan, "text/event-stream", event, b"data: [DONE]\n\n"
        )

    async def _stream(
        self, request: web.Request, plan: Plan, kind: str, say: Any, end: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        with self._counted():
            numbers = _numbers(plan)
            first = await anext(numbers, None)  # a real one has no head before it
            await response.prepare(request)
            if first is not None:
                await self._write(response, say(first))
            async for text in numbers:
                await self._write(response, say(text))
            await response.write(end)
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        await response.write(data)
        self.counts.sent += len(data)

    @contextlib.contextmanager
    def _counted(self) -> Any:
        self.counts.begun += 1
        self.counts.running += 1
        try:
            yield
        finally:
            self.counts.running -= 1


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


async def main() -> None:
    runner = web.AppRunner(
        CountingServer().app(), access_log=None, handler_cancellation=True
    )
    await runner.setup()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    host, port = runner.addresses[0][:2]
    sys.stdout.write(json.dumps({"url": f"http://{host}:{port}"}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    exit_when_parent_dies()
    asyncio.run(main())
