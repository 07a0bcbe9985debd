"""The two official Python clients against the gateway, streamed and not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import ollama
import openai
import pytest

from meshllm.errors import PeerUnreachable
from meshllm.gateway import Gateway
from meshllm.routing.seam import NoRoute
from tests.fakes.memory_mesh import MemoryAnswer, MemoryMesh

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
JSON = "application/json; charset=utf-8"
NOW = "2026-08-21T10:00:00.123456789Z"
MODEL = "llama3.2:1b"
HI: Any = [{"role": "user", "content": "hi"}]
LOST = PeerUnreachable("Provider ann went away.")


def chat_line(text: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    chunk = {"model": MODEL, "created_at": NOW, "message": message, "done": False}
    return json.dumps(chunk | more).encode() + b"\n"


LAST_LINE = chat_line("", done=True, done_reason="stop", eval_count=2)


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@pytest.fixture
async def ollama_client(gateway: Gateway) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(gateway.url) as client:
        yield client


@pytest.fixture
async def openai_client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0
    ) as client:
        yield client


async def test_ollama_streams_a_chat(
    ollama_client: ollama.AsyncClient, mesh: MemoryMesh
) -> None:
    whole = chat_line("Hel") + chat_line("lo") + LAST_LINE
    mesh.replies = [MemoryAnswer(NDJSON, [whole[:100], whole[100:250], whole[250:]])]
    chunks = [c async for c in await ollama_client.chat(MODEL, HI, stream=True)]
    assert "".join(chunk.message.content or "" for chunk in chunks) == "Hello"
    assert chunks[-1].done_reason == "stop"
    assert json.loads(mesh.asked[0].body)["messages"] == HI


async def test_ollama_chats_in_one_piece(
    ollama_client: ollama.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [chat_line("Hello", done=True)])]
    answer = await ollama_client.chat(f"{MODEL}@ann", HI)
    assert answer.message.content == "Hello"
    assert (mesh.asked[0].model, mesh.asked[0].provider) == (MODEL, "ann")


async def test_ollama_generates_and_embeds(
    ollama_client: ollama.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [
        MemoryAnswer(JSON, [b'{"model":"m","response":"Hello","done":true}']),
        MemoryAnswer(JSON, [b'{"model":"m","embeddings":[[0.5,1.0]]}']),
    ]
    assert (await ollama_client.generate(MODEL, "hi")).response == "Hello"
    assert (await ollama_client.embed(MODEL, "hi")).embeddings == [[0.5, 1.0]]
    assert [ask.path for ask in mesh.asked] == ["/api/generate", "/api/embed"]


async def test_ollama_lists_and_shows_models(
    ollama_client: ollama.AsyncClient, mesh: MemoryMesh
) -> None:
    names = [model.model for model in (await ollama_client.list()).models]
    assert names == ["hf.co/org/qwen:latest", "llama3.2:1b"]
    shown = {"model_info": {"general.architecture": "llama"}, "capabilities": []}
    ps = {"models": [{"name": MODEL, "model": MODEL, "expires_at": NOW, "size": 5}]}
    mesh.replies = [
        MemoryAnswer(JSON, [json.dumps(shown).encode()]),
        MemoryAnswer(JSON, [json.dumps(ps).encode()]),
    ]
    show = await ollama_client.show(MODEL)
    assert show.modelinfo == {"general.architecture": "llama"}
    assert (await ollama_client.ps()).models[0].model == MODEL


async def test_ollama_raises_what_the_mesh_says(
    ollama_client: ollama.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [NoRoute(404, "model 'x' not found")]
    with pytest.raises(ollama.ResponseError, match="model 'x' not found") as error:
        await ollama_client.chat("x", HI)
    assert error.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="provider's own machine") as error:
        await ollama_client.pull("x")
    assert error.value.status_code == 403


async def test_ollama_raises_when_a_stream_breaks_off_mid_line(
    ollama_client: ollama.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(NDJSON, [chat_line("Hel") + b'{"mod', LOST])]
    got = []
    with pytest.raises(ollama.ResponseError, match="Provider ann went away"):
        async for chunk in await ollama_client.chat(MODEL, HI, stream=True):
            got.append(chunk.message.content)  # noqa: PERF401
    assert got == ["Hel"]


async def test_openai_streams_a_chat(
    openai_client: openai.AsyncOpenAI, mesh: MemoryMesh
) -> None:
    steps = [event({"role": "assistant", "content": "Hel"}), event({"content": "lo"})]
    last = event({}, "stop") + b"data: [DONE]\n\n"
    mesh.replies = [MemoryAnswer(SSE, [*steps, last])]
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=HI, stream=True
    )
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == "Hello"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_openai_chats_in_one_piece(
    openai_client: openai.AsyncOpenAI, mesh: MemoryMesh
) -> None:
    message = {"role": "assistant", "content": "Hello"}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    mesh.replies = [MemoryAnswer(JSON, [json.dumps(body).encode()])]
    answer = await openai_client.chat.completions.create(model=MODEL, messages=HI)
    assert answer.choices[0].message.content == "Hello"


async def test_openai_lists_and_retrieves_models(
    openai_client: openai.AsyncOpenAI,
) -> None:
    listed = [model.id async for model in openai_client.models.list()]
    assert listed == ["llama3.2:1b", "hf.co/org/qwen:latest"]
    for name in [*listed, "hf.co/org/qwen@bob"]:
        assert (await openai_client.models.retrieve(name)).id == name
    with pytest.raises(openai.NotFoundError):
        await openai_client.models.retrieve("nothing")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (502, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_openai_raises_its_own_error_for_each_status(
    openai_client: openai.AsyncOpenAI,
    mesh: MemoryMesh,
    status: int,
    error: type[openai.APIStatusError],
) -> None:
    mesh.replies = [NoRoute(status, "So it is.", "why")]
    with pytest.raises(error, match=r"So it is\.") as raised:
        await openai_client.chat.completions.create(model="x", messages=HI)
    assert raised.value.status_code == status
    assert raised.value.code == "why"


async def test_openai_raises_when_a_stream_breaks_off_mid_event(
    openai_client: openai.AsyncOpenAI, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(SSE, [event({"content": "Hel"}) + b"data: {", LOST])]
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=HI, stream=True
    )
    got = []
    with pytest.raises(openai.APIError, match="Provider ann went away"):
        async for chunk in stream:
            got.append(chunk.choices[0].delta.content)  # noqa: PERF401
    assert got == ["Hel"]


async def test_openai_repeats_what_was_busy_but_not_what_was_lost(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    client = openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="unused", max_retries=1
    )
    async with client:
        mesh.replies = [NoRoute(502, "Lost."), NoRoute(502, "Lost again.")]
        with pytest.raises(openai.InternalServerError, match=r"Lost\."):
            await client.chat.completions.create(model=MODEL, messages=HI)
        assert len(mesh.asked) == 1
        mesh.asked.clear()
        busy = NoRoute(503, "Busy.", None, 1)
        mesh.replies = [busy, NoRoute(404, "Then it was gone.")]
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model=MODEL, messages=HI)
        assert len(mesh.asked) == 2


async def test_a_client_that_stops_reading_its_stream_closes_the_answer(
    openai_client: openai.AsyncOpenAI, mesh: MemoryMesh
) -> None:
    endless = MemoryAnswer(SSE, [event({"content": "x" * 1000})] * 1_000_000)
    mesh.replies = [endless]
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=HI, stream=True
    )
    await anext(aiter(stream))
    await stream.close()
    await endless.closed.wait()
    assert not endless.is_whole
