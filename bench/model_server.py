"""A scripted model server: tokens at a given rate, each stamped when it was written.

`POST /api/chat` with `{"bench": {"tokens": N, "rate": tokens per second or 0, "size":
bytes}}`. A chunk is one NDJSON line whose `t` is CLOCK_MONOTONIC in nanoseconds, which
all processes of one machine share. `model_server.py [HOST]` listens on a free port.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from aiohttp import web

LOOPBACK = "127.0.0.1"
MODEL = {"name": "bench:1b", "model": "bench:1b", "details": {}, "size": 1}


async def chat(request: web.Request) -> web.StreamResponse:
    wish = (await request.json())["bench"]
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    pad = "x" * wish.get("size", 0)
    rate, count = wish["rate"], wish["tokens"]
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for n in range(count):
        if rate:
            await asyncio.sleep(max(0.0, begun + n / rate - loop.time()))
        line = f'{{"t":{time.monotonic_ns()},"n":{n},"content":"{pad}","done":false}}\n'
        await response.write(line.encode())
    await response.write(b'{"done":true}\n')
    return response


async def tags(request: web.Request) -> web.Response:
    return web.json_response({"models": [MODEL]})


async def root(request: web.Request) -> web.Response:
    return web.Response(text="Ollama is running")


async def version(request: web.Request) -> web.Response:
    return web.json_response({"version": "0.33.0"})


async def main(host: str = LOOPBACK) -> None:
    app = web.Application()
    app.add_routes(
        [
            web.post("/api/chat", chat),
            web.get("/api/tags", tags),
            web.get("/api/version", version),
            web.get("/", root),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    print(json.dumps({"url": site_url(runner)}), flush=True)
    await asyncio.to_thread(sys.stdin.read)  # ends with whoever started it
    await runner.cleanup()


def site_url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
