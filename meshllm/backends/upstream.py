"""HTTP to one model server, over TCP or a Unix socket; closing cancels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from meshllm.errors import BackendError

log = logging.getLogger(__name__)

# Shorter than the servers: uvicorn closes an idle connection after 5 s.
KEPT_S = 3.0
CONNECT_S = 5.0  # a model server is near; one that is off must not hold a request
LIST_S = 10.0  # lists and properties are small: a server that is slower is stuck
# aiohttp stops reading the socket at twice this, so a paused reader stalls the server.
READ_BUFFER = 64 * 1024
LIST_LIMIT = 16 * 1024 * 1024

_BROKEN = (aiohttp.ClientError, TimeoutError, ConnectionError)


class UpstreamResponse:
    """A response in progress; satisfies BackendResponse."""

    def __init__(self, raw: aiohttp.ClientResponse, where: str, head_ms: float) -> None:
        self._raw = raw
        self._where = where
        self.status = raw.status
        self.server = raw.headers.get("Server", "")
        self.content_type = raw.headers.get("Content-Type", "application/octet-stream")
        self.timing: dict[str, float] = {"backend": round(head_ms, 1)}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._raw.content.iter_any():
                yield chunk
        except _BROKEN as exc:
            raise BackendError(f"{self._where} broke off in mid-answer.") from exc

    async def read(self, limit: int = LIST_LIMIT) -> bytes:
        """The whole body; BackendError when it is longer than `limit` bytes."""
        body = bytearray()
        async for chunk in self:
            body += chunk
            if len(body) > limit:
                raise BackendError(f"{self._where} answered with more than {limit} B.")
        return bytes(body)

    async def aclose(self) -> None:
        self._raw.close()


class Upstream:
    """The address of one model server, and a client for it.

    A connection serves one exchange: on loopback that costs less than it costs to find
    out, after a request was sent, that an idle connection was just being closed.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, socket: Path | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._socket = socket
        self._headers = {"Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None
        self._where = f"The model server at {self.url}"

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
        try:
            raw = await self._request(method, path, body, request_id)
        except aiohttp.ClientConnectorError as exc:
            raise BackendError(
                f"{self._where} does not answer. Is it running?"
            ) from exc
        except TimeoutError as exc:
            raise BackendError(f"{self._where} does not answer.", 504) from exc
        except _BROKEN as exc:
            raise BackendError(f"{self._where} hung up before it answered.") from exc
        try:
            self._check(raw)
        except BackendError:
            raw.close()
            raise
        return UpstreamResponse(raw, self._where, (time.monotonic() - began) * 1000)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
            raise BackendError(f"{self._where} does not answer.", 504) from exc
        if response.status != 200:
            raise BackendError(f"{self._where} answered {path} with {response.status}.")
        try:
            return orjson.loads(content), response.server
        except orjson.JSONDecodeError as exc:
            raise BackendError(f"{self._where} answered {path} without JSON.") from exc

    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None, request_id: str
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = self._open()
        headers = {"Meshllm-Request-Id": request_id} if request_id else {}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["Content-Type"] = "application/json"
        return await self._session.request(
            method, self.url + path, data=data, headers=headers, allow_redirects=False
        )

    def _open(self) -> aiohttp.ClientSession:
        connector: aiohttp.BaseConnector
        if self._socket is not None:
            connector = aiohttp.UnixConnector(
                path=str(self._socket), force_close=True, limit=0
            )
        else:
            connector = aiohttp.TCPConnector(keepalive_timeout=KEPT_S, limit=0)
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            # No limit between tokens: a model may think for minutes before the first.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            read_bufsize=READ_BUFFER,
        )

    def _check(self, raw: aiohttp.ClientResponse) -> None:
        if raw.headers.get("Server", "").startswith("meshllm"):
            raise BackendError(
                f"{self._where} is meshllm itself, which would ask in circles. "
                "Give the address of a model server with --url.",
                508,
            )
        if 300 <= raw.status < 400:
            raise BackendError(
                f"{self._where} redirects to another address. "
                "Redirects are not followed: give the final address with --url."
            )
