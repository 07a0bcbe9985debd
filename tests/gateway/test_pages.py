"""The page behind the gateway: who gets it, and what its private routes tell."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from meshllm import page
from meshllm.gateway import Gateway, Options
from meshllm.routing.seam import Ask, Load, NoRoute
from tests.fakes.memory_mesh import ANN, LLAMA, MemoryAnswer, MemoryMesh

HTML = {"Accept": "text/html,*/*"}


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built page: a document for each server, one asset in three forms."""
    (tmp_path / "assets").mkdir()
    for name in ("index.html", "gateway.html", "worker.js"):
        (tmp_path / name).write_text(name)
    for suffix in ("", ".br", ".gz"):
        (tmp_path / f"assets/index-B1_x.js{suffix}").write_text(f"script{suffix}")
    (tmp_path / "secret.js").write_text("not a file of the page")
    monkeypatch.setattr(page, "BUILT", tmp_path)
    return tmp_path


@pytest.fixture
async def browser(gateway: Gateway, client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client that was let in."""
    answer = await client.get(gateway.page.removeprefix(gateway.url), headers=HTML)
    assert answer.status_code == 200
    return client


async def test_a_browser_is_told_where_the_link_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers=HTML)
    assert answer.status_code == 401
    assert "meshllm status" in answer.text
    assert "Meshllm-Page" not in answer.headers


async def test_the_link_lets_one_browser_in(
    built: Path, gateway: Gateway, client: httpx.AsyncClient
) -> None:
    link = gateway.page.removeprefix(gateway.url)
    opened = await client.get(link, headers=HTML)
    assert opened.headers["Refresh"] == "0; url=/"
    answer = await client.get("/", headers=HTML)
    assert (answer.status_code, answer.text) == (200, "gateway.html")
    assert answer.headers["Meshllm-Page"] == "1"

    async with httpx.AsyncClient(base_url=gateway.url) as other:
        refused = await other.get(link, headers=HTML)
        assert refused.status_code == 401
        assert "used before" in refused.text
    # Once more in the browser that is in: no harm.
    assert (await client.get(link, headers=HTML)).headers["Refresh"] == "0; url=/"


async def test_programs_still_get_what_ollama_says(
    built: Path, browser: httpx.AsyncClient
) -> None:
    assert (await browser.get("/")).text == "Ollama is running"


async def test_the_page_may_run_nothing_but_its_own_files(
    built: Path, browser: httpx.AsyncClient
) -> None:
    headers = (await browser.get("/", headers=HTML)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


async def test_a_host_header_writes_nothing_into_the_policy() -> None:
    assert "evil" not in page.policy("x; script-src evil")
    assert "ws://[::1]:80 wss://[::1]:80" in page.policy("[::1]:80")


async def test_a_gateway_without_a_page_says_how_to_build_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: httpx.AsyncClient
) -> None:
    monkeypatch.setattr(page, "BUILT", tmp_path / "none")
    answer = await browser.get("/", headers=HTML)
    assert answer.status_code == 503
    assert "make setup" in answer.text


@pytest.mark.parametrize(
    ("accepted", "body", "encoding"),
    [
        ("gzip, deflate, br", "script.br", "br"),
        ("gzip;q=1.0", "script.gz", "gzip"),
        ("br;q=0, gzip", "script.gz", "gzip"),
        ("identity", "script", None),
    ],
)
async def test_files_come_compressed_and_for_ever(
    built: Path, gateway: Gateway, accepted: str, body: str, encoding: str | None
) -> None:
    async with (
        httpx.AsyncClient() as client,
        client.stream(
            "GET",
            f"{gateway.url}/assets/index-B1_x.js",
            headers={"Accept-Encoding": accepted},
        ) as answer,
    ):
        assert b"".join([part async for part in answer.aiter_raw()]).decode() == body
    assert answer.headers.get("Content-Encoding") == encoding
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Vary"] == "Accept-Encoding"


async def test_the_worker_is_asked_for_again(
    built: Path, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/worker.js")
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/secret.js",
        "/assets/../secret.js",
        "/assets/%2e%2e/secret.js",
        "/assets/..%2fsecret.js",
        "/assets/none.js",
        "/assets/index-B1_x.js.br",
        "/assets/",
        "/gateway.html",
    ],
)
async def test_nothing_else_is_served(
    built: Path, client: httpx.AsyncClient, path: str
) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_page_is_told_what_is_there(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/page/state")
    assert answer.headers["Cache-Control"] == "no-store"
    state = answer.json()
    assert state["models"][0] == {
        "name": LLAMA.name,
        "digest": LLAMA.digest,
        "size": LLAMA.size,
        "modified_at": LLAMA.modified_at,
        "details": LLAMA.details,
        "capabilities": ["completion", "tools"],
        "context_length": 4096,
        "providers": [holder._asdict() for holder in LLAMA.providers],
    }
    assert state["paths"][0]["rtt_ms"] == 12.5
    assert state["waiting"] == {}
    assert state["problem"] is None


@pytest.mark.parametrize("path", ["/page/state", "/page/ps?provider=ann"])
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "same-site"}],
)
async def test_other_local_pages_learn_nothing(
    browser: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    assert (await browser.get(path, headers=headers)).status_code == 403


async def test_without_the_cookie_nothing_is_told(client: httpx.AsyncClient) -> None:
    answer = await client.get("/page/state")
    assert answer.status_code == 403
    assert "meshllm status" in answer.text


async def test_one_provider_is_asked_what_it_has_loaded(
    mesh: MemoryMesh, browser: httpx.AsyncClient
) -> None:
    mesh.replies.append(
        MemoryAnswer("application/json", [b'{"models":[{"name":"llama3.2:1b"}]}'])
    )
    answer = await browser.get("/page/ps", params={"provider": ANN.id})
    assert answer.json() == {"models": [{"name": "llama3.2:1b"}]}
    assert mesh.asked[0].provider == ANN.id
    assert "Meshllm-Load" not in answer.headers  # it did not say
    assert (await browser.get("/page/ps")).json() == {"models": []}


async def test_the_page_hears_how_busy_a_provider_is(
    mesh: MemoryMesh, browser: httpx.AsyncClient
) -> None:
    gate = asyncio.Event()
    mesh.replies += [gate, MemoryAnswer("application/json", [b'{"models":[]}'])]
    asking = asyncio.create_task(browser.get("/page/ps", params={"provider": ANN.id}))
    await mesh.has_ask.wait()
    assert mesh.asked[0].on_load is not None
    mesh.asked[0].on_load(Load(2, 3))
    gate.set()
    assert (await asking).headers["Meshllm-Load"] == '{"running":2,"waiting":3}'


async def test_a_question_of_the_page_hears_its_place_and_pins(
    mesh: MemoryMesh, browser: httpx.AsyncClient
) -> None:
    gate = asyncio.Event()
    mesh.replies += [gate, MemoryAnswer("application/json", [b"{}"])]
    headers = {"Meshllm-Ask": "word", "Meshllm-Pin": ANN.id}
    body = {"model": LLAMA.name, "messages": []}
    asking = asyncio.create_task(browser.post("/api/chat", json=body, headers=headers))
    await mesh.has_ask.wait()
    ask: Ask = mesh.asked[0]
    assert ask.provider == ANN.id
    assert ask.on_queue is not None
    ask.on_queue(3)
    assert (await browser.get("/page/state")).json()["waiting"] == {"word": 3}
    gate.set()
    await asking
    assert (await browser.get("/page/state")).json()["waiting"] == {}


async def test_a_program_pins_by_name_only(
    mesh: MemoryMesh, client: httpx.AsyncClient
) -> None:
    mesh.replies.append(MemoryAnswer("application/json", [b"{}"]))
    body = {"model": LLAMA.name, "messages": []}
    headers = {"Meshllm-Ask": "word", "Meshllm-Pin": ANN.id}
    await client.post("/api/chat", json=body, headers=headers)
    assert mesh.asked[0].provider is None
    assert mesh.asked[0].on_queue is None


async def test_errors_carry_a_word_for_programs(
    mesh: MemoryMesh, client: httpx.AsyncClient
) -> None:
    mesh.replies.append(NoRoute(503, "away", "no_provider", 5))
    body = {"model": LLAMA.name, "messages": []}
    answer = await client.post("/api/chat", json=body)
    assert answer.headers["Meshllm-Error"] == "no_provider"


async def test_the_page_needs_no_api_key(built: Path, mesh: MemoryMesh) -> None:
    gateway = Gateway(mesh, Options(port=0, drain_s=0, api_key="key"))
    await gateway.start()
    try:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            assert (await client.get("/api/tags")).status_code == 401
            assert (await client.get("/worker.js")).status_code == 200
            link = gateway.page.removeprefix(gateway.url)
            assert (await client.get(link, headers=HTML)).status_code == 200
            assert (await client.get("/api/tags")).status_code == 200
            # A page of another local server has the cookie, and still needs the key.
            other = {"Origin": "http://localhost:3000"}
            assert (await client.get("/api/tags", headers=other)).status_code == 401
    finally:
        await gateway.stop()


async def test_a_signaling_server_that_is_away_is_told(
    mesh: MemoryMesh, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"url": "https://hub", "connected": False, "reason": "refused"}
    monkeypatch.setattr(mesh, "health", lambda: {"signaling": away})
    problem = (await browser.get("/page/state")).json()["problem"]
    assert "https://hub cannot be reached (refused)" in problem
