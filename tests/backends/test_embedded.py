"""Real tokens: the embedded model, its child process, and what ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from meshllm.backends import embedded, find
from meshllm.backends.embedded import EmbeddedBackend, open_embedded
from meshllm.backends.find import open_backend
from meshllm.backends.openai import OpenAIBackend
from meshllm.errors import BackendError, ConfigError
from meshllm.processes import Child
from tests.fakes.reading import asking, read_all, read_json, read_lines
from tests.fakes.scripted_ollama import ScriptedOllama

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

MODEL = "smollm2:135m"
HI = [{"role": "user", "content": "Say hello."}]
SURE = {"temperature": 0, "seed": 1}  # the same text every time on one machine
CHAT: dict[str, Any] = {"model": MODEL, "messages": HI}
LONG = {"num_predict": 2000, "seed": 3}
STORY = [{"role": "user", "content": "Tell a very long story about a lighthouse."}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend(model_path: Path) -> AsyncIterator[EmbeddedBackend]:
    found = await open_embedded()
    yield found
    await found.aclose()


async def slot(backend: EmbeddedBackend) -> dict[str, Any]:
    """What llama.cpp says of its only slot."""
    assert backend._running is not None
    slots = await backend._running.server._upstream.get_json("/slots")
    found: dict[str, Any] = slots[0]
    return found


async def left(backend: EmbeddedBackend) -> int:
    """Waits until the slot is free, by asking: the tokens that it holds, unfinished."""
    while (state := await slot(backend))["is_processing"]:
        await asyncio.sleep(0.02)
    assert state["next_token"][0]["has_next_token"]
    return int(state["n_prompt_tokens"])  # those of the answer count too


def chat(**fields: Any) -> dict[str, Any]:
    return CHAT | {"options": SURE | {"num_predict": 8}} | fields


async def test_it_tells_what_it_has(backend: EmbeddedBackend) -> None:
    (model,) = await backend.models()
    assert model.name == MODEL
    assert model.size == 98_362_432
    assert model.details["family"] == "llama"
    assert model.context_length == 4096
    assert model.capabilities == ("completion", "embedding")
    assert backend.kind == "embedded"


async def test_a_chat_streams_and_says_the_same_at_once(
    backend: EmbeddedBackend,
) -> None:
    streamed = await read_lines(await backend.run(asking("/api/chat", chat())))
    text = "".join(line["message"]["content"] for line in streamed)
    assert text
    assert [line["done"] for line in streamed[:-1]] == [False] * (len(streamed) - 1)
    last = streamed[-1]
    assert last["done_reason"] == "length"
    assert last["eval_count"] == 8
    assert last["prompt_eval_count"] > 5
    for name in ("total", "load", "prompt_eval", "eval"):
        assert last[f"{name}_duration"] > 0
    assert last["total_duration"] >= last["eval_duration"]
    whole = await read_json(await backend.run(asking("/api/chat", chat(stream=False))))
    assert whole["message"] == {"role": "assistant", "content": text}
    assert whole["done_reason"] == "length"


async def test_generate_with_a_stop_word(backend: EmbeddedBackend) -> None:
    options = SURE | {"num_predict": 60}
    body = {"model": MODEL, "prompt": "Count: 1, 2, 3, 4,", "raw": True}
    full = await read_json(
        await backend.run(
            asking("/api/generate", body | {"stream": False, "options": options})
        )
    )
    stop = full["response"].split()[3]
    lines = await read_lines(
        await backend.run(
            asking("/api/generate", body | {"options": options | {"stop": [stop]}})
        )
    )
    text = "".join(line["response"] for line in lines)
    assert stop not in text
    assert full["response"].startswith(text)
    assert lines[-1]["done_reason"] == "stop"


async def test_a_schema_is_obeyed(backend: EmbeddedBackend) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
        "additionalProperties": False,
    }
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/api/chat", {"messages": [{"role": "user", "content": "Tom is five."}]}),
        ("/api/generate", {"prompt": "Tom is five.", "system": "Answer in JSON."}),
        ("/api/generate", {"prompt": "Tom's age:", "raw": True}),
    ]
    for path, fields in requests:
        body = {"model": MODEL, "format": schema, "stream": False, "options": SURE}
        whole = await read_json(await backend.run(asking(path, body | fields)))
        text = whole["message"]["content"] if path == "/api/chat" else whole["response"]
        assert isinstance(json.loads(text)["age"], int)


async def test_logprobs_spell_the_text(backend: EmbeddedBackend) -> None:
    body = chat(logprobs=True, top_logprobs=2, stream=False)
    whole = await read_json(await backend.run(asking("/api/chat", body)))
    spelled = bytes(byte for item in whole["logprobs"] for byte in item["bytes"])
    assert spelled.decode() == whole["message"]["content"]
    assert all(len(item["top_logprobs"]) == 2 for item in whole["logprobs"])
    assert all(item["logprob"] <= 0 for item in whole["logprobs"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_openais_api_streams_and_says_the_same_at_once(
    backend: EmbeddedBackend, path: str
) -> None:
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "temperature": 0}
    body |= {"messages": HI} if "chat" in path else {"prompt": "Hello"}
    raw = await read_all(await backend.run(asking(path, body | {"stream": True})))
    assert raw.endswith(b"data: [DONE]\n\n")
    assert b"prompt_progress" not in raw
    events = [json.loads(part[6:]) for part in raw.split(b"\n\n")[:-2]]
    choices = [event["choices"][0] for event in events if event["choices"]]
    text = "".join(
        choice.get("text") or choice.get("delta", {}).get("content") or ""
        for choice in choices
    )
    whole = await read_json(await backend.run(asking(path, body)))
    (choice,) = whole["choices"]
    assert text == (choice["message"]["content"] if "chat" in path else choice["text"])
    assert choice["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 8
    assert whole["model"] == MODEL


async def test_a_response_at_once(backend: EmbeddedBackend) -> None:
    body = {"model": MODEL, "input": "Hi", "max_output_tokens": 4}
    whole = await read_json(await backend.run(asking("/v1/responses", body)))
    assert whole["object"] == "response"
    assert whole["output"][0]["content"][0]["text"]


async def test_embeddings(backend: EmbeddedBackend) -> None:
    texts = ["a lighthouse", "a lighthouse", "sea " * 600]
    body = {"model": MODEL, "input": texts}
    found = await read_json(await backend.run(asking("/api/embed", body)))
    one, same, long = found["embeddings"]
    assert one == same != long
    assert len(one) == 576
    assert sum(value * value for value in one) == pytest.approx(1)
    whole = await backend.run(asking("/api/embed", body | {"truncate": False}))
    assert whole.status == 400
    assert "exceeds the context length" in (await read_json(whole))["error"]


async def test_what_it_cannot_do_is_an_error_in_the_apis_words(
    backend: EmbeddedBackend,
) -> None:
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"messages": [{"role": "user", "content": "a " * 9000}]}, 400, "exceeds the"),
        ({"tools": [{"type": "function"}]}, 400, "does not support tools"),
        ({"think": True}, 400, "does not support thinking"),
        ({"model": "other"}, 404, "model 'other' not found"),
    ]
    for fields, status, says in cases:
        for stream in (True, False):
            body = CHAT | fields | {"stream": stream}
            response = await backend.run(asking("/api/chat", body))
            assert response.status == status
            assert says in (await read_json(response))["error"]


async def test_a_conversation_that_outgrew_the_context_loses_its_oldest_messages(
    backend: EmbeddedBackend,
) -> None:
    old = [{"role": "user", "content": "lighthouse " * 5000} for _ in range(2)]
    body = chat(messages=old + HI, stream=False)
    whole = await read_json(await backend.run(asking("/api/chat", body)))
    alone = await read_json(await backend.run(asking("/api/chat", chat(stream=False))))
    assert whole["message"] == alone["message"]
    refused = await backend.run(asking("/api/chat", body | {"truncate": False}))
    assert refused.status == 400
    assert "exceeds" in (await read_json(refused))["error"]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_closing_in_mid_answer_frees_the_slot(
    backend: EmbeddedBackend, path: str
) -> None:
    body = CHAT | {"messages": STORY, "stream": True, "options": LONG}
    response = await backend.run(asking(path, body | {"max_tokens": 2000}))
    chunks = aiter(response)
    for _ in range(4):
        await anext(chunks)
    assert (await slot(backend))["is_processing"]
    await response.aclose()
    assert await left(backend) < 1000


async def test_cancelling_what_is_collected_frees_the_slot(
    backend: EmbeddedBackend,
) -> None:
    body = CHAT | {"messages": STORY, "stream": False, "options": LONG}
    running = asyncio.ensure_future(backend.run(asking("/api/chat", body)))
    while not (await slot(backend))["is_processing"]:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await left(backend) < 1000


async def test_cancelling_during_a_long_prompt_frees_the_slot(
    backend: EmbeddedBackend,
) -> None:
    """Within its first second too: the reports on the prompt make it notice."""
    prompt = [{"role": "user", "content": "lighthouse " * 1500}]
    for path in ("/api/chat", "/v1/chat/completions"):
        body = CHAT | {"messages": prompt, "stream": True}
        response = await backend.run(asking(path, body))
        while not (await slot(backend))["is_processing"]:
            await asyncio.sleep(0.01)
        await response.aclose()
        assert await left(backend) < 1500


async def test_a_killed_child_is_an_error_and_comes_back(model_path: Path) -> None:
    backend = await open_embedded()
    try:
        body = CHAT | {"messages": STORY, "options": LONG}
        response = await backend.run(asking("/api/chat", body))
        chunks = aiter(response)
        await anext(chunks)
        first = backend.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with pytest.raises(BackendError, match=r"ended with -9.*next request starts"):
            while True:
                await anext(chunks)
        await response.aclose()
        again = await read_lines(await backend.run(asking("/api/chat", chat())))
        assert again[-1]["done"] is True
        assert backend.pid not in (None, first)
    finally:
        await backend.aclose()
    with pytest.raises(BackendError, match="was closed"):
        await backend.run(asking("/api/chat", chat()))


PARENT = """
import asyncio, json
from meshllm.backends.embedded import open_embedded
async def main():
    backend = await open_embedded()
    folder = str(backend._running._folder)
    print(json.dumps({"pid": backend.pid, "folder": folder}), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux only: pidfd")
async def test_a_killed_parent_leaves_no_orphan(model_path: Path) -> None:
    parent = await Child.start([sys.executable, "-c", PARENT])
    said = await parent.wait_json(60)
    assert os.stat(said["folder"]).st_mode & 0o777 == 0o700
    fd = os.pidfd_open(said["pid"])
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, gone.set)
    try:
        os.kill(parent.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            await gone.wait()
    finally:
        if not gone.is_set():
            os.kill(said["pid"], signal.SIGKILL)
        loop.remove_reader(fd)
        os.close(fd)
        await parent.stop()
    with pytest.raises(FileNotFoundError):
        os.stat(said["folder"])


async def test_a_model_file_of_ones_own(model_path: Path, tmp_path: Path) -> None:
    own = tmp_path / "My Model.Q4.gguf"
    own.symlink_to(model_path)
    backend = await open_backend("embedded", parallel=2, model_file=own)
    try:
        (model,) = await backend.models()
        assert model.name == "my model.q4"
        assert model.size == 98_362_432
        assert backend.parallel == 2
        body = chat(model=model.name, stream=False)
        whole = await read_json(await backend.run(asking("/api/chat", body)))
        assert whole["message"]["content"]
    finally:
        await backend.aclose()


async def test_where_there_are_no_sockets_it_takes_loopback_and_a_key(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "SOCKET_PATH_MOST", 0)
    backend = await open_embedded()
    try:
        whole = await backend.run(asking("/api/chat", chat(stream=False)))
        assert (await read_json(whole))["message"]["content"]
        assert backend._running is not None
        url = backend._running.server.url
        stranger = OpenAIBackend(url)
        with pytest.raises(BackendError, match="with 401"):
            await stranger._upstream.post_json("/v1/chat/completions", CHAT)
        await stranger.aclose()
    finally:
        await backend.aclose()


async def test_it_is_the_last_resort(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedOllama() as server:
        nowhere = server.url  # free a moment later
    monkeypatch.setenv("OLLAMA_HOST", nowhere)
    monkeypatch.setattr(find, "OPENAI_URLS", (nowhere,))
    backend = await open_backend("auto")
    assert backend.kind == "embedded"
    await backend.aclose()


async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(os.urandom(4096))
    with pytest.raises(BackendError, match="cannot be served"):
        await open_backend("auto", model_file=broken)
    with pytest.raises(ConfigError, match="no model file"):
        await open_backend("embedded", model_file=tmp_path / "absent.gguf")
