"""Finding a model server, and saying what to do when there is none."""

from __future__ import annotations

import pytest

from meshllm.backends import find
from meshllm.backends.find import ollama_url, open_backend
from meshllm.errors import BackendError, ConfigError
from tests.fakes.scripted_ollama import ScriptedOllama
from tests.fakes.scripted_openai import ScriptedOpenAI


@pytest.fixture
async def nowhere() -> str:
    """An address where nobody listens: it was free a moment ago."""
    async with ScriptedOllama() as server:
        return server.url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        (":9000", "http://127.0.0.1:9000"),
        ("box", "http://box:11434"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("https://box:9000/under/", "https://box:9000/under"),
        ("[::]:9000", "http://[::1]:9000"),
        (' "box:1" ', "http://box:1"),
    ],
)
def test_ollama_host_in_all_its_forms(host: str, url: str) -> None:
    assert ollama_url(host) == url


def test_an_ollama_host_that_is_none() -> None:
    with pytest.raises(ConfigError, match="OLLAMA_HOST"):
        ollama_url("box:port")


async def test_ollama_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedOllama() as one, ScriptedOpenAI() as other:
        monkeypatch.setenv("OLLAMA_HOST", one.url)
        monkeypatch.setattr(find, "OPENAI_URLS", (other.url,))
        backend = await open_backend("auto", parallel=4)
        assert (backend.kind, backend.url, backend.parallel) == ("ollama", one.url, 4)
        await backend.aclose()


async def test_then_any_openai_compatible_server(
    monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    async with ScriptedOpenAI() as server:
        monkeypatch.setenv("OLLAMA_HOST", nowhere)
        monkeypatch.setattr(find, "OPENAI_URLS", (nowhere, server.url))
        backend = await open_backend("auto")
        assert (backend.kind, backend.url) == ("openai", server.url)
        await backend.aclose()


async def test_meshllm_itself_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedOllama(server_name="meshllm") as own, ScriptedOpenAI() as server:
        monkeypatch.setenv("OLLAMA_HOST", own.url)
        monkeypatch.setattr(find, "OPENAI_URLS", (server.url,))
        backend = await open_backend("auto")
        assert backend.url == server.url
        await backend.aclose()
        with pytest.raises(BackendError, match="meshllm itself"):
            await open_backend("ollama")
        with pytest.raises(BackendError, match="meshllm itself"):
            await open_backend("auto", own.url)


async def test_a_web_server_on_a_common_port_is_no_backend(
    monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    async with ScriptedOpenAI() as page, ScriptedOpenAI() as server:
        page.script_json("/v1/models", {"status": "ok"})
        monkeypatch.setenv("OLLAMA_HOST", nowhere)
        monkeypatch.setattr(find, "OPENAI_URLS", (page.url, server.url))
        backend = await open_backend("auto")
        assert backend.url == server.url
        await backend.aclose()


async def test_at_a_given_address_either_api_will_do() -> None:
    async with ScriptedOllama() as one, ScriptedOpenAI() as other:
        for url, kind in ((one.url, "ollama"), (other.url, "openai")):
            backend = await open_backend("auto", url.removeprefix("http://"))
            assert backend.kind == kind
            await backend.aclose()


@pytest.mark.parametrize("kind", ["ollama", "openai", "auto"])
async def test_nobody_at_a_given_address(kind: str, nowhere: str) -> None:
    with pytest.raises(BackendError, match="Is it running"):
        await open_backend(kind, nowhere)


@pytest.mark.parametrize(
    ("kind", "url", "says"),
    [
        ("openai", None, "--url"),
        ("cloud", None, "no backend 'cloud'"),
        ("openai", "ftp://box", "no address of a server"),
        ("auto", "http://box:port", "no address of a server"),
    ],
)
async def test_what_the_user_can_mend(kind: str, url: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await open_backend(kind, url)
