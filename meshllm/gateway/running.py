"""`GET /api/ps`: asks the providers we are connected to what they have loaded."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from meshllm.errors import MeshError
from meshllm.gateway.call import Call
from meshllm.routing.seam import Ask, Load, Mesh

# A view that is open in a program is refreshed every few seconds: a provider that is
# slow to say, or not connected, is left out rather than waited or dialled for.
ANSWER_S = 1.0
PROVIDERS_ASKED = 16
ANSWER_LIMIT = 256 * 1024  # bytes


async def running(call: Call) -> web.Response:
    """What is loaded at any connected provider, as one list, longest expiry first."""
    connected = {
        holder.id: None
        for model in call.mesh.models()
        for holder in model.providers
        if holder.path is not None
    }
    async with asyncio.TaskGroup() as group:
        answers = [
            group.create_task(loaded_at(call.mesh, provider))
            for provider in list(connected)[:PROVIDERS_ASKED]
        ]
    loaded = [model for answer in answers for model in answer.result()]
    loaded.sort(key=_expiry, reverse=True)
    return call.reply(orjson.dumps({"models": loaded}))


async def loaded_at(
    mesh: Mesh,
    provider: str,
    within_s: float = ANSWER_S,
    on_load: Callable[[Load], None] | None = None,
) -> list[dict[str, Any]]:
    """A provider's own answer; empty when it has none in time."""
    ask = Ask(
        request_id=secrets.token_hex(16),
        method="GET",
        path="/api/ps",
        model=None,
        provider=provider,
        content_type="",
        body=b"",
        on_load=on_load,
    )
    body = bytearray()
    try:
        async with (
            asyncio.timeout(within_s),
            aclosing(await mesh.ask(ask)) as answer,
        ):
            async for chunk in answer:
                body += chunk
                if len(body) > ANSWER_LIMIT:
                    return []
        found = orjson.loads(body)
    except (MeshError, TimeoutError, orjson.JSONDecodeError):
        return []
    models = found.get("models") if isinstance(found, dict) else None
    if not isinstance(models, list):
        return []
    return [model for model in models if isinstance(model, dict)]


def _expiry(model: dict[str, Any]) -> datetime:
    """When a model will be unloaded; providers write the time in their own zones."""
    try:
        return datetime.fromisoformat(model["expires_at"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)
