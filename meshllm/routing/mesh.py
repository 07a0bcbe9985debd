"""From a question to the provider that answers it, for gateway and chat."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, TypeAlias

import orjson

from meshllm.dialects import Model
from meshllm.dialects.lists import full_name
from meshllm.errors import (
    Code,
    MeshError,
    NotAllowed,
    PeerGone,
    PeerUnreachable,
    StreamReset,
)
from meshllm.protocol.exchange import (
    HeadReader,
    RequestHead,
    ResponseHead,
    encode_head,
)
from meshllm.routing.candidates import RETRY_AFTER_S, candidates
from meshllm.routing.choose import order
from meshllm.routing.links import Links
from meshllm.routing.roster import Provider, Roster, Trust
from meshllm.routing.seam import Answer, Ask, Holder, Listed, NoRoute
from meshllm.transport.link import Link, Stream
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)

WRITE_BYTES = 65_536

# Whom a question was put to, by id and connection: after a restart it is another.
Tried: TypeAlias = set[tuple[PeerId, bytes]]


class StreamAnswer:
    """An answer that arrives on a stream."""

    def __init__(
        self,
        provider: Provider,
        link: Link,
        stream: Stream,
        head: ResponseHead,
        rest: bytes,
        connect_ms: float,
    ) -> None:
        self.status = head.status
        self.content_type = head.type
        self.provider = str(provider.id)
        self.path = link.wire.carrier.kind if link.wire else "host"
        self.timing: Mapping[str, float] = {**head.timing, "connect": connect_ms}
        if link.wire and link.wire.path.rtt_s is not None:
            self.timing = {**self.timing, "rtt": link.wire.path.rtt_s * 1000}
        self._stream = stream
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
        else:
            data = await self._stream.read()
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        self._stream.reset(Code.CANCELLED, "The program went away.")


class MeshRouter:
    """Implements `routing.seam.Mesh` over a roster and its links."""

    def __init__(
        self,
        roster: Roster,
        links: Links,
        trust: Trust,
        *,
        state: Callable[[], dict[str, Any]],
    ) -> None:
        self._roster = roster
        self._links = links
        self._trust = trust
        self._state = state

    def models(self) -> list[Listed]:
        found: dict[str, tuple[Model, list[Holder]]] = {}
        for provider in self.providers:
            link = self._links.peek(provider.id)
            path = link.wire.carrier.kind if link and link.wire else None
            holder = Holder(str(provider.id), provider.name, path)
            for model in provider.models:
                _, holders = found.setdefault(full_name(model.name), (model, []))
                holders.append(holder)
        return [
            Listed(**_fields(model), providers=tuple(holders))
            for model, holders in found.values()
        ]

    async def ask(self, ask: Ask) -> Answer:
        tried: Tried = set()
        failure: NoRoute | None = None
        provider: Provider | None = self._best(self._candidates(ask), tried)
        while provider is not None:
            tried.add((provider.id, provider.announcement.conn))
            try:
                answer = await self._ask_one(provider, ask, tried)
            except MeshError as error:
                log.info("%s did not answer: %s", provider.name, error)
                failure = failure or _no_route(provider, error)
                if isinstance(error, StreamReset) and not _may_ask_another(error):
                    break
            else:
                if answer.status == 502:  # else it draws questions by failing fast
                    self._links.note_failure(provider.id)
                may_ask = answer.status in (502, 503) and self._another(ask, tried)
                if not may_ask:
                    return answer
                await answer.aclose()
            provider = self._another(ask, tried)
        assert failure is not None
        raise failure

    def _another(self, ask: Ask, tried: Tried) -> Provider | None:
        """Somebody who was not asked yet, of those who are there by now."""
        try:
            return self._best(self._candidates(ask), tried)
        except NoRoute:
            return None

    def _best(self, candidates: list[Provider], tried: Tried) -> Provider | None:
        left = [p for p in candidates if (p.id, p.announcement.conn) not in tried]
        ordered = order(left, {p.id: self._links.warmth(p.id) for p in left})
        return next(iter(ordered), None)

    def health(self) -> dict[str, Any]:
        return self._state() | {
            "providers": len(self.providers),
            "models": [model.name for model in self.models()],
        }

    def ready(self) -> tuple[bool, str]:
        if any(provider.models for provider in self.providers):
            return True, "ready"
        return False, "No provider with a model is in the mesh now."

    @property
    def providers(self) -> list[Provider]:
        """Those that are here and trusted with a prompt."""
        return [p for p in self._roster.providers if self._trust.covers(p)]

    def _candidates(self, ask: Ask) -> list[Provider]:
        return candidates(self.providers, ask.model, ask.provider, self._roster.knows)

    async def _ask_one(
        self, provider: Provider, ask: Ask, tried: Tried
    ) -> StreamAnswer:
        started = time.monotonic()
        link = await self._links.get(provider)
        stream = await link.open_stream()
        if ask.on_queue is not None:
            stream.on_info = partial(_tell_place, ask.on_queue)
        connect_ms = (time.monotonic() - started) * 1000

        def leave() -> None:
            """Nothing was answered yet, and the path is lost: do not wait for it."""
            if self._another(ask, tried) is not None:
                stream.reset(Code.GONE, "The path to the provider was lost.")

        try:
            with self._links.impatient(link, leave):
                await _send(stream, ask)
                head, rest = await _read_head(stream)
        except BaseException:
            stream.reset(Code.CANCELLED, "The program went away.")
            raise
        return StreamAnswer(provider, link, stream, head, rest, connect_ms)


def _tell_place(on_queue: Callable[[int], None], json: bytes) -> None:
    """INFO is advisory: what we do not understand is not for us."""
    with contextlib.suppress(orjson.JSONDecodeError):
        match orjson.loads(json):
            case {"queue": int() as place}:
                on_queue(place)


async def _send(stream: Stream, ask: Ask) -> None:
    head = RequestHead(
        id=ask.request_id,
        method=ask.method,
        path=ask.path,
        model=ask.model,
        type=ask.content_type,
    )
    stream.write(encode_head(head))
    for start in range(0, len(ask.body), WRITE_BYTES):
        await stream.drain()
        stream.write(ask.body[start : start + WRITE_BYTES])
    stream.finish()


async def _read_head(stream: Stream) -> tuple[ResponseHead, bytes]:
    reader = HeadReader(ResponseHead)
    while data := await stream.read():
        if (found := reader.feed(data)) is not None:
            return found
    raise PeerUnreachable("The provider's answer ended before it began.")


def _may_ask_another(error: StreamReset) -> bool:
    """Another provider may run it: this one never began, or is no more."""
    return error.retryable or error.code in (
        Code.GONE,
        Code.UNKNOWN_SESSION,
        Code.DRAINING,
        Code.BUSY,
    )


def _no_route(provider: Provider, error: MeshError) -> NoRoute:
    who = f"provider {provider.name}"
    match error:
        case (
            NotAllowed(code=Code.BUSY | Code.GONE | Code.DRAINING)
            | StreamReset(code=Code.BUSY | Code.DRAINING)
        ):
            return NoRoute(503, f"{who}: {error}", "unavailable", RETRY_AFTER_S)
        case PeerGone():  # known, but away: the same as a moment later
            return NoRoute(503, f"{who}: {error}", "no_provider", RETRY_AFTER_S)
        case NotAllowed():
            return NoRoute(403, f"{who}: {error}", "forbidden")
        case StreamReset(code=Code.TIMEOUT):
            return NoRoute(504, f"{who}: {error}", "timeout")
        case StreamReset(code=Code.TOO_LARGE):
            return NoRoute(413, f"{who}: {error}", "too_large")
    return NoRoute(502, f"{who}: {error}", "provider_lost")


def _fields(model: Model) -> dict[str, Any]:
    fields = asdict(model)
    fields.pop("providers", None)
    return fields
