"""A program that goes away stops the work; one that is slow slows it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from meshllm.gateway import Gateway, Options
from tests.fakes.memory_mesh import LLAMA, MemoryAnswer, MemoryMesh
from tests.fakes.raw_http import connected, post

NDJSON = "application/x-ndjson"
JSON = "application/json"


QUESTION = post("/api/generate", b'{"model":"llama3.2:1b","prompt":"hi"}')


async def test_hanging_up_before_the_answer_has_a_head_cancels_the_ask(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    mesh.replies = [asyncio.Event()]
    async with connected(gateway.url) as (_, writer):
        writer.write(QUESTION)
        await mesh.has_ask.wait()
        writer.close()
        await mesh.ask_cancelled.wait()


@pytest.mark.parametrize("content_type", [NDJSON, JSON])
async def test_hanging_up_during_prefill_closes_the_answer(
    gateway: Gateway, mesh: MemoryMesh, content_type: str
) -> None:
    answer = MemoryAnswer(content_type, [asyncio.Event()])
    mesh.replies = [answer]
    async with connected(gateway.url) as (_, writer):
        writer.write(QUESTION)
        await mesh.has_ask.wait()
        writer.close()
        await answer.closed.wait()
        assert answer.taken == 0


async def test_hanging_up_between_tokens_closes_the_answer(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    answer = MemoryAnswer(NDJSON, [b'{"response":"a"}\n', asyncio.Event(), b"{}\n"])
    mesh.replies = [answer]
    async with connected(gateway.url) as (reader, writer):
        writer.write(QUESTION)
        await reader.readuntil(b'"a"}\n')
        writer.close()
        await answer.closed.wait()
        assert answer.taken == 1


async def test_hanging_up_with_a_reset_and_unread_bytes_closes_the_answer(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    answer = MemoryAnswer(NDJSON, [b"x" * 16_000 + b"\n"] * 100_000)
    mesh.replies = [answer]
    async with connected(gateway.url) as (reader, writer):
        writer.write(QUESTION)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await answer.closed.wait()
        assert not answer.is_whole


async def test_a_slow_reader_stops_the_asking_for_more(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    chunk, count = b"x" * 15_999 + b"\n", 2_500
    answer = MemoryAnswer(NDJSON, [chunk] * count)
    mesh.replies = [answer]
    async with connected(gateway.url) as (reader, writer):
        writer.write(QUESTION)
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while answer.taken != before:
            before = answer.taken
            for _ in range(1_000):  # turns in which a willing gateway takes them all
                await asyncio.sleep(0)
        assert 0 < answer.taken < count / 2
        while not answer.is_whole:
            await reader.read(1_000_000)
        writer.close()


async def test_stop_waits_for_a_running_answer() -> None:
    gate = asyncio.Event()
    mesh = MemoryMesh(LLAMA)
    mesh.replies = [MemoryAnswer(NDJSON, [b"{}\n", gate, b'{"done":true}\n'])]
    gateway = Gateway(mesh, Options(port=0, drain_s=20))
    await gateway.start()
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{gateway.url}/api/chat", json={"model": "m"}) as got,
    ):
        chunks = got.aiter_raw()
        await anext(chunks)
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.stop())
            gate.set()
            assert await anext(chunks) == b'{"done":true}\n'


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_while_it_drains_new_questions_are_refused_for_a_while(path: str) -> None:
    gate = asyncio.Event()
    mesh = MemoryMesh(LLAMA)
    mesh.replies = [MemoryAnswer(NDJSON, [b"{}\n", gate, b'{"done":true}\n'])]
    gateway = Gateway(mesh, Options(port=0, drain_s=20))
    await gateway.start()
    async with (
        httpx.AsyncClient(base_url=gateway.url) as client,
        client.stream("POST", "/api/chat", json={"model": "m"}) as got,
    ):
        chunks = got.aiter_raw()
        await anext(chunks)
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(gateway.stop())
            await asyncio.sleep(0)
            refused = await client.post(path, json={"model": "m"})
            ready = await client.get("/ready")
            assert (await client.get("/health")).status_code == 200
            assert not stopping.done()
            gate.set()
            assert await anext(chunks) == b'{"done":true}\n'
    assert (refused.status_code, ready.status_code) == (503, 503)
    assert int(refused.headers["Retry-After"]) > 0
    assert "shutting down" in str(refused.json()["error"])
    assert len(mesh.asked) == 1


async def test_stop_closes_answers_that_do_not_end() -> None:
    answer = MemoryAnswer(NDJSON, [b"{}\n", asyncio.Event()])
    mesh = MemoryMesh(LLAMA)
    mesh.replies = [answer]
    gateway = Gateway(mesh, Options(port=0, drain_s=0))
    await gateway.start()
    async with connected(gateway.url) as (reader, writer):
        writer.write(QUESTION)
        await reader.readuntil(b"{}\n")
        await gateway.stop()
        assert answer.closed.is_set()
        writer.close()
