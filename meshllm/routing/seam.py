"""The seam between the local HTTP front and the mesh: one question, one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from meshllm.dialects.model import Model
from meshllm.errors import MeshError


class Load(NamedTuple):
    """Questions of everybody at one provider."""

    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP exchange that a provider shall answer (docs/protocol.md §6.4).

    `model` as the program named it, without `@PROVIDER`; None for what concerns a whole
    provider, such as `/api/ps`. `provider` pins one: a name or the start of an id.
    """

    request_id: str
    method: str
    path: str
    model: str | None
    provider: str | None
    content_type: str
    body: bytes
    on_queue: Callable[[int], None] | None = None
    """Hears our place in the provider's line, 1 being next, while we wait there."""
    on_load: Callable[[Load], None] | None = None
    """Hears with the answer to `/api/ps` how busy the provider is, if it says so."""


class Answer(Protocol):
    """A provider's answer, from the moment its head is known.

    Iterating is the back-pressure: what an iteration returned counts as consumed when
    the next one is asked for. It raises StreamReset or PeerUnreachable when the answer
    breaks off, and simply ends when it is whole. Those of the mesh can also `pour`.
    """

    @property
    def status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def provider(self) -> str:
        """Peer id of whoever answers."""
        ...

    @property
    def path(self) -> str:
        """`host`, `srflx`, `prflx`, `relay`, or `lan`, as of now."""
        ...

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of queue, connect, rtt, load, prefill, as far as known now."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Cancels the exchange unless it has ended; harmless when repeated."""


class Holder(NamedTuple):
    """A provider that has a model; `path` is None while nothing connects us."""

    id: str
    name: str
    path: str | None
    parallel: int = 1
    """Answers that it gives at once."""
    streams: int = 0
    """Exchanges of ours that run there."""


@dataclass(frozen=True, slots=True)
class Listed(Model):
    """A model that the mesh knows, and the providers present that have it."""

    providers: tuple[Holder, ...] = ()


class NoRoute(MeshError):
    """No provider answers this question; `status` is the HTTP status that says why.

    404 unknown to the mesh · 503 known, but its providers are away or busy · 502 the
    provider was lost · 504 it took too long · 508 it came round again · 403 not
    allowed · 413, 429, 400. `code` is a word for programs, as in OpenAI's errors.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class Mesh(Protocol):
    """What the gateway needs of the node behind it."""

    def models(self) -> list[Listed]:
        """All models of all providers, from the roster; never waits."""
        ...

    def paths(self) -> list[dict[str, Any]]:
        """How we are connected: `id`, `name`, `path`, `candidates`, `rtt_ms`,
        `streams` of each provider with a live session."""
        ...

    async def ask(self, ask: Ask) -> Answer:
        """Returns when the answer's head is known.

        Raises NoRoute. Cancelling it cancels the exchange.
        """
        ...

    def health(self) -> dict[str, Any]:
        """A JSON object about this node for `GET /health`."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether questions can be answered now, and one sentence why (not)."""
        ...
