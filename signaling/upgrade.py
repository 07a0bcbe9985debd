"""A WebSocket out of an HTTP request: the handshake of RFC 6455 §4.2, and what is left.

aiohttp would keep the request, its headers, a parser, two tasks and a timer for as long
as the WebSocket lives: three quarters of what an idle member costs.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from typing import Final

from aiohttp import web

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def take(request: web.Request, heir: asyncio.Protocol) -> asyncio.Transport | None:
    """Accepts the WebSocket: from now on its bytes go to `heir`. None when the caller
    is gone already; HTTPBadRequest when it asked for none."""
    accept = _accept(request)
    handler, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        return None
    transport.set_protocol(heir)
    handler.transport = None  # or it would close the connection that it ...
    handler.connection_lost(None)  # ... is told is gone
    transport.write(
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n"
        b"Server: meshllm\r\n\r\n"
    )
    return transport


def _accept(request: web.Request) -> bytes:
    """The answer to the request's key."""
    headers = request.headers
    if (
        headers.get("Upgrade", "").strip().lower() != "websocket"
        or "upgrade" not in _listed(headers.get("Connection", ""))
        or headers.get("Sec-WebSocket-Version", "").strip() != "13"
    ):
        raise web.HTTPBadRequest(
            text="A WebSocket of version 13 was expected.\n",
            headers={"Sec-WebSocket-Version": "13"},
        )
    key = headers.get("Sec-WebSocket-Key", "").strip().encode()
    if not _is_key(key):
        raise web.HTTPBadRequest(text="Bad Sec-WebSocket-Key header.\n")
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest)


def _listed(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
