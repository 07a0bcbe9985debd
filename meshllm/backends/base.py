"""The seam between the provider and any model server: a request in, bytes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from meshllm.dialects import Model

__all__ = ["Backend", "BackendRequest", "BackendResponse", "Model", "WholeResponse"]


@dataclass(frozen=True, slots=True)
class BackendRequest:
    """One exchange, already parsed, resolved, allowed and clamped by the provider.

    `body["model"]` is a Model.name of the backend's own list. `request_id` goes to the
    backend as the header Meshllm-Request-Id, so that a request which comes round again
    is known. `requested_model` is the name as the program spelled it: a translated
    answer echoes it, like Ollama does.
    """

    method: str
    path: str
    body: dict[str, Any] | None
    request_id: str
    requested_model: str | None = None


class BackendResponse(Protocol):
    """An answer whose head is known and whose body comes in chunks.

    Chunks are bytes of the API that was asked; when passed through they may cut a line
    or a character anywhere. Iterating raises BackendError when the model server breaks
    off: what was yielded stands, and the caller ends it with `stream_error`. `timing`
    is in milliseconds, and may grow while the body comes.
    """

    @property
    def status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def timing(self) -> dict[str, float]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None:
        """Closes the backend's socket, which stops the model. May be called again."""


class Backend(Protocol):
    """One model server."""

    @property
    def kind(self) -> str:
        """`ollama`, `openai` or `embedded`."""

    @property
    def url(self) -> str: ...
    @property
    def parallel(self) -> int | None:
        """How many requests it runs at once, when it tells."""

    async def models(self) -> list[Model]:
        """What it offers now. BackendError when it does not answer."""

    async def run(self, request: BackendRequest) -> BackendResponse:
        """Returns when the head of the response is known.

        For `stream: false` on a translated or collected path that is when all of it is.
        Cancelling the call cancels the exchange. An error of the model server is a
        response; BackendError is one that it could not even answer.
        """

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class WholeResponse:
    """A response that is there already."""

    status: int
    content_type: str
    body: bytes
    timing: dict[str, float] = field(default_factory=dict)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.body:
            yield self.body

    async def aclose(self) -> None:
        """Nothing is open."""
