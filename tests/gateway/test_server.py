"""The guards on the wire, and how it starts and stops."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import httpx
import pytest
from aiohttp import web

from meshllm.errors import ConfigError
from meshllm.gateway import Gateway, Options
from tests.fakes.memory_mesh import LLAMA, MemoryAnswer, MemoryMesh

EVIL = "https://evil.example"


@asynccontextmanager
async def serving(
    options: Options, mesh: MemoryMesh | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    gateway = Gateway(mesh or MemoryMesh(LLAMA), options)
    await gateway.start()
    try:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            yield client
    finally:
        await gateway.stop()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/api/tags"), ("POST", "/api/chat"), ("GET", "/health")],
)
async def test_a_rebound_name_gets_nothing(
    client: httpx.AsyncClient, mesh: MemoryMesh, method: str, path: str
) -> None:
    answer = await client.request(
        method, path, headers={"Host": "evil.example:11434"}, content=b"{}"
    )
    assert answer.status_code == 403
    assert "--allow-host" in answer.text
    assert mesh.asked == []


async def test_a_foreign_page_gets_nothing_and_may_not_read_why(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    for origin in (EVIL, "null"):
        answer = await client.post(
            "/v1/chat/completions",
            headers={"Origin": origin, "Content-Type": "text/plain"},
            content=b'{"model":"llama3.2:1b"}',
        )
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "permission_error"
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert mesh.asked == []


async def test_an_allowed_page_may_read_answers_and_errors(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/api/tags", "/api/nothing"):
        answer = await client.get(path, headers={"Origin": "http://localhost:3000"})
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert "Meshllm-Path" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"
    plain = await client.get("/api/tags")
    assert "Access-Control-Allow-Origin" not in plain.headers


async def test_a_streamed_answer_may_be_read_too(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer("text/event-stream", [b"data: {}\n\n"])]
    answer = await client.post(
        "/v1/chat/completions",
        json={"model": "m"},
        headers={"Origin": "http://localhost:3000"},
    )
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


async def test_a_preflight_is_answered_before_the_key_is_known() -> None:
    preflight = {
        "Origin": "https://chat.example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
        "Access-Control-Request-Private-Network": "true",
    }
    options = Options(
        port=0, api_key="secret", origins=frozenset({"https://chat.example.org"})
    )
    async with serving(options) as client:
        answer = await client.options("/api/chat", headers=preflight)
        assert answer.status_code == 204
        assert answer.content == b""
        allow = "Access-Control-Allow-"
        assert answer.headers[allow + "Origin"] == "https://chat.example.org"
        assert answer.headers[allow + "Headers"] == "authorization"
        assert "POST" in answer.headers[allow + "Methods"]
        assert allow + "Private-Network" not in answer.headers
        assert allow + "Credentials" not in answer.headers
        foreign = await client.options(
            "/api/chat", headers=preflight | {"Origin": EVIL}
        )
        assert foreign.status_code == 403


async def test_without_an_origin_options_is_a_wrong_method(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.options("/api/chat")).status_code == 405


async def test_without_the_key_there_is_no_answer_in_either_shape() -> None:
    mesh = MemoryMesh(LLAMA)
    async with serving(Options(port=0, api_key="secret"), mesh) as client:
        ollama = await client.post("/api/chat", json={"model": "m"})
        assert ollama.status_code == 401
        assert ollama.headers["WWW-Authenticate"] == "Bearer"
        assert "API key" in ollama.json()["error"]
        openai = await client.get("/v1/models", headers={"x-api-key": "wrong"})
        assert openai.status_code == 401
        assert openai.json()["error"]["type"] == "authentication_error"
        right = await client.get("/v1/models", headers={"x-api-key": "secret"})
        assert right.status_code == 200
    assert mesh.asked == []


async def test_probes_need_no_key_and_learn_nothing_about_the_node() -> None:
    async with serving(Options(port=0, api_key="secret")) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/ready")).status_code == 200
        assert "peers" not in (await client.get("/health")).json()
        bearer = {"Authorization": "Bearer secret"}
        assert (await client.get("/health", headers=bearer)).json()["peers"] == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_400_and_the_answer_names_us(
    gateway: Gateway, garbage: bytes
) -> None:
    port = int(gateway.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(garbage)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"\r\nServer: meshllm\r\n" in answer


async def test_allow_from_lets_this_machine_in() -> None:
    options = Options(host="0.0.0.0", port=0, allow_from=(ip_network("10.0.0.0/8"),))
    gateway = Gateway(MemoryMesh(LLAMA), options)
    await gateway.start()
    try:
        assert gateway.url.startswith("http://127.0.0.1:")
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{gateway.url}/api/tags")
        assert answer.status_code == 200
    finally:
        await gateway.stop()


async def test_it_can_be_started_and_stopped_again() -> None:
    gateway = Gateway(MemoryMesh(LLAMA), Options(port=0))
    for _ in range(2):
        await gateway.start()
        async with httpx.AsyncClient() as client:
            assert (await client.get(gateway.url)).text == "Ollama is running"
        await gateway.stop()
        await gateway.stop()
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient() as client:
                await client.get(gateway.url)


@asynccontextmanager
async def occupied(answers: dict[str, str]) -> AsyncIterator[int]:
    """A port where another server answers these paths."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text=answers.get(request.path, "?"))

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def start_error(port: int) -> str:
    with pytest.raises(ConfigError) as error:
        await Gateway(MemoryMesh(), Options(port=port)).start()
    return str(error.value)


async def test_where_ollama_answers_it_says_so_and_what_to_type() -> None:
    ollama = {"/": "Ollama is running", "/api/version": '{"version":"0.33.0"}'}
    async with occupied(ollama) as port:
        message = await start_error(port)
    free = re.fullmatch(
        rf"Port {port} is in use \(Ollama answers there\)\. "
        r"Try `meshllm gateway --port (\d+)`, then `OLLAMA_HOST=127\.0\.0\.1:(\d+)`\.",
        message,
    )
    assert free is not None
    assert free[1] == free[2]
    assert int(free[1]) > port


@pytest.mark.parametrize(
    "answers",
    [
        {"/": "Hello", "/api/version": '{"version":"1"}'},
        {"/": "Ollama is running", "/api/version": "[]"},
        {"/": "Ollama is running"},
    ],
)
async def test_where_something_else_answers_it_does_not_claim_ollama(
    answers: dict[str, str],
) -> None:
    async with occupied(answers) as port:
        message = await start_error(port)
    assert message.startswith(f"Port {port} is in use. Try `meshllm gateway --port ")


async def test_where_nothing_answers_it_does_not_wait_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        message = await start_error(port)
    assert message.startswith(f"Port {port} is in use. Try ")


async def test_where_another_gateway_listens_it_says_so(gateway: Gateway) -> None:
    port = int(gateway.url.rpartition(":")[2])
    message = await start_error(port)
    assert message.startswith(
        f"Port {port} is in use (another meshllm answers there). Try "
    )


async def test_with_a_key_it_names_no_program_that_sends_none(gateway: Gateway) -> None:
    port = int(gateway.url.rpartition(":")[2])
    with pytest.raises(ConfigError) as error:
        await Gateway(MemoryMesh(), Options(port=port, api_key="k")).start()
    assert re.search(r"Try `meshllm gateway --port \d+`\.$", str(error.value))


async def test_an_address_of_another_machine_is_a_clear_error() -> None:
    gateway = Gateway(MemoryMesh(), Options(host="192.0.2.1", port=0, api_key="k"))
    with pytest.raises(ConfigError, match=r"no address 192\.0\.2\.1"):
        await gateway.start()
