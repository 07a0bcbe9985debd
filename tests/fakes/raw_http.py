"""A program that speaks HTTP by hand, to send and see every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


@asynccontextmanager
async def connected(
    url: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TCP connection to `url`, closed at the end whatever happens."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, limit=1024 * 64
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(url: str, request: bytes) -> bytes:
    """Everything the server sends until it closes the connection."""
    async with connected(url) as (reader, writer):
        writer.write(request)
        return await reader.read()


def post(path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    """A POST as bytes."""
    head = [
        f"POST {path} HTTP/{version}",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
