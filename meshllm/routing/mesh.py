"""From a question to the provider that answers it, for gateway and chat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeAlias

from meshllm.dialects import Model
from meshllm.dialects.lists import full_name
from meshllm.errors import (
    Code,
    MeshError,
    NotAllowed,
    PeerGone,
    StreamReset,
)
from meshllm.routing.answers import StreamAnswer, read_head, send, tell
from meshllm.routing.candidates import RETRY_AFTER_S, candidates
from meshllm.routing.choose import order
from meshllm.routing.links import Links
from meshllm.routing.revival import LOOK_S
from meshllm.routing.roster import Provider, Roster, Trust
from meshllm.routing.seam import Answer, Ask, Holder, Listed, NoRoute
from meshllm.transport.link import Link
from meshllm.trust.keys import PeerId

log = logging.getLogger(__name__)

# Longer than connecting takes anywhere but behind the worst of networks; then another
# provider is asked meanwhile, if one is at hand.
PATIENCE_S = 4.0

# Whom a question was put to, by id and connection: after a restart it is another.
Tried: TypeAlias = set[tuple[PeerId, bytes]]


class _NotNow(Exception):
    """It does not answer now, another could; it may be asked again after that one."""


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
            holder = Holder(
                str(provider.id),
                provider.name,
                path,
                provider.announcement.parallel,
                link.load if link else 0,
            )
            for model in provider.models:
                _, holders = found.setdefault(full_name(model.name), (model, []))
                holders.append(holder)
        return [
            Listed(**_fields(model), providers=tuple(holders))
            for model, holders in found.values()
        ]

    def paths(self) -> list[dict[str, Any]]:
        linked = ((p, self._links.peek(p.id)) for p in self.providers)
        return [
            {"id": str(provider.id), "name": provider.name} | link.describe()
            for provider, link in linked
            if link is not None
        ]

    async def ask(self, ask: Ask) -> Answer:
        tried: Tried = set()
        failure: NoRoute | None = None
        provider: Provider | None = self._best(self._candidates(ask), tried)
        while provider is not None:
            tried.add(_key(provider))
            try:
                answer = await self._ask_one(provider, ask, tried)
            except _NotNow:
                log.info("%s is silent: another is asked", provider.name)
                following = self._another(ask, tried)
                tried.discard(_key(provider))
                provider = following or self._another(ask, tried)
                continue
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
        raise failure or NoRoute(
            503,
            "No provider that has the model answers now.",
            "unavailable",
            RETRY_AFTER_S,
        )

    def _another(self, ask: Ask, tried: Tried) -> Provider | None:
        """Somebody who was not asked yet, of those who are there by now."""
        try:
            return self._best(self._candidates(ask), tried)
        except NoRoute:
            return None

    def _is_another_at_hand(self, ask: Ask, tried: Tried) -> bool:
        """Whether somebody else would probably answer at once."""
        another = self._another(ask, tried)
        if another is None:
            return False
        return not self._links.warmth(another.id).failed_lately

    def _best(self, candidates: list[Provider], tried: Tried) -> Provider | None:
        left = [provider for provider in candidates if _key(provider) not in tried]
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
        link = self._links.warm(provider) or await self._reach(provider, ask, tried)
        stream = await link.open_stream()
        stream.on_info = partial(tell, ask)
        connect_ms = (time.monotonic() - started) * 1000

        has_left = False

        def leave() -> None:
            """Nothing was answered yet, and the provider is silent."""
            nonlocal has_left
            if self._is_another_at_hand(ask, tried):
                has_left = True
                stream.reset(Code.CANCELLED, "Another provider is asked.")

        try:
            with self._links.impatient(link, leave):
                await send(stream, ask)
                head, rest = await read_head(stream)
        except BaseException as error:
            stream.reset(Code.CANCELLED, "The program went away.")
            if has_left and isinstance(error, StreamReset):
                raise _NotNow from error
            raise
        return StreamAnswer(provider, link, stream, head, rest, connect_ms)

    async def _reach(self, provider: Provider, ask: Ask, tried: Tried) -> Link:
        """A session with it. When that takes long, and another is at hand: `_NotNow`;
        the dialling goes on."""
        reaching = asyncio.create_task(self._links.get(provider))
        wait_s = PATIENCE_S
        try:
            while not (await asyncio.wait([reaching], timeout=wait_s))[0]:
                if self._is_another_at_hand(ask, tried):
                    self._links.note_failure(provider.id)
                    raise _NotNow
                wait_s = LOOK_S
            return reaching.result()
        finally:
            reaching.cancel()


def _key(provider: Provider) -> tuple[PeerId, bytes]:
    return provider.id, provider.announcement.conn


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
