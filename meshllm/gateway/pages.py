"""The page's own routes: the page, its files, and what it asks about this node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from meshllm import page
from meshllm.gateway.access import QUERY
from meshllm.gateway.call import Call
from meshllm.gateway.running import loaded_at
from meshllm.routing.seam import Listed, Load

STATE = "/page/state"
PS = "/page/ps"
PS_WITHIN_S = 6.0  # a path may have to be made for it
LOAD = "Meshllm-Load"  # running and waiting, as JSON
ME = ("id", "name", "role", "mesh", "provisional")


async def root(call: Call) -> web.Response:
    """For a browser: the page, to those who were let in; else where to find the way."""
    request, access = call.request, call.access
    token = request.query.get(QUERY)
    if token is not None and access.use(token):
        response = _let_in()
    elif access.knows(request.headers):
        response = _let_in() if token is not None else page.document(request, "gateway")
    else:
        return call.adopt(_outside(is_used=token is not None))
    response.headers["Set-Cookie"] = access.cookie(request.host)
    return call.adopt(response)


def _let_in() -> web.Response:
    """A page that leads to the page. No redirect: a browser that comes from another
    site's link sends no SameSite cookie along with one."""
    response = page.plain("Opening", ["The chat page opens. If not: go to `/`."])
    response.headers["Refresh"] = "0; url=/"
    return response


def _outside(*, is_used: bool) -> web.Response:
    why = (
        "That link was used before: each works once, in one browser." if is_used else ""
    )
    return page.plain(
        "This is a gateway",
        [
            *([why] if why else []),
            "Its chat page opens with the link that `meshllm gateway` printed when it "
            "started, or that `meshllm status` shows now.",
            "Programs find Ollama's API at this address, and OpenAI's at `/v1`.",
        ],
        401,
    )


async def file(call: Call) -> web.Response:
    return call.adopt(page.file(call.request))


def _private(
    handler: Callable[[Call], Awaitable[web.Response]],
) -> Callable[[Call], Awaitable[web.Response]]:
    async def guarded(call: Call) -> web.Response:
        if not call.is_page:
            return call.error(
                403,
                "This is for the chat page alone. `meshllm status` shows a link to it.",
            )
        response = await handler(call)
        response.headers["Cache-Control"] = "no-store"
        return response

    return guarded


@_private
async def state(call: Call) -> web.Response:
    """What is there: models, paths, this node, and who waits in which place."""
    node = call.mesh.health()
    found = {
        "me": {name: node.get(name) for name in ME},
        "models": [_model(model) for model in call.mesh.models()],
        "paths": call.mesh.paths(),
        "waiting": dict(call.waiting),
        "problem": _problem(node),
    }
    return call.reply(orjson.dumps(found))


@_private
async def loaded(call: Call) -> web.Response:
    """`GET /api/ps` of one provider, dialled for it, and in a header how busy it is."""
    provider = call.request.query.get("provider", "")
    if not provider:
        return call.reply(orjson.dumps({"models": []}))
    heard: list[Load] = []
    models = await loaded_at(call.mesh, provider, PS_WITHIN_S, heard.append)
    response = call.reply(orjson.dumps({"models": models}))
    if heard:
        response.headers[LOAD] = orjson.dumps(heard[-1]._asdict()).decode()
    return response


def _problem(node: dict[str, Any]) -> str | None:
    signaling = node.get("signaling")
    if not isinstance(signaling, dict) or signaling.get("connected", True):
        return None
    why = signaling.get("reason")
    return (
        f"The signaling server {signaling.get('url') or ''} cannot be reached"
        f"{f' ({why})' if why else ''}. Providers that are connected go on answering; "
        "others are found when it is back."
    )


def _model(model: Listed) -> dict[str, Any]:
    return {
        "name": model.name,
        "digest": model.digest,
        "size": model.size,
        "modified_at": model.modified_at,
        "details": model.details,
        "capabilities": list(model.capabilities),
        "context_length": model.context_length,
        "providers": [holder._asdict() for holder in model.providers],
    }


Handler = Callable[[Call], Awaitable[web.Response]]
ROUTES: dict[str, dict[str, Handler]] = {STATE: {"GET": state}, PS: {"GET": loaded}}
