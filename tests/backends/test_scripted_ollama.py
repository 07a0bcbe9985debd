"""The scripted Ollama is real enough for Ollama's own client."""

from __future__ import annotations

import ollama
import pytest

from tests.fakes.scripted_ollama import NDJSON, ScriptedOllama, line

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)


async def test_the_client_chats_generates_and_lists() -> None:
    async with ScriptedOllama() as server, ollama.AsyncClient(server.url) as client:
        listed = await client.list()
        assert [model.model for model in listed.models] == ["llama3.2:latest"]
        assert (await client.ps()).models[0].context_length == 4096
        assert (await client.show("llama3.2")).modelinfo is not None
        whole = await client.chat("llama3.2", HI)
        assert whole.message.content == "Hello wörld"
        stream = await client.chat("llama3.2", HI, stream=True)
        parts = [part async for part in stream]
        assert [part.message.content for part in parts] == ["Hel", "lo ", "wörld", ""]
        assert parts[-1].done_reason == "stop"
        assert parts[-1].eval_count == 3
        said = await client.generate("llama3.2", "hi")
        assert (said.response, said.context) == ("Hello wörld", [1, 2, 3])
        assert (await client.generate("llama3.2", "")).done_reason == "load"


async def test_the_client_gets_its_errors() -> None:
    async with ScriptedOllama() as server, ollama.AsyncClient(server.url) as client:
        with pytest.raises(ollama.ResponseError, match="not found") as caught:
            await client.chat("unknown", HI)
        assert caught.value.status_code == 404
        server.script("/api/chat", [line({"error": "gone"})], content_type=NDJSON)
        with pytest.raises(ollama.ResponseError, match="gone"):
            async for _ in await client.chat("llama3.2", HI, stream=True):
                pass
