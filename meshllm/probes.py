"""A port of this machine for probes: /health, /ready and /metrics of what has none."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from meshllm import health
from meshllm.errors import ConfigError
from meshllm.metrics import Metrics


@asynccontextmanager
async def probe_port(
    port: int,
    facts: Callable[[], dict[str, Any]],
    is_ready: Callable[[], tuple[bool, str]],
    metrics: Metrics,
) -> AsyncIterator[str]:
    """Serves on loopback and gives its URL. ConfigError when the port is taken."""
    began = time.monotonic()

    async def healthy(request: web.Request) -> web.Response:
        return health.health(request, time.monotonic() - began, facts())

    async def ready(request: web.Request) -> web.Response:
        is_up, why = is_ready()
        return health.ready(request, is_up, {"why": why})

    async def measured(_: web.Request) -> web.Response:
        return metrics.page()

    app = web.Application()
    app.on_response_prepare.append(health.name_server)
    app.router.add_get("/health", healthy)
    app.router.add_get("/ready", ready)
    app.router.add_get("/metrics", measured)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as exc:
            why = (
                "is in use"
                if exc.errno == errno.EADDRINUSE
                else f"cannot be used ({os.strerror(exc.errno or 0)})"
            )
            raise ConfigError(
                f"Port {port} {why}. Choose another with `--health-port`; 0 takes a "
                "free one."
            ) from exc
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
