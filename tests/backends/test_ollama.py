"""Ollama behind us: what it says passes unread, and it stops when its reader does."""

from __future__ import annotations

import asyncio

import pytest

from meshllm.backends.ollama import OllamaBackend
from meshllm.errors import BackendError
from tests.fakes.reading import asking, read_all, read_json
from tests.fakes.scripted_http import BREAK, Gate, Step
from tests.fakes.scripted_ollama import (
    DIGEST,
    ScriptedOllama,
    chat_end,
    chat_line,
)

MODEL = "llama3.2:latest"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_stream_passes_byte_by_byte_however_it_is_cut() -> None:
    whole = chat_line(MODEL, "wörld 🙂") + chat_end(MODEL)
    torn = [bytes([byte]) for byte in whole]
    async with ScriptedOllama() as server:
        server.script("/api/chat", torn)
        backend = OllamaBackend(server.url + "/")
        response = await backend.run(asking("/api/chat", CHAT))
        assert response.status == 200
        assert response.content_type == "application/x-ndjson"
        assert response.timing["backend"] > 0
        assert await read_all(response) == whole
        await backend.aclose()


async def test_the_request_goes_on_with_fields_nobody_knows_and_its_id() -> None:
    async with ScriptedOllama() as server:
        backend = OllamaBackend(server.url)
        request = asking("/api/chat", CHAT | {"new": [1, {"é": None}], "stream": False})
        assert (await read_json(await backend.run(request)))["done"] is True
        seen = await server.seen("/api/chat")
        assert seen.json == request.body
        assert seen.headers["meshllm-request-id"] == request.request_id
        assert seen.headers["content-type"] == "application/json"
        await backend.aclose()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/ps", "/api/version"])
async def test_other_paths_pass_too(path: str) -> None:
    async with ScriptedOllama() as server:
        backend = OllamaBackend(server.url)
        body = CHAT if path.startswith("/v1") else None
        response = await backend.run(asking(path, body))
        assert response.status == 200
        assert await read_json(response)
        await backend.aclose()


async def test_an_error_passes_with_its_status_and_text() -> None:
    async with ScriptedOllama() as server:
        backend = OllamaBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT | {"model": "no"}))
        assert response.status == 404
        assert await read_json(response) == {"error": "model 'no' not found"}
        await backend.aclose()


async def test_a_first_token_is_given_out_while_the_rest_is_not_there_yet() -> None:
    gate = Gate()
    async with ScriptedOllama() as server:
        server.script("/api/chat", [chat_line(MODEL, "a"), gate, chat_end(MODEL)])
        backend = OllamaBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT))
        chunks = aiter(response)
        assert await anext(chunks) == chat_line(MODEL, "a")
        gate.set()
        assert await anext(chunks) == chat_end(MODEL)
        await response.aclose()
        await backend.aclose()


async def test_closing_in_mid_answer_closes_the_servers_socket() -> None:
    async with ScriptedOllama() as server:
        server.script("/api/chat", [chat_line(MODEL, "a"), Gate()])
        backend = OllamaBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT))
        await anext(aiter(response))
        await response.aclose()
        await response.aclose()  # closing twice is allowed
        await (await server.seen("/api/chat")).hung_up.wait()
        await backend.aclose()


async def test_cancelling_before_the_head_closes_the_servers_socket() -> None:
    async with ScriptedOllama() as server:
        server.script("/api/chat", [chat_end(MODEL)], head_gate=Gate())
        backend = OllamaBackend(server.url)
        running = asyncio.ensure_future(backend.run(asking("/api/chat", CHAT)))
        seen = await server.seen("/api/chat")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await seen.hung_up.wait()
        await backend.aclose()


async def test_a_server_that_breaks_off_is_an_error_after_what_it_said() -> None:
    async with ScriptedOllama() as server:
        server.script("/api/chat", [chat_line(MODEL, "a"), BREAK])
        backend = OllamaBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT))
        got = []
        with pytest.raises(BackendError, match="broke off"):
            async for chunk in response:
                got.append(chunk)  # noqa: PERF401 (the error must not lose it)
        assert b"".join(got) == chat_line(MODEL, "a")
        await response.aclose()
        await backend.aclose()


async def test_a_chunk_of_a_megabyte_arrives_whole() -> None:
    big = chat_line(MODEL, "x" * 1_000_000)
    async with ScriptedOllama() as server:
        server.script("/api/chat", [big, chat_end(MODEL)])
        backend = OllamaBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT))
        assert await read_all(response) == big + chat_end(MODEL)
        await backend.aclose()


async def test_a_reader_that_pauses_stalls_the_server() -> None:
    megabyte = bytes(1024 * 1024)
    steps: list[Step] = [megabyte] * 64
    async with ScriptedOllama() as server:
        server.script("/api/chat", steps)
        backend = OllamaBackend(server.url)
        response = await backend.run(asking("/api/chat", CHAT))
        seen = await server.seen("/api/chat")
        before = -1
        while before != seen.sent:  # until the sockets between are full
            before = seen.sent
            await asyncio.sleep(0.1)
        assert seen.sent < 32 * len(megabyte)
        assert len(await read_all(response)) == 64 * len(megabyte)
        await backend.aclose()


async def test_models_of_a_new_ollama_come_from_one_list() -> None:
    async with ScriptedOllama() as server:
        backend = OllamaBackend(server.url)
        (model,) = await backend.models()
        assert model.name == MODEL
        assert model.digest == DIGEST
        assert model.capabilities == ("completion", "tools")
        assert model.context_length == 131072
        assert model.details["family"] == "llama"
        assert server.to("/api/show") == []
        await backend.aclose()


async def test_an_old_ollama_is_asked_once_about_each_model() -> None:
    async with ScriptedOllama(("a:1b", "b:1b"), old=True) as server:
        backend = OllamaBackend(server.url)
        for _ in range(2):
            models = await backend.models()
            assert [model.name for model in models] == ["a:1b", "b:1b"]
            assert {model.capabilities for model in models} == {("completion", "tools")}
            assert {model.context_length for model in models} == {131072}
        assert len(server.to("/api/show")) <= 2  # both have one digest: one is enough
        await backend.aclose()


async def test_models_that_run_elsewhere_are_left_out() -> None:
    async with ScriptedOllama(remote=("big:cloud",)) as server:
        backend = OllamaBackend(server.url)
        assert [model.name for model in await backend.models()] == [MODEL]
        await backend.aclose()


async def test_meshllm_itself_is_never_a_backend() -> None:
    async with ScriptedOllama(server_name="meshllm/0.1") as server:
        backend = OllamaBackend(server.url)
        with pytest.raises(BackendError, match="meshllm itself") as caught:
            await backend.run(asking("/api/chat", CHAT))
        assert caught.value.status == 508
        await backend.aclose()


async def test_redirects_are_not_followed() -> None:
    async with ScriptedOllama() as server:
        elsewhere = {"Location": f"{server.url}/api/generate"}
        server.script("/api/chat", [b""], status=307, headers=elsewhere)
        backend = OllamaBackend(server.url)
        with pytest.raises(BackendError, match="Redirects are not followed"):
            await backend.run(asking("/api/chat", CHAT))
        assert server.to("/api/generate") == []
        await backend.aclose()


async def test_nobody_there_is_said_with_what_to_do() -> None:
    async with ScriptedOllama() as server:
        url = server.url
    backend = OllamaBackend(url)
    with pytest.raises(BackendError, match="Is it running"):
        await backend.models()
    await backend.aclose()


async def test_a_page_is_no_ollama() -> None:
    async with ScriptedOllama() as server:
        backend = OllamaBackend(server.url)
        server.script("/api/tags", [b"<html>"], content_type="text/html")
        with pytest.raises(BackendError, match="without JSON"):
            await backend.models()
        server.script_json("/api/tags", {"hello": "there"})
        with pytest.raises(BackendError, match="does not speak Ollama's API"):
            await backend.models()
        await backend.aclose()
