"""The opponent: a plain WebSocket relay that forwards raw chunks, as lean as it can be.

`relay.py broker HOST` is an HTTP server; `relay.py connector BROKER MODEL_SERVER` dials
it and passes each request on. A frame is `id:u32 kind:u8 bytes`: kind 0 is a piece of
an answer, 1 its end, 2 (the other way) a request. Nothing is parsed, acknowledged,
cancelled or limited: that is why it is the toughest to beat.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import sys

import aiohttp
import uvloop
from aiohttp import web

from bench.model_server import site_url

FRAME = struct.Struct(">IB")


async def broker(host: str) -> None:
    waiting: dict[int, asyncio.Queue[bytes | None]] = {}
    ids = itertools.count()
    connectors: list[web.WebSocketResponse] = []

    async def connect(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=0)
        await socket.prepare(request)
        connectors.append(socket)
        async for message in socket:
            id, kind = FRAME.unpack_from(message.data)
            if queue := waiting.get(id):
                queue.put_nowait(message.data[5:] if kind == 0 else None)
        return socket

    async def chat(request: web.Request) -> web.StreamResponse:
        id = next(ids)
        queue = waiting[id] = asyncio.Queue()
        await connectors[0].send_bytes(FRAME.pack(id, 2) + await request.read())
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            while (data := await queue.get()) is not None:
                await response.write(data)
        finally:
            del waiting[id]
        return response

    app = web.Application(client_max_size=1 << 30)
    app.add_routes([web.get("/connect", connect), web.post("/api/chat", chat)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    print(json.dumps({"url": site_url(runner)}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


async def connector(broker_url: str, model_url: str) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def answer(id: int, body: bytes) -> None:
        async with http.post(f"{model_url}/api/chat", data=body) as response:
            async for chunk in response.content.iter_any():
                await socket.send_bytes(FRAME.pack(id, 0) + chunk)
        await socket.send_bytes(FRAME.pack(id, 1))

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        http.ws_connect(f"{broker_url}/connect", max_msg_size=0) as socket,
    ):
        print(json.dumps({"url": ""}), flush=True)
        async for message in socket:
            (id, _), body = FRAME.unpack_from(message.data), message.data[5:]
            task = asyncio.create_task(answer(id, body))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["broker", host]:
            uvloop.run(broker(host))
        case ["connector", broker_url, model_url]:
            uvloop.run(connector(broker_url, model_url))
