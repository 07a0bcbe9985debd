"""Reads a backend's responses in tests."""

from __future__ import annotations

import itertools
import json
from typing import Any

from meshllm.backends.base import BackendRequest, BackendResponse

_ids = itertools.count(1)


def asking(
    path: str, body: dict[str, Any] | None = None, requested: str | None = None
) -> BackendRequest:
    """A POST when there is a body, else a GET; every one with an id of its own."""
    method = "GET" if body is None else "POST"
    return BackendRequest(method, path, body, f"request-{next(_ids)}", requested)


async def read_all(response: BackendResponse) -> bytes:
    try:
        return b"".join([chunk async for chunk in response])
    finally:
        await response.aclose()


async def read_json(response: BackendResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await read_all(response))
    return found


async def read_lines(response: BackendResponse) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await read_all(response)).splitlines()]
