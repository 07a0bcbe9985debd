"""An OpenAI-compatible server behind us: passed through, collected, translated."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshllm.backends.openai import OpenAIBackend
from meshllm.dialects.options import Flavor
from meshllm.errors import BackendError
from tests.fakes.reading import asking, read_all, read_json, read_lines
from tests.fakes.scripted_http import BREAK, Gate, Step
from tests.fakes.scripted_openai import (
    DONE,
    MODEL,
    ScriptedOpenAI,
    chat_chunk,
    chat_says,
    event,
    text_chunk,
)

V1 = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
CHAT = {"model": MODEL, "messages": HI}
STREAM = CHAT | {"stream": True}
REPORT = chat_chunk({"role": "assistant"}, prompt_progress={"total": 3, "cache": 0})


async def test_a_stream_passes_untouched_however_it_is_cut() -> None:
    whole = b": ping\n\n" + b"".join(chat_says("día", " 🙂"))
    async with ScriptedOpenAI() as server:
        server.script(V1, [bytes([byte]) for byte in whole])
        backend = OpenAIBackend(server.url)
        response = await backend.run(asking(V1, STREAM | {"x": 1}))
        assert response.content_type == "text/event-stream"
        assert await read_all(response) == whole
        assert (await server.seen(V1)).json == STREAM | {"x": 1}
        await backend.aclose()


async def test_what_is_not_to_stream_streams_from_the_server_all_the_same() -> None:
    async with ScriptedOpenAI() as server:
        server.script(V1, chat_says("a", "b"))
        backend = OpenAIBackend(server.url)
        response = await backend.run(asking(V1, CHAT | {"stream": False}))
        assert response.content_type == "application/json; charset=utf-8"
        whole = await read_json(response)
        assert whole["choices"][0]["message"]["content"] == "ab"
        assert whole["usage"]["completion_tokens"] == 2
        asked = (await server.seen(V1)).json
        assert asked["stream"] is True
        assert asked["stream_options"] == {"include_usage": True}
        await backend.aclose()


async def test_an_answer_that_breaks_off_is_no_answer() -> None:
    async with ScriptedOpenAI() as server:
        backend = OpenAIBackend(server.url)
        for after in (BREAK, b""):
            server.script(V1, [*chat_says("a")[:2], after])
            response = await backend.run(asking(V1, CHAT))
            assert response.status == 502
            error = (await read_json(response))["error"]
            assert "broke off" in error["message"]
            assert error["type"] == "api_error"
        await backend.aclose()


async def test_a_stream_that_is_passed_and_breaks_off_raises() -> None:
    async with ScriptedOpenAI() as server:
        server.script(V1, [chat_chunk({"content": "a"}), BREAK])
        backend = OpenAIBackend(server.url)
        with pytest.raises(BackendError, match="broke off"):
            await read_all(await backend.run(asking(V1, STREAM)))
        await backend.aclose()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_of_the_server_passes_with_its_status(stream: bool) -> None:
    error = {"error": {"code": 400, "message": "no", "type": "invalid_request_error"}}
    async with ScriptedOpenAI() as server:
        server.script_json(V1, error, 400)
        backend = OpenAIBackend(server.url)
        response = await backend.run(asking(V1, CHAT | {"stream": stream}))
        assert response.status == 400
        assert await read_json(response) == error
        await backend.aclose()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (V1, CHAT),
        (V1, STREAM),
        ("/api/chat", CHAT),
        ("/api/chat", CHAT | {"stream": False}),
    ],
)
async def test_cancelling_the_call_closes_the_servers_socket(
    path: str, body: dict[str, Any]
) -> None:
    async with ScriptedOpenAI() as server:
        server.script(V1, [chat_chunk({"content": "a"}), Gate()], head_gate=Gate())
        backend = OpenAIBackend(server.url)
        running = asyncio.ensure_future(backend.run(asking(path, body)))
        seen = await server.seen(V1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await seen.hung_up.wait()
        await backend.aclose()


async def test_cancelling_while_collecting_closes_the_servers_socket() -> None:
    said = Gate()
    async with ScriptedOpenAI() as server:
        server.script(V1, [chat_chunk({"content": "a"}), said, b": x\n\n", Gate()])
        backend = OpenAIBackend(server.url)
        running = asyncio.ensure_future(backend.run(asking(V1, CHAT)))
        seen = await server.seen(V1)
        said.set()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await seen.hung_up.wait()
        await backend.aclose()


async def test_closing_a_translated_stream_closes_the_servers_socket() -> None:
    async with ScriptedOpenAI() as server:
        server.script(V1, [chat_chunk({"content": "a"}), Gate()])
        backend = OpenAIBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT))
        assert b'"content":"a"' in await anext(aiter(response))
        await response.aclose()
        await (await server.seen(V1)).hung_up.wait()
        await backend.aclose()


async def test_a_chat_in_ollamas_api() -> None:
    async with ScriptedOpenAI() as server:
        server.script(V1, chat_says("Hé", "llo"))
        backend = OpenAIBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT, "Tiny:latest"))
        assert response.content_type == "application/x-ndjson"
        lines = await read_lines(response)
        assert [line["message"]["content"] for line in lines] == ["Hé", "llo", ""]
        assert {line["model"] for line in lines} == {"Tiny:latest"}
        assert lines[-1]["done_reason"] == "stop"
        assert lines[-1]["prompt_eval_count"] == 7
        assert lines[0]["created_at"].endswith("Z")
        await backend.aclose()


async def test_a_generate_in_ollamas_api_without_a_stream() -> None:
    async with ScriptedOpenAI() as server:
        server.script("/v1/completions", [text_chunk("a"), text_chunk("b", "length")])
        backend = OpenAIBackend(server.url)
        body = {"model": MODEL, "prompt": "x", "raw": True, "stream": False}
        whole = await read_json(await backend.run(asking("/api/generate", body)))
        assert (whole["response"], whole["done_reason"]) == ("ab", "length")
        assert whole["model"] == MODEL
        await backend.aclose()


async def test_a_translated_stream_that_breaks_off_raises_after_its_lines() -> None:
    async with ScriptedOpenAI() as server:
        backend = OpenAIBackend(server.url)
        first, error = (
            chat_chunk({"content": "a"}),
            event({"error": {"message": "hot"}}),
        )
        cases: list[tuple[list[Step], str]] = [
            ([first, BREAK], "broke off"),
            ([first], "broke off"),
            ([first, error, DONE], "hot"),
            ([first + error], "hot"),
        ]
        for steps, says in cases:
            server.script(V1, steps)
            response = await backend.run(asking("/api/chat", CHAT))
            got = b""
            with pytest.raises(BackendError, match=says):
                async for chunk in response:
                    got += chunk
            assert b'"content":"a"' in got
            assert b'"done":true' not in got
            await response.aclose()
        await backend.aclose()


async def test_errors_in_ollamas_api_have_its_shape() -> None:
    async with ScriptedOpenAI() as server:
        backend = OpenAIBackend(server.url)
        error = {"error": {"code": 503, "message": "Loading model", "type": "x"}}
        server.script_json(V1, error, 503)
        busy = await backend.run(asking("/api/chat", CHAT))
        assert (busy.status, await read_json(busy)) == (503, {"error": "Loading model"})
        server.script_json(V1, "Bad Gateway", 502)
        bad = await backend.run(asking("/api/chat", CHAT))
        assert (bad.status, await read_json(bad)) == (502, {"error": "Bad Gateway"})
        server.script(V1, [event({"error": {"code": 500, "message": "hot"}})])
        whole = await backend.run(asking("/api/chat", CHAT | {"stream": False}))
        assert (whole.status, await read_json(whole)) == (500, {"error": "hot"})
        unknown = await backend.run(asking("/api/chat", CHAT | {"model": "no"}, "No"))
        assert unknown.status == 404
        assert await read_json(unknown) == {"error": "model 'No' not found"}
        pull = await backend.run(asking("/api/pull", {"model": MODEL}))
        assert pull.status == 501
        wrong = await backend.run(asking("/api/chat", CHAT | {"think": "loud"}))
        assert wrong.status == 400
        await backend.aclose()


async def test_lists_are_made_here() -> None:
    async with ScriptedOpenAI(models=("a/b:1", "c")) as server:
        backend = OpenAIBackend(server.url)
        for path, key in (("/api/tags", "models"), ("/v1/models", "data")):
            found = await read_json(await backend.run(asking(path)))
            assert len(found[key]) == 2
        one = await read_json(await backend.run(asking("/v1/models/A%2Fb%3A1")))
        assert one["id"] == "a/b:1"
        none = await backend.run(asking("/v1/models/zzz"))
        assert none.status == 404
        assert (await read_json(none))["error"]["type"] == "not_found_error"
        shown = await read_json(await backend.run(asking("/api/show", {"model": "c"})))
        assert shown["capabilities"] == ["completion", "tools"]
        running = await read_json(await backend.run(asking("/api/ps")))
        assert [model["name"] for model in running["models"]] == ["a/b:1", "c"]
        version = await read_json(await backend.run(asking("/api/version")))
        assert version["version"]
        await backend.aclose()


async def test_nothing_to_ask_asks_nothing() -> None:
    async with ScriptedOpenAI() as server:
        backend = OpenAIBackend(server.url)
        body = CHAT | {"messages": []}
        whole = await read_json(await backend.run(asking("/api/chat", body)))
        assert whole["done_reason"] == "load"
        assert server.to(V1) == []
        await backend.aclose()


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_in_v1(suffix: str) -> None:
    async with ScriptedOpenAI(api_key="secret") as server:
        backend = OpenAIBackend(server.url + suffix, api_key="secret")
        assert [model.name for model in await backend.models()] == [MODEL]
        await backend.aclose()


async def test_a_wrong_key_is_said() -> None:
    async with ScriptedOpenAI(api_key="secret") as server:
        backend = OpenAIBackend(server.url, api_key="wrong")
        with pytest.raises(BackendError, match="401"):
            await backend.models()
        await backend.aclose()


async def test_llama_cpp_tells_more_of_its_model() -> None:
    async with ScriptedOpenAI(llama_cpp=True) as server:
        backend = OpenAIBackend(server.url)
        (model,) = await backend.models()
        assert backend.flavor is Flavor.LLAMA_CPP
        assert backend.parallel == 3
        assert model.context_length == 2048
        assert model.capabilities == ("completion", "tools", "thinking")
        await backend.aclose()


async def test_llama_cpp_reports_on_the_prompt_to_us_alone() -> None:
    """It only notices that a reader is gone while it has something to write."""
    said = chat_says("a", "b")
    async with ScriptedOpenAI(llama_cpp=True) as server:
        backend = OpenAIBackend(server.url)
        server.script(V1, [REPORT, REPORT, *said])
        response = await backend.run(asking(V1, STREAM))
        assert await read_all(response) == b"".join(said)
        server.script(V1, [REPORT, *said])
        whole = await read_json(await backend.run(asking(V1, CHAT)))
        assert "prompt_progress" not in whole
        server.script(V1, [REPORT, *said])
        lines = await read_lines(await backend.run(asking("/api/chat", CHAT)))
        assert len(lines) == 3
        assert all(seen.json["return_progress"] for seen in server.to(V1))
        await backend.aclose()


async def test_embeddings_in_ollamas_api() -> None:
    answer = {
        "data": [{"index": 0, "embedding": [3, 4]}],
        "usage": {"prompt_tokens": 2},
    }
    long = {"error": {"code": 500, "message": "x (current batch size: 3)"}}
    body = {"model": MODEL, "input": "four words of text"}
    async with ScriptedOpenAI(llama_cpp=True) as server:
        backend = OpenAIBackend(server.url)
        server.script_json("/v1/embeddings", answer)
        found = await read_json(await backend.run(asking("/api/embed", body)))
        assert found["embeddings"] == [[0.6, 0.8]]
        server.script_json("/v1/embeddings", long, 500)
        server.script_json("/tokenize", {"tokens": [7, 8, 9, 10]})
        server.script_json("/v1/embeddings", answer)
        cut = await backend.run(asking("/api/embed", body))
        assert cut.status == 200
        assert (await server.seen("/v1/embeddings", 3)).json["input"] == [[7, 8]]
        server.script_json("/v1/embeddings", long, 500)
        whole = await backend.run(asking("/api/embed", body | {"truncate": False}))
        assert whole.status == 400
        empty = await backend.run(asking("/api/embed", {"model": MODEL, "input": []}))
        assert await read_json(empty) == {"model": MODEL, "embeddings": []}
        await backend.aclose()
