"""What is no answer of a model server never reaches a program as one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshllm.backends.base import BackendResponse
from meshllm.backends.ollama import OllamaBackend
from meshllm.backends.openai import OpenAIBackend
from meshllm.errors import BackendError
from tests.fakes.reading import asking, read_all, read_json
from tests.fakes.scripted_http import BREAK, Answer, Seen, json_answer
from tests.fakes.scripted_http import ScriptedServer as Scripted

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PAGE = b"<html><h1>502 Bad Gateway</h1></html>"
V1 = "/v1/chat/completions"


class Nonsense(Scripted):
    """Lists a model, in both APIs, and answers every question with `answer`."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(lambda seen: self._reply(seen))
        self.answer = answer

    async def __aenter__(self) -> Nonsense:
        await super().__aenter__()
        return self

    def _reply(self, seen: Seen) -> Answer:
        if seen.method == "GET":
            return json_answer({"data": [{"id": "m"}]})
        return self.answer


async def asked(
    answer: Answer, path: str, kind: type[OllamaBackend | OpenAIBackend], **more: Any
) -> tuple[BackendResponse, bytes]:
    """The head and the body of what a program would get. BackendError likewise."""
    async with Nonsense(answer) as server:
        backend = kind(server.url)
        try:
            response = await backend.run(asking(path, CHAT | more))
            return response, await read_all(response)
        finally:
            await backend.aclose()


PATHS = [
    ("/api/chat", OllamaBackend, True),
    ("/api/chat", OllamaBackend, False),
    (V1, OllamaBackend, True),
    (V1, OpenAIBackend, True),
    (V1, OpenAIBackend, False),
    ("/api/chat", OpenAIBackend, True),
    ("/api/chat", OpenAIBackend, False),
]


async def error(
    answer: Answer,
    path: str,
    kind: type[OllamaBackend | OpenAIBackend],
    *,
    stream: bool,
) -> tuple[int, str]:
    """Status and text: raised, for the exchange to say, or said in the API's shape."""
    try:
        response, body = await asked(answer, path, kind, stream=stream)
    except BackendError as failure:
        return failure.status, str(failure)
    assert response.content_type.startswith("application/json")
    said = json.loads(body)["error"]
    if path.startswith("/v1/"):
        assert said.keys() >= {"message", "type", "code"}
        return response.status, said["message"]
    assert isinstance(said, str)
    return response.status, said


@pytest.mark.parametrize(("path", "kind", "stream"), PATHS)
async def test_a_page_instead_of_an_answer_is_502(
    path: str, kind: type[OllamaBackend | OpenAIBackend], stream: bool
) -> None:
    page = Answer([PAGE], 200, "text/html; charset=utf-8")
    status, text = await error(page, path, kind, stream=stream)
    assert status == 502
    assert "with text/html" in text
    assert "<html>" not in text


@pytest.mark.parametrize(("path", "kind", "stream"), PATHS)
async def test_a_proxys_error_page_keeps_its_status_and_not_its_page(
    path: str, kind: type[OllamaBackend | OpenAIBackend], stream: bool
) -> None:
    page = Answer([PAGE], 503, "text/html")
    status, text = await error(page, path, kind, stream=stream)
    assert status == 503
    assert text.endswith(" with status 503.")


@pytest.mark.parametrize(("path", "kind", "stream"), PATHS)
@pytest.mark.parametrize("refusal", [401, 403, 407])
async def test_a_server_that_lets_the_provider_not_in_is_no_fault_of_the_program(
    path: str, kind: type[OllamaBackend | OpenAIBackend], stream: bool, refusal: int
) -> None:
    login = json_answer({"error": {"message": "Invalid API key"}}, refusal)
    status, text = await error(login, path, kind, stream=stream)
    assert (status, f"(status {refusal})" in text) == (502, True)


@pytest.mark.parametrize(
    ("body", "kind", "what"),
    [
        (b'{"message": {"role": "assi', "application/json", "with what is no JSON"),
        (b"", "application/json", "with nothing"),
        (b"\x89PNG\r\n", "image/png", "with image/png"),
        (bytes(300_000), "application/octet-stream", "octet-stream"),
    ],
)
async def test_half_an_object_nothing_and_a_picture_are_502(
    body: bytes, kind: str, what: str
) -> None:
    for path, backend in (("/api/chat", OllamaBackend), (V1, OllamaBackend)):
        answer = Answer([body] if body else [], 200, kind)
        status, text = await error(answer, path, backend, stream=False)
        assert (status, what in text) == (502, True)
        assert "Check its address" in text


async def test_half_an_object_that_breaks_off_is_502_too() -> None:
    answer = Answer([b'{"message":', BREAK], 200, "application/json")
    status, text = await error(answer, "/api/chat", OllamaBackend, stream=False)
    assert (status, "broke off" in text) == (502, True)


async def test_json_by_another_name_is_taken() -> None:
    answer = Answer([b'{"message": {}}'], 200, "text/plain")
    response, body = await asked(answer, "/api/chat", OllamaBackend)
    assert (response.status, body) == (200, b'{"message": {}}')
    assert response.content_type.startswith("application/json")


async def test_a_long_object_passes_to_its_end() -> None:
    whole = json.dumps({"embeddings": [0.5] * 100_000}).encode()
    steps = [whole[:100_000], whole[100_000:300_000], whole[300_000:]]
    answer = Answer(steps, 200, "application/json")
    async with Nonsense(answer) as server:
        backend = OllamaBackend(server.url)
        response = await backend.run(asking("/api/embed", {"model": "m"}))
        assert await read_json(response) == json.loads(whole)
        await backend.aclose()


@pytest.mark.parametrize(
    ("sent", "path", "said"),
    [
        ({"error": "no such thing", "more": 1}, "/api/chat", None),
        ({"error": {"message": "no such thing", "more": 1}}, V1, None),
        ({"error": {"message": "no such thing"}}, "/api/chat", "no such thing"),
        ({"error": "no such thing"}, V1, "no such thing"),
        ({"detail": "no such thing"}, V1, "no such thing"),
    ],
)
async def test_an_error_is_passed_whole_or_put_into_the_shape_of_the_api(
    sent: dict[str, Any], path: str, said: str | None
) -> None:
    response, body = await asked(json_answer(sent, 422), path, OllamaBackend)
    assert response.status == 422
    if said is None:
        assert json.loads(body) == sent
    else:
        found = json.loads(body)["error"]
        assert (found["message"] if path == V1 else found) == said


async def test_an_error_in_plain_words_keeps_them() -> None:
    plain = Answer([b"404 page not found\n"], 404, "text/plain")
    for path in ("/api/chat", V1):
        assert await error(plain, path, OllamaBackend, stream=True) == (
            404,
            "404 page not found",
        )


async def test_a_status_that_is_none_is_502() -> None:
    odd = json_answer({}, 700)
    status, text = await error(odd, "/api/chat", OllamaBackend, stream=True)
    assert (status, text.endswith("/api/chat with status 700.")) == (502, True)
