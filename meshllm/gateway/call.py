"""One HTTP request of a program, and the forms in which it can be answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from meshllm.dialects import JSON, Api, api_of, error_body
from meshllm.gateway.access import PageAccess
from meshllm.routing.seam import Mesh

TEXT = "text/plain; charset=utf-8"
REQUEST_ID = "Meshllm-Request-Id"
ERROR_CODE = "Meshllm-Error"  # a word for programs; Ollama's errors have only text
RETRY_AFTER = "5"  # seconds: by then a slot may be free, or another gateway listen here
# Programs read our headers across origins too.
EXPOSED = "Meshllm-Request-Id, Meshllm-Provider, Meshllm-Path, Server-Timing"
# openai-python repeats 408, 409, 429 and 5xx. These began work or would fail again.
NOT_WORTH_REPEATING = frozenset({502, 504, 508})


@dataclass(slots=True)
class Call:
    """A request on its way through the gateway; `headers` go on whatever answers it."""

    request: web.BaseRequest
    mesh: Mesh
    id: str
    uptime_s: float  # of the gateway
    metrics: Callable[[], web.Response]
    access: PageAccess
    # Places in providers' lines, by the words that the page gave its questions.
    waiting: dict[str, int] = field(default_factory=dict)
    began_at: float = field(default_factory=time.monotonic)
    first_at: float | None = None  # when the first byte of a provider's answer came
    has_broken_off: bool = False
    has_key: bool = False
    is_page: bool = False  # the chat page asks, in a browser that was let in
    path: str = field(init=False)
    api: Api = field(init=False)
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.request.path
        self.api = api_of(self.path)
        self.headers = {"Server": "meshllm", REQUEST_ID: self.id}

    def allow_origin(self, origin: str) -> None:
        """Lets a page of `origin` read the answer."""
        self.headers["Access-Control-Allow-Origin"] = origin
        self.headers["Access-Control-Expose-Headers"] = EXPOSED
        self.headers["Vary"] = "Origin"

    def reply(
        self, body: bytes, content_type: str = JSON, status: int = 200
    ) -> web.Response:
        return web.Response(
            status=status,
            body=body,
            headers={**self.headers, "Content-Type": content_type},
        )

    def adopt(self, response: web.Response) -> web.Response:
        """A response made elsewhere, with our headers."""
        response.headers.update(self.headers)
        return response

    def text(self, text: str, status: int = 200) -> web.Response:
        return self.reply(text.encode(), TEXT, status)

    def error(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        """In the shape of the API that was called; plain text outside of both."""
        if self.path.startswith(("/api/", "/v1/")):
            body = error_body(self.api, status, message, code)
            response = self.reply(body, JSON, status)
        else:
            response = self.text(message, status)
        if status in NOT_WORTH_REPEATING:
            response.headers["x-should-retry"] = "false"
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if code is not None:
            response.headers[ERROR_CODE] = code
        response.headers.update(headers or {})
        return response
