from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from meshllm.errors import Code, NotAllowed, PeerUnreachable, StreamReset
from meshllm.gateway import Gateway
from meshllm.gateway.forward import BODY_LIMIT, WHOLE_LIMIT, server_timing
from meshllm.routing.seam import NoRoute
from tests.fakes.memory_mesh import ANN, MemoryAnswer, MemoryMesh, Step
from tests.fakes.raw_http import connected, exchange, post

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
JSON = "application/json; charset=utf-8"
QUESTION = {"model": "llama3.2:1b", "messages": [{"role": "user", "content": "hi"}]}


def line(text: str) -> bytes:
    return json.dumps({"message": {"content": text}, "done": False}).encode() + b"\n"


async def test_a_streamed_answer_is_passed_on_to_the_byte(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(NDJSON, [line("a"), line("b") + line("c")])]
    body = json.dumps(QUESTION).encode()
    answer = await exchange(gateway.url, post("/api/chat", body, "Connection: close"))
    answer = re.sub(rb"Date: [^\r]*", b"Date: D", answer)
    answer = re.sub(rb"Request-Id: [0-9a-f]{32}", b"Request-Id: R", answer)
    chunks = [line("a"), line("b") + line("c")]
    assert (
        answer
        == (
            b"HTTP/1.1 200 OK\r\n"
            b"Server: meshllm\r\n"
            b"Meshllm-Request-Id: R\r\n"
            b"Meshllm-Provider: %b\r\n"
            b"Meshllm-Path: host\r\n"
            b"Server-Timing: queue;dur=1.0, connect;dur=0.0, rtt;dur=12.5\r\n"
            b"X-Content-Type-Options: nosniff\r\n"
            b"Content-Type: application/x-ndjson\r\n"
            b"Transfer-Encoding: chunked\r\n"
            b"Date: D\r\n"
            b"Connection: close\r\n"
            b"\r\n" % ANN.id.encode()
        )
        + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks)
        + b"0\r\n\r\n"
    )


async def test_what_is_asked_is_what_the_program_sent(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [b"{}"])]
    body = b' {"model":"llama3.2:1b",\n"messages":[],"unknown":1e2}'
    answer = await client.post("/api/chat", content=body)
    [ask] = mesh.asked
    assert ask.body == body
    assert (ask.method, ask.path) == ("POST", "/api/chat")
    assert (ask.model, ask.provider) == ("llama3.2:1b", None)
    assert ask.content_type == "application/json"
    assert ask.request_id == answer.headers["Meshllm-Request-Id"]


async def test_a_pin_is_taken_off_the_name_before_the_provider_reads_it(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [b"{}"])]
    await client.post("/api/generate", json={"model": "llama3.2:1b@bob", "prompt": "é"})
    [ask] = mesh.asked
    assert (ask.model, ask.provider) == ("llama3.2:1b", "bob")
    assert json.loads(ask.body) == {"model": "llama3.2:1b", "prompt": "é"}


async def test_show_takes_the_old_name_too(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [b'{"model_info":{}}'])]
    answer = await client.post("/api/show", json={"name": "llama3.2:1b"})
    assert answer.json() == {"model_info": {}}
    assert mesh.asked[0].model == "llama3.2:1b"


async def test_a_small_answer_in_one_piece_has_a_length(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    answer = MemoryAnswer(JSON, [b'{"a"', b":1}"])
    mesh.replies = [answer]
    got = await client.post("/api/chat", json={**QUESTION, "stream": False})
    assert got.content == b'{"a":1}'
    assert got.headers["Content-Length"] == "7"
    assert answer.is_whole
    assert answer.closed.is_set()


async def test_a_large_answer_in_one_piece_is_passed_on(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    pieces = [bytes([65 + n]) * 100_000 for n in range(6)]
    assert sum(map(len, pieces)) > 2 * WHOLE_LIMIT
    mesh.replies = [MemoryAnswer(JSON, [*pieces])]
    got = await client.post("/v1/embeddings", json={"model": "m", "input": "x"})
    assert got.content == b"".join(pieces)


async def test_an_error_of_the_provider_keeps_its_status_and_text(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    body = b'{"error":"\\"m\\" does not support thinking"}'
    mesh.replies = [MemoryAnswer(JSON, [body], status=400)]
    got = await client.post("/api/chat", json=QUESTION)
    assert (got.status_code, got.content) == (400, body)
    assert got.headers["Meshllm-Provider"] == ANN.id


async def test_a_provider_that_is_busy_says_when_to_come_again(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    for path in ("/api/chat", "/v1/chat/completions"):
        mesh.replies = [MemoryAnswer("application/json", [b"{}"], status=503)]
        answer = await client.post(path, json=QUESTION)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


async def test_headers_come_with_the_head_of_the_answer_not_with_its_first_byte(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    gate = asyncio.Event()
    mesh.replies = [MemoryAnswer(SSE, [gate, b"data: {}\n\n"])]
    async with client.stream("POST", "/v1/chat/completions", json=QUESTION) as got:
        assert got.headers["Meshllm-Path"] == "host"
        gate.set()
        assert await got.aread() == b"data: {}\n\n"


async def test_each_chunk_arrives_before_the_next_is_made(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    steps: list[Step] = [step for gate in gates for step in (gate, line("tok"))]
    mesh.replies = [MemoryAnswer(NDJSON, steps)]
    async with client.stream("POST", "/api/chat", json=QUESTION) as got:
        chunks = got.aiter_raw()
        for gate in gates:
            gate.set()
            assert await anext(chunks) == line("tok")


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (NoRoute(404, "model 'x' not found"), 404, {}),
        (NoRoute(503, "All busy.", "busy", 7), 503, {"Retry-After": "7"}),
        (NoRoute(502, "Lost."), 502, {"x-should-retry": "false"}),
        (NoRoute(504, "Too long."), 504, {"x-should-retry": "false"}),
        (NoRoute(508, "Round."), 508, {"x-should-retry": "false"}),
        (NoRoute(429, "Quota.", "quota", 60), 429, {"Retry-After": "60"}),
        (NoRoute(403, "No."), 403, {}),
        (NoRoute(413, "Large."), 413, {}),
        (PeerUnreachable("Gone."), 502, {"x-should-retry": "false"}),
        (StreamReset(Code.TIMEOUT, "Slow."), 504, {"x-should-retry": "false"}),
        (NotAllowed("No."), 403, {}),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_an_error_before_the_first_byte_has_status_and_shape_of_the_api(
    client: httpx.AsyncClient,
    mesh: MemoryMesh,
    path: str,
    error: Exception,
    status: int,
    headers: dict[str, str],
) -> None:
    mesh.replies = [error]
    got = await client.post(path, json=QUESTION)
    assert got.status_code == status
    if path.startswith("/api"):
        assert got.json() == {"error": str(error)}
    else:
        assert got.json()["error"]["message"] == str(error)
        code = error.code if isinstance(error, NoRoute) else None
        assert got.json()["error"]["code"] == code
    for name in ("Retry-After", "x-should-retry"):
        assert got.headers.get(name) == headers.get(name)
    assert "Meshllm-Provider" not in got.headers


async def test_an_unforeseen_failure_is_a_500_that_tells_no_details(
    client: httpx.AsyncClient,
    mesh: MemoryMesh,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mesh.replies = [RuntimeError("secret")]
    got = await client.post("/api/chat", json=QUESTION)
    assert got.status_code == 500
    assert got.json() == {"error": "The gateway failed; its log says why."}
    assert "secret" in caplog.text


async def test_a_broken_ollama_stream_ends_with_an_error_line(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    lost = StreamReset(Code.GONE, "The provider was lost.")
    half = line("b")[:9]
    mesh.replies = [MemoryAnswer(NDJSON, [line("a") + half, lost])]
    got = await client.post("/api/chat", json=QUESTION)
    assert got.status_code == 200
    assert got.content == line("a") + b'{"error":"The provider was lost."}\n'


async def test_a_broken_openai_stream_ends_with_an_error_event_and_no_done(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    steps: list[Step] = [
        b'data: {"a":1}\n\nda',
        PeerUnreachable("The provider was lost."),
    ]
    mesh.replies = [MemoryAnswer(SSE, steps)]
    got = await client.post("/v1/chat/completions", json={**QUESTION, "stream": True})
    first, second, rest = got.content.split(b"\n\n")
    assert first == b'data: {"a":1}'
    error = json.loads(second.removeprefix(b"data: "))["error"]
    assert error["message"] == "The provider was lost."
    assert rest == b""


async def test_a_stream_that_broke_inside_a_passed_record_is_visibly_cut(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    gate = asyncio.Event()
    long = b'{"message":"' + b"x" * 70_000
    mesh.replies = [MemoryAnswer(NDJSON, [long, gate, PeerUnreachable("Gone.")])]
    with pytest.raises(httpx.TransportError):
        async with client.stream("POST", "/api/chat", json=QUESTION) as got:
            got_bytes = 0
            async for chunk in got.aiter_raw():
                got_bytes += len(chunk)
                if got_bytes == len(long):
                    gate.set()


async def test_a_small_answer_lost_half_way_is_an_error_of_its_own(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [b'{"mess', PeerUnreachable("It was lost.")])]
    got = await client.post("/v1/chat/completions", json=QUESTION)
    assert got.status_code == 502
    assert got.json()["error"]["message"] == "It was lost."
    assert got.headers["x-should-retry"] == "false"  # the work had begun


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_large_answer_lost_half_way_is_visibly_cut(
    gateway: Gateway, mesh: MemoryMesh, version: str
) -> None:
    gate = asyncio.Event()
    steps: list[Step] = [b"x" * (WHOLE_LIMIT + 1), gate, PeerUnreachable("Gone.")]
    mesh.replies = [MemoryAnswer(JSON, steps)]
    async with connected(gateway.url) as (reader, writer):
        writer.write(post("/v1/embeddings", b'{"model":"m"}', version=version))
        await reader.readuntil(b"x" * 1000)
        gate.set()
        with pytest.raises(ConnectionResetError):
            while await reader.read(65_536):
                pass


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/chat", b"{", 400, "the request body is not JSON"),
        ("/api/chat", b"[]", 400, "must be a JSON object"),
        ("/api/chat", b"{}", 400, "model is required"),
        ("/api/generate", b"{}", 404, "model '' not found"),
        ("/v1/chat/completions", b"{}", 400, "model is required"),
        ("/api/chat", b'{"model":"a","model":"b"}', 400, 'key "model" is repeated'),
        ("/api/chat", b'{"model":"a","Model":"b"}', 400, "differ only by case"),
        ("/v1/chat/completions", b'{"model":1}', 400, '"model" must be a string'),
        ("/api/chat", b'{"model":"\\ud800"}', 400, "surrogate"),
        ("/api/chat", b"\xff", 400, "not UTF-8"),
        ("/api/chat", b"[" * 100_000, 400, "nested too deeply"),
    ],
)
async def test_a_bad_body_is_refused_without_asking_anybody(
    client: httpx.AsyncClient,
    mesh: MemoryMesh,
    path: str,
    body: bytes,
    status: int,
    message: str,
) -> None:
    got = await client.post(path, content=body)
    assert got.status_code == status
    error = got.json()["error"]
    assert message in (error["message"] if path.startswith("/v1") else error)
    assert mesh.asked == []


async def test_a_body_said_to_be_too_large_is_refused_before_it_is_sent(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    request = post("/api/chat", b"", "Expect: 100-continue")
    async with connected(gateway.url) as (reader, writer):
        writer.write(request.replace(b"Length: 0", b"Length: %d" % (BODY_LIMIT + 1)))
        answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 413 ")  # and no 100 Continue before it
    assert b"Connection: close" in answer
    assert b'{"error":"The request is larger than 32 MiB."}' in answer
    assert mesh.asked == []


async def test_a_chunked_body_is_cut_at_the_limit(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    async def too_much() -> Any:
        for _ in range(33):
            yield b" " * 1024 * 1024

    got = await client.post("/v1/chat/completions", content=too_much())
    assert got.status_code == 413
    assert got.json()["error"]["type"] == "invalid_request_error"
    assert mesh.asked == []


async def test_a_large_body_within_the_limit_is_asked(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [b"{}"])]
    body = json.dumps({"model": "m", "prompt": "x" * 3_000_000}).encode()
    got = await client.post("/api/generate", content=body)
    assert got.status_code == 200
    assert mesh.asked[0].body == body


async def test_a_program_that_expects_to_be_asked_for_its_body_is(
    gateway: Gateway, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [b"{}"])]
    request = post("/api/chat", b"", "Connection: close", "Expect: 100-continue")
    async with connected(gateway.url) as (reader, writer):
        writer.write(request.replace(b"Length: 0", b"Length: 13"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'{"model":"m"}')
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_refused(
    client: httpx.AsyncClient, mesh: MemoryMesh, encoding: str
) -> None:
    headers = {"Content-Encoding": encoding}
    got = await client.post("/v1/responses", content=b"x", headers=headers)
    assert got.status_code == 415
    assert "Content-Encoding" in got.json()["error"]["message"]
    assert mesh.asked == []


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_request_that_comes_round_again_is_508(
    client: httpx.AsyncClient, mesh: MemoryMesh, path: str
) -> None:
    headers = {"Meshllm-Request-Id": "00" * 16}
    got = await client.post(path, json=QUESTION, headers=headers)
    assert got.status_code == 508
    assert "came round again" in got.text
    assert got.headers["x-should-retry"] == "false"
    assert mesh.asked == []


@pytest.mark.parametrize(
    "content_type", ["text/html", "image/svg+xml", "application/json\r\nX: y", ""]
)
async def test_a_provider_cannot_make_a_browser_render_its_answer(
    client: httpx.AsyncClient, mesh: MemoryMesh, content_type: str
) -> None:
    mesh.replies = [MemoryAnswer(content_type, [b"<script>"])]
    got = await client.post("/api/chat", json=QUESTION)
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("status", [0, 101, 199, 204, 304, 600])
async def test_a_status_that_is_no_answer_is_502(
    client: httpx.AsyncClient, mesh: MemoryMesh, status: int
) -> None:
    answer = MemoryAnswer(JSON, [b"{}"], status=status)
    mesh.replies = [answer]
    got = await client.post("/api/chat", json=QUESTION)
    assert got.status_code == 502
    assert answer.closed.is_set()


def test_server_timing_names_only_what_is_known_and_finite() -> None:
    timing = {"prefill": 3.25, "evil\r\n": 1, "queue": -1, "rtt": 20, "load": 1e999}
    assert server_timing(timing) == "rtt;dur=20.0, prefill;dur=3.2"
    assert server_timing({}) == ""
