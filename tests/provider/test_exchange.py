"""One exchange at the provider, from the request's bytes to the answer's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from meshllm.errors import BackendError, Code, NotAllowed, StreamReset
from meshllm.protocol.exchange import (
    HeadReader,
    RequestHead,
    ResponseHead,
    encode_head,
)
from meshllm.provider.exchange import Served, serve
from meshllm.provider.slots import Slots
from meshllm.transport.link import Stream
from meshllm.trust.admission import Admission
from meshllm.trust.grants import Caps, Role
from meshllm.trust.keys import peer_id
from tests.fakes.backend import ScriptedBackend
from tests.fakes.links import Pair, connected

ME = peer_id(bytes(32))
GUEST = Admission(ME, ME, "guest", Role.GUEST, Caps(None, None, None), None, None, ME)
OWNER = replace(GUEST, role=Role.OWNER)


@dataclass
class Bench:
    pair: Pair
    backend: ScriptedBackend
    served: Served
    admission: Admission = GUEST
    ids: Iterator[int] = field(default_factory=itertools.count)

    async def ask(
        self,
        body: Any,
        path: str = "/api/chat",
        method: str = "POST",
        id: str | None = None,
    ) -> Stream:
        """Sends a request; the provider has begun to serve it when this returns."""
        stream = await self.pair.client.open_stream()
        head = RequestHead(
            id or f"r{next(self.ids)}", method, path, "tiny:1b", "application/json"
        )
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        stream.write(encode_head(head) + data)
        stream.finish()
        return stream


@asynccontextmanager
async def bench(parallel: int = 1, queue: int = 8) -> AsyncIterator[Bench]:
    backend = ScriptedBackend()
    async with connected() as pair, asyncio.TaskGroup() as tasks:
        served = Served(
            backend, Slots(parallel, queue), lambda: backend.list, lambda who: None
        )
        this = Bench(pair, backend, served)

        def begin(stream: Stream) -> None:
            tasks.create_task(serve(stream, this.admission, this.served))

        pair.provider.on_stream = begin
        yield this


async def answer(stream: Stream) -> tuple[ResponseHead, bytes]:
    reader = HeadReader(ResponseHead)
    found = None
    while found is None:
        found = reader.feed(await stream.read())
    head, rest = found
    body = bytearray(rest)
    while data := await stream.read():
        body += data
    return head, bytes(body)


CHAT = {"model": "tiny:1b", "messages": [{"role": "user", "content": "hi"}]}


async def test_bytes_of_the_backend_pass_untouched() -> None:
    async with bench() as b:
        stream = await b.ask(CHAT)
        script = await b.backend.asked.get()
        for chunk in (b'{"message":\xe4', b'\xb8\xad"}\n', b'{"done":true}\n'):
            script.say(chunk)
        script.end()
        head, body = await answer(stream)
        assert body == b'{"message":\xe4\xb8\xad"}\n{"done":true}\n'
        assert (head.status, head.type) == (200, "application/x-ndjson")
        assert head.timing["load"] == 1.5
        assert head.timing["queue"] >= 0
        await script.closed.wait()


async def test_a_server_that_breaks_off_before_its_first_byte_is_an_error() -> None:
    """Though it has given its head: then another provider may still answer."""
    async with bench() as b:
        stream = await b.ask(CHAT)
        (await b.backend.asked.get()).break_off("The engine ended.")
        head, body = await answer(stream)
        assert head.status == 502
        assert orjson.loads(body) == {"error": "The engine ended."}


async def test_an_answer_without_a_body_has_a_head() -> None:
    async with bench() as b:
        stream = await b.ask(CHAT)
        (await b.backend.asked.get()).end()
        head, body = await answer(stream)
        assert (head.status, head.timing["load"], body) == (200, 1.5, b"")


async def test_the_model_is_rewritten_to_the_entry_that_was_checked() -> None:
    async with bench() as b:
        stream = await b.ask(CHAT | {"model": "TINY:1B"})
        script = await b.backend.asked.get()
        assert script.request.body is not None
        assert script.request.body["model"] == "tiny:1b"
        assert script.request.requested_model == "TINY:1B"
        script.end()
        await answer(stream)


@pytest.mark.parametrize(
    ("body", "path", "status", "text"),
    [
        (CHAT | {"model": "other"}, "/api/chat", 404, "model 'other' not found"),
        (b'{"model":"tiny:1b","Model":"x"}', "/api/chat", 400, "differ only by case"),
        (b'{"model":"tiny:1b","model":"x"}', "/v1/chat/completions", 400, "repeated"),
        (b"{", "/api/generate", 400, "not JSON"),
        (CHAT, "/api/nothing", 404, "knows no POST /api/nothing"),
        (CHAT, "/api/chat/", 404, "knows no"),
        (CHAT, "/api/pull", 403, "only its owner"),
    ],
)
async def test_refusals_have_the_shape_of_the_api(
    body: Any, path: str, status: int, text: str
) -> None:
    async with bench() as b:
        head, data = await answer(await b.ask(body, path))
        assert head.status == status
        said = orjson.loads(data)["error"]
        assert text in (said["message"] if path.startswith("/v1") else said)
        assert b.backend.asked.empty()


async def test_a_cap_on_models_holds_for_every_spelling() -> None:
    async with bench() as b:
        caps = Caps(("allowed",), None, None)
        b.admission = replace(GUEST, caps=caps)
        for name in ("tiny:1b", "TINY:1b", "tiny:1b@somewhere"):
            head, data = await answer(await b.ask(CHAT | {"model": name}))
            assert (head.status, b"does not include" in data) == (403, True)
        assert b.backend.asked.empty()


async def test_what_costs_the_machine_is_clamped_for_guests_only() -> None:
    costly = CHAT | {
        "keep_alive": -1,
        "options": {"num_ctx": 10**6, "num_gpu": 99, "num_predict": -1, "seed": 7},
    }
    async with bench() as b:
        stream = await b.ask(costly)
        script = await b.backend.asked.get()
        assert script.request.body is not None
        assert "keep_alive" not in script.request.body
        assert script.request.body["options"] == {
            "num_ctx": 4096,
            "num_predict": 16_384,
            "seed": 7,
        }
        script.end()
        await answer(stream)
        b.admission = OWNER
        stream = await b.ask(costly)
        script = await b.backend.asked.get()
        assert script.request.body == costly
        script.end()
        await answer(stream)


async def test_a_cancel_closes_the_backends_socket_in_mid_answer() -> None:
    async with bench() as b:
        stream = await b.ask(CHAT)
        script = await b.backend.asked.get()
        script.say(b"token\n")
        await stream.read()
        stream.reset(Code.CANCELLED, "the program went away")
        await script.closed.wait()


async def test_a_cancel_reaches_a_backend_that_has_not_answered_yet() -> None:
    async with bench() as b:
        b.backend.hold = asyncio.Event()
        stream = await b.ask(CHAT)
        await b.backend.asked.get()
        stream.reset(Code.CANCELLED, "the program went away")
        await b.backend.cancelled.wait()


async def test_a_cancel_in_the_queue_frees_its_place() -> None:
    async with bench(parallel=1, queue=1) as b:
        first = await b.ask(CHAT)
        script = await b.backend.asked.get()
        waiting = await b.ask(CHAT)
        while b.served.slots.waiting == 0:
            await asyncio.sleep(0)
        waiting.reset(Code.CANCELLED, "gone")
        while b.served.slots.waiting:
            await asyncio.sleep(0)
        script.end()
        await answer(first)
        assert b.backend.asked.empty()


async def test_a_full_queue_is_503_in_the_words_of_ollama() -> None:
    async with bench(parallel=1, queue=0) as b:
        first = await b.ask(CHAT)
        script = await b.backend.asked.get()
        head, data = await answer(await b.ask(CHAT))
        assert head.status == 503
        assert b"server busy, please try again.  maximum pending" in data
        script.end()
        await answer(first)


async def test_a_backend_that_breaks_off_never_looks_complete() -> None:
    async with bench() as b:
        stream = await b.ask(CHAT)
        script = await b.backend.asked.get()
        script.say(b'{"done":false}\n')
        script.break_off("the model crashed")
        _, body = await answer(stream)
        assert orjson.loads(body.splitlines()[-1]) == {"error": "the model crashed"}


async def test_half_a_json_answer_is_reset() -> None:
    async with bench() as b:
        stream = await b.ask(CHAT | {"stream": False})
        script = await b.backend.asked.get()
        script.content_type = "application/json"
        script.say(b'{"message":')
        script.break_off("the model crashed")
        with pytest.raises(StreamReset, match="crashed") as ended:
            await answer(stream)
        assert ended.value.code is Code.BACKEND


async def test_a_backend_that_is_down_is_502_and_says_so() -> None:
    async with bench() as b:
        b.backend.error = BackendError("No model server answers. Is Ollama running?")
        head, data = await answer(await b.ask(CHAT))
        assert (head.status, b"Is Ollama running?" in data) == (502, True)


async def test_rights_are_checked_again_for_each_request() -> None:
    async with bench() as b:

        def revoked(admission: Admission) -> None:
            raise NotAllowed("This membership was revoked.", Code.REVOKED)

        b.served.recheck = revoked
        head, data = await answer(await b.ask(CHAT))
        assert (head.status, b"revoked" in data) == (403, True)


async def test_a_reader_that_stops_stops_the_backend() -> None:
    async with bench() as b:
        stream = await b.ask(CHAT)
        script = await b.backend.asked.get()
        for _ in range(1000):
            script.say(bytes(10_000))
        script.end()
        for _ in range(500):
            await asyncio.sleep(0)
        assert script.taken < 50
        _, body = await answer(stream)
        assert len(body) == 10_000_000


async def test_a_request_that_comes_again_is_not_run_again() -> None:
    async with bench(parallel=2) as b:
        first = await b.ask(CHAT, id="same")
        script = await b.backend.asked.get()
        again = await b.ask(CHAT, id="same")  # while it runs
        with pytest.raises(StreamReset, match="not run twice") as refused:
            await answer(again)
        assert refused.value.code is Code.GONE
        script.end()
        await answer(first)
        again = await b.ask(CHAT, id="same")  # and when it has run
        with pytest.raises(StreamReset, match="not run twice"):
            await answer(again)
        assert b.backend.asked.empty()


async def test_one_that_was_cancelled_before_its_first_byte_may_run() -> None:
    async with bench() as b:
        b.backend.hold = asyncio.Event()
        first = await b.ask(CHAT, id="same")
        await b.backend.asked.get()
        first.reset(Code.CANCELLED, "the program went away")
        await b.backend.cancelled.wait()
        b.backend.hold.set()
        again = await b.ask(CHAT, id="same")
        (await b.backend.asked.get()).end()
        head, _ = await answer(again)
        assert head.status == 200


async def test_one_that_was_cancelled_in_mid_answer_may_not() -> None:
    async with bench() as b:
        first = await b.ask(CHAT, id="same")
        script = await b.backend.asked.get()
        script.say(b"{}\n")
        await first.read()
        first.reset(Code.CANCELLED, "the program went away")
        await script.closed.wait()
        with pytest.raises(StreamReset, match="not run twice"):
            await answer(await b.ask(CHAT, id="same"))


async def test_a_reader_that_takes_nothing_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshllm.protocol.mux.SLOW_READER_S", 0.05)
    monkeypatch.setattr("meshllm.transport.link.TICK_S", 0.02)
    async with bench() as b:
        stream = await b.ask(CHAT)
        script = await b.backend.asked.get()
        for _ in range(50):
            script.say(bytes(100_000))
        await script.closed.wait()  # the model server is not kept waiting
        assert script.taken < 50
        other = await b.ask(CHAT)  # nor is anybody else
        (await b.backend.asked.get()).end()
        assert (await answer(other))[0].status == 200
        with pytest.raises(StreamReset, match="took nothing") as told:
            await answer(stream)
        assert told.value.code is Code.SLOW_READER
