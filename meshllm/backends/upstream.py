"""HTTP to one model server, over TCP or a Unix socket; closing cancels."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from meshllm.backends.connection import Broken, Connection
from meshllm.errors import BackendError
from meshllm.pour import Pouring, Sink

log = logging.getLogger(__name__)

# Shorter than the servers: uvicorn closes an idle connection after 5 s.
KEPT_S = 3.0
CONNECT_S = 5.0  # a model server is near; one that is off must not hold a request
LIST_S = 10.0  # lists and properties are small: a server that is slower is stuck
LIST_LIMIT = 16 * 1024 * 1024


class UpstreamResponse(Pouring):
    """A response in progress; satisfies BackendResponse."""

    def __init__(self, upstream: Upstream, raw: Connection, head_ms: float) -> None:
        self._upstream = upstream
        self._raw: Connection | None = raw
        self.status = raw.status
        self.server = raw.headers.get("server", "")
        self.content_type = raw.headers.get("content-type", "application/octet-stream")
        self.timing: dict[str, float] = {"backend": round(head_ms, 1)}

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._raw is None:
            raise StopAsyncIteration
        try:
            data = await self._raw.read()
        except Broken as exc:
            raise self._broken() from exc
        if not data:
            self._end()
            raise StopAsyncIteration
        return data

    async def pour(self, sink: Sink) -> None:
        """What is to come, unread, to its end."""
        if self._raw is None:
            return
        try:
            await self._raw.pour(sink)
        except Broken as exc:
            raise self._broken() from exc
        self._end()

    async def read(self, limit: int = LIST_LIMIT) -> bytes:
        """The whole body; BackendError when it is longer than `limit` bytes."""
        body = bytearray()
        async for chunk in self:
            body += chunk
            if len(body) > limit:
                where = self._upstream.where
                raise BackendError(f"{where} answered with more than {limit} B.")
        return bytes(body)

    async def aclose(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.abort()

    def _broken(self) -> BackendError:
        return BackendError(f"{self._upstream.where} broke off in mid-answer.")

    def _end(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            self._upstream.keep(raw)


class Upstream:
    """The address of one model server, and a client for it.

    A connection is kept for a moment, but for a Unix socket's: there it costs less to
    make one than to find out that an idle one was just being closed.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, socket: Path | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.where = f"The model server at {self.url}"
        self._socket = socket
        self._parts = urlsplit(self.url)
        self._tls = ssl.create_default_context() if self._is_tls else None
        self._headers = {
            "Host": self._parts.netloc.rpartition("@")[2],
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": "meshllm",
        }
        if self._parts.username is not None:
            user, password = self._parts.username, self._parts.password or ""
            pair = f"{unquote(user)}:{unquote(password)}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._kept: dict[Connection, asyncio.TimerHandle] = {}

    async def get_json(self, path: str, *, timeout_s: float = LIST_S) -> Any:
        """The JSON that a GET of `path` answers. BackendError for anything else."""
        body, _ = await self._exchange("GET", path, None, timeout_s)
        return body

    async def post_json(
        self, path: str, body: dict[str, Any], *, timeout_s: float = LIST_S
    ) -> Any:
        """The same for a POST."""
        answer, _ = await self._exchange("POST", path, body, timeout_s)
        return answer

    async def server_of(self, path: str, *, timeout_s: float) -> tuple[Any, str]:
        """A GET's JSON and its Server header, to tell what answers here."""
        return await self._exchange("GET", path, None, timeout_s)

    async def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        request_id: str = "",
    ) -> UpstreamResponse:
        """Returns at the response's head. Cancelling closes the socket."""
        began = time.monotonic()
        raw = await self._connection()
        headers = self._headers
        if request_id:
            headers = headers | {"Meshllm-Request-Id": request_id}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers = headers | {"Content-Type": "application/json"}
        line = f"{method} {self._parts.path}{path} HTTP/1.1"
        try:
            await raw.request(line, headers, data)
            self._check(raw)
        except Broken as exc:
            raise BackendError(f"{self.where} {exc} before it answered.") from exc
        except BaseException:
            raw.abort()
            raise
        return UpstreamResponse(self, raw, (time.monotonic() - began) * 1000)

    def keep(self, raw: Connection) -> None:
        """For the next exchange, if that comes within 3 s."""
        if self._socket is None and raw.is_reusable:
            loop = asyncio.get_running_loop()
            self._kept[raw] = loop.call_later(KEPT_S, self._drop, raw)
        else:
            raw.abort()

    async def aclose(self) -> None:
        for raw in list(self._kept):
            self._drop(raw)

    async def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float
    ) -> tuple[Any, str]:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self.send(method, path, body)
                try:
                    content = await response.read()
                finally:
                    await response.aclose()
        except TimeoutError as exc:
            raise BackendError(f"{self.where} does not answer.", 504) from exc
        if response.status != 200:
            raise BackendError(f"{self.where} answered {path} with {response.status}.")
        try:
            return orjson.loads(content), response.server
        except orjson.JSONDecodeError as exc:
            raise BackendError(f"{self.where} answered {path} without JSON.") from exc

    async def _connection(self) -> Connection:
        while self._kept:
            raw, timer = self._kept.popitem()
            timer.cancel()
            if raw.is_reusable:
                return raw
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._connect()
        except TimeoutError as exc:
            raise BackendError(f"{self.where} does not answer.", 504) from exc
        except ssl.SSLError as exc:
            reason = exc.reason or "no TLS"
            raise BackendError(f"{self.where} cannot be trusted: {reason}.") from exc
        except OSError as exc:
            raise BackendError(f"{self.where} does not answer. Is it running?") from exc

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._socket is not None:
            _, raw = await loop.create_unix_connection(Connection, str(self._socket))
            return raw
        host = self._parts.hostname or "localhost"
        port = self._parts.port or (443 if self._is_tls else 80)
        _, raw = await loop.create_connection(Connection, host, port, ssl=self._tls)
        return raw

    @property
    def _is_tls(self) -> bool:
        return self._parts.scheme == "https"

    def _drop(self, raw: Connection) -> None:
        self._kept.pop(raw).cancel()
        raw.abort()

    def _check(self, raw: Connection) -> None:
        if raw.headers.get("server", "").startswith("meshllm"):
            raise BackendError(
                f"{self.where} is meshllm itself, which would ask in circles. "
                "Give the address of a model server with --url.",
                508,
            )
        if 300 <= raw.status < 400:
            raise BackendError(
                f"{self.where} redirects to another address. "
                "Redirects are not followed: give the final address with --url."
            )
