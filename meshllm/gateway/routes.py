"""Which path and method is answered by what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web

from meshllm import health, page
from meshllm.dialects import lists
from meshllm.gateway import pages
from meshllm.gateway.call import Call
from meshllm.gateway.forward import forward
from meshllm.gateway.pins import find
from meshllm.gateway.running import running

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
Methods = Mapping[str, Handler]

# The release whose API we speak: programs compare it before they use newer fields.
OLLAMA_VERSION = "0.33.0"
ONE_MODEL = "/v1/models/"
BLOBS = "/api/blobs/"


async def _root(call: Call) -> web.Response:
    if "text/html" in call.request.headers.get("Accept", ""):
        return await pages.root(call)
    return call.text("Ollama is running")


async def _version(call: Call) -> web.Response:
    return call.reply(orjson.dumps(lists.version(OLLAMA_VERSION)))


async def _tags(call: Call) -> web.Response:
    return call.reply(orjson.dumps(lists.tags(call.mesh.models())))


async def _openai_models(call: Call) -> web.Response:
    return call.reply(orjson.dumps(lists.openai_models(call.mesh.models())))


async def _openai_model(call: Call) -> web.Response:
    name = call.path.removeprefix(ONE_MODEL)
    model = find(name, call.mesh.models())
    if model is None:
        return call.error(404, f"model '{name}' not found", "model_not_found")
    return call.reply(orjson.dumps(lists.openai_model(model) | {"id": name}))


async def _health(call: Call) -> web.Response:
    facts = call.mesh.health() if call.has_key else {}
    return call.adopt(health.health(call.request, call.uptime_s, facts))


async def _ready(call: Call) -> web.Response:
    is_ready, why = call.mesh.ready()
    return call.adopt(health.ready(call.request, is_ready, {"why": why}))


async def _metrics(call: Call) -> web.Response:
    return call.adopt(call.metrics())


async def _admin(call: Call) -> web.Response:
    return call.error(
        403,
        "Models are managed where they live: this needs the provider's own machine. "
        "Run `ollama` there.",
    )


_FORWARD: Methods = {"POST": forward}
_ADMIN: Methods = {"POST": _admin}

ROUTES: Mapping[str, Methods] = {
    "/": {"GET": _root, "HEAD": _root},
    "/health": {"GET": _health, "HEAD": _health},
    "/ready": {"GET": _ready, "HEAD": _ready},
    "/metrics": {"GET": _metrics},
    "/api/version": {"GET": _version, "HEAD": _version},
    "/api/tags": {"GET": _tags, "HEAD": _tags},
    "/api/ps": {"GET": running},
    "/api/show": _FORWARD,
    "/api/chat": _FORWARD,
    "/api/generate": _FORWARD,
    "/api/embed": _FORWARD,
    "/api/embeddings": _FORWARD,
    "/api/pull": _ADMIN,
    "/api/push": _ADMIN,
    "/api/create": _ADMIN,
    "/api/copy": _ADMIN,
    "/api/delete": {"DELETE": _admin},
    "/v1/chat/completions": _FORWARD,
    "/v1/completions": _FORWARD,
    "/v1/embeddings": _FORWARD,
    "/v1/responses": _FORWARD,
    "/v1/messages": _FORWARD,
    "/v1/models": {"GET": _openai_models},
    **pages.ROUTES,
}


async def answer(call: Call) -> web.StreamResponse:
    """Runs the handler of the call's path and method, or says 404 or 405."""
    methods = _methods(call.path)
    if methods is None:
        return _not_served(call, 404, "404 page not found", {})
    handler = methods.get(call.request.method)
    if handler is None:
        allow = {"Allow": ", ".join(methods)}
        return _not_served(call, 405, "405 method not allowed", allow)
    return await handler(call)


def _methods(path: str) -> Methods | None:
    if path.startswith(ONE_MODEL) and path != ONE_MODEL:
        return {"GET": _openai_model}
    if path.startswith(BLOBS):
        return {"HEAD": _admin, "POST": _admin}
    if page.is_file(path):
        return {"GET": pages.file, "HEAD": pages.file}
    return ROUTES.get(path)


def _not_served(
    call: Call, status: int, text: str, headers: dict[str, str]
) -> web.Response:
    """In plain text, as Ollama's router does, but for OpenAI's side."""
    if call.path.startswith("/v1/"):
        return call.error(status, text, headers=headers)
    response = call.text(text, status)
    response.headers.update(headers)
    return response
