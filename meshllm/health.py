"""/health and /ready: the same answers from every server of ours (aiohttp)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from meshllm import __version__


async def name_server(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """For `app.on_response_prepare`: by this header `share` and `demo` know that what
    answers is one of us, and no model server."""
    response.headers["Server"] = "meshllm"


class NamedServer(web.Server):
    """Bears our name also on what it says to a request that is no HTTP."""

    def __call__(self) -> web.RequestHandler:
        return _NamedHandler(self, loop=self._loop, **self._kwargs)


class _NamedHandler(web.RequestHandler):
    __slots__ = ()

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        response = super().handle_error(*args, **kwargs)
        response.headers["Server"] = "meshllm"
        return response


def health(
    request: web.BaseRequest, uptime_s: float, facts: Mapping[str, object]
) -> web.Response:
    """200 as long as the process answers: a JSON object, or OK for text/plain."""
    if _wants_text(request):
        return web.Response(text="OK")
    return web.json_response(
        {
            "status": "healthy",
            "version": __version__,
            "uptime_s": round(uptime_s, 1),
            **facts,
        }
    )


def ready(
    request: web.BaseRequest, is_ready: bool, facts: Mapping[str, object]
) -> web.Response:
    """200 when it can do its work, else 503: what a load balancer asks."""
    status = 200 if is_ready else 503
    if _wants_text(request):
        return web.Response(text="OK" if is_ready else "not ready", status=status)
    return web.json_response({"ready": is_ready, **facts}, status=status)


def _wants_text(request: web.BaseRequest) -> bool:
    accept = request.headers.get("Accept", "")
    return "text/plain" in accept and "application/json" not in accept
