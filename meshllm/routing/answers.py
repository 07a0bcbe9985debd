"""A question on one stream of a session, and its answer as it arrives there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import orjson

from meshllm.errors import Code, PeerUnreachable
from meshllm.pour import Pouring, Sink
from meshllm.protocol.exchange import (
    HeadReader,
    RequestHead,
    ResponseHead,
    encode_head,
)
from meshllm.routing.roster import Provider
from meshllm.routing.seam import Ask, Load
from meshllm.transport.link import Link, Stream

WRITE_BYTES = 65_536


class StreamAnswer(Pouring):
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

    async def pour(self, sink: Sink) -> None:
        """All of it, each piece in the call that brings it."""
        if self._rest:
            rest, self._rest = self._rest, b""
            sink.write(rest)
        await self._stream.pour(sink)

    async def aclose(self) -> None:
        self._stream.reset(Code.CANCELLED, "The program went away.")


def tell(ask: Ask, json: bytes) -> None:
    """INFO is advisory: what we do not understand is not for us."""
    with contextlib.suppress(orjson.JSONDecodeError):
        match orjson.loads(json):
            case {"queue": int() as place} if ask.on_queue is not None:
                ask.on_queue(place)
            case {
                "running": int() as running,
                "waiting": int() as waiting,
            } if ask.on_load is not None:
                ask.on_load(Load(running, waiting))


async def send(stream: Stream, ask: Ask) -> None:
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


async def read_head(stream: Stream) -> tuple[ResponseHead, bytes]:
    reader = HeadReader(ResponseHead)
    while data := await stream.read():
        if (found := reader.feed(data)) is not None:
            return found
    raise PeerUnreachable("The provider's answer ended before it began.")
