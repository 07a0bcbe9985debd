"""A browser as a full peer: join by link, ask, stream, cancel, lose the path."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from tests.fakes.browser import BrowserError, Page
from tests.fakes.commands import Commands
from tests.fakes.scripted_ollama import ScriptedOllama, chat_end, chat_line

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

MODEL = "llama3.2:latest"
END = chat_end(MODEL)


async def invited(meshllm: Commands, ollama: ScriptedOllama, *options: str) -> str:
    """A mesh with one provider, and a link into it."""
    hub = await meshllm.start("hub", "signal", "--port", "0")
    await meshllm.run("anna", "init", str(hub.said["link"]))
    where = ("--backend", "ollama", "--url", ollama.url)
    await meshllm.start("anna", "share", *where, *options)
    done = await meshllm.run("anna", "invite", "--name", "ben", "--json")
    return str(done.json["link"])


async def connected(page: Page, link: str) -> dict[str, Any]:
    joined: dict[str, Any] = await page.call("join", link)
    await page.call("connect")
    return joined


def lines(count: int) -> list[bytes]:
    return [chat_line(MODEL, f"word {n} ") for n in range(count)]


async def test_a_browser_joins_by_link_and_reads_an_answer(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    link = await invited(meshllm, ollama)
    joined = await connected(page, link)
    assert joined["name"] == "ben"
    assert joined["role"] == "guest"
    assert joined["isProvisional"] is False
    assert joined["isGuarded"] is True
    (model,) = await page.call("models")
    assert model["name"] == MODEL
    said = lines(200)
    ollama.script("/api/chat", [*said, END])
    head = await page.call("ask", "first", MODEL, "hi")
    assert head["status"] == 200
    owner = (await meshllm.run("anna", "identity", "--json")).json["id"]
    assert head["provider"]["id"] == owner
    assert head["path"] in ("host", "prflx")
    assert await page.read("first") == b"".join([*said, END])
    (path,) = await page.call("paths")
    assert path["isObserved"] is True
    assert path["rttMs"] is not None


async def test_a_reloaded_page_is_still_who_it_was(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    link = await invited(meshllm, ollama)
    joined = await connected(page, link)
    await page.reload()
    me = await page.call("connect")
    assert (me["id"], me["name"]) == (joined["id"], "ben")
    ollama.script("/api/chat", [*lines(3), END])
    await page.call("models")
    await page.call("ask", "again", MODEL, "hi")
    assert await page.read("again") == b"".join([*lines(3), END])


async def test_a_link_works_once(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    link = await invited(meshllm, ollama)
    await meshllm.run("eve", "join", link)
    with pytest.raises(BrowserError, match="used"):
        await page.call("join", link)
    with pytest.raises(BrowserError, match="in no mesh"):
        await page.call("connect")


async def test_over_plain_http_only_guests_join(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    guests = await invited(meshllm, ollama)
    done = await meshllm.run("anna", "invite", "--role", "member", "--json")
    with pytest.raises(BrowserError, match="only guests"):
        await page.call("join", done.json["link"], False)
    assert (await page.call("join", guests, False))["role"] == "guest"


async def test_cancelling_frees_the_slot(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    await connected(page, await invited(meshllm, ollama))
    await page.call("models")
    ollama.script("/api/chat", [*lines(3), asyncio.Event()])
    await page.call("ask", "endless", MODEL, "hi")
    seen = await ollama.seen("/api/chat")
    await page.call("readSome", "endless", 1)
    assert await page.call("cancel", "endless") == "AbortError"
    await seen.hung_up.wait()
    ollama.script("/api/chat", [*lines(2), END])
    await page.call("ask", "next", MODEL, "hi")
    assert await page.read("next") == b"".join([*lines(2), END])


async def test_leaving_the_loop_stops_the_model(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    await connected(page, await invited(meshllm, ollama))
    await page.call("models")
    ollama.script("/api/chat", [*lines(3), asyncio.Event()])
    await page.call("ask", "left", MODEL, "hi")
    seen = await ollama.seen("/api/chat")
    await page.call("readSome", "left", 1)
    await page.call("leave", "left")
    await seen.hung_up.wait()


async def test_an_answer_outlives_its_path_byte_for_byte(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    await connected(page, await invited(meshllm, ollama))
    await page.call("models")
    gate = asyncio.Event()
    before, after = lines(400), lines(4_000)[400:]
    ollama.script("/api/chat", [*before, gate, *after, END])
    await page.call("ask", "long", MODEL, "hi")
    await page.call("readSome", "long", 20_000)
    assert await page.call("peerConnections") == 1
    await page.call("killPath")
    gate.set()
    assert await page.read("long") == b"".join([*before, *after, END])
    assert await page.call("peerConnections") >= 2
    assert len(ollama.to("/api/chat")) == 1


async def test_a_large_question_arrives_whole(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    await connected(page, await invited(meshllm, ollama))
    await page.call("models")
    ollama.script("/api/chat", [END])
    prompt = "".join(f"{n}," for n in range(300_000))
    await page.call("ask", "large", MODEL, prompt)
    assert await page.read("large") == END
    seen = await ollama.seen("/api/chat")
    assert seen.json["messages"][0]["content"] == prompt


async def test_a_page_comes_back_to_a_restarted_server(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    hub = await meshllm.start("hub", "signal", "--port", "0")
    await meshllm.run("anna", "init", str(hub.said["link"]))
    await meshllm.start("anna", "share", "--backend", "ollama", "--url", ollama.url)
    done = await meshllm.run("anna", "invite", "--json")
    await connected(page, done.json["link"])
    await page.call("models")
    await hub.child.stop()
    await page.call("untilPhase", "connecting")
    port = hub.url.rpartition(":")[2]
    await meshllm.start("hub", "signal", "--port", port)
    await page.call("untilPhase", "ready")
    await page.call("models")
    ollama.script("/api/chat", [*lines(3), END])
    await page.call("ask", "after", MODEL, "hi")
    assert await page.read("after") == b"".join([*lines(3), END])


async def test_a_model_that_nobody_has_is_refused(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    await connected(page, await invited(meshllm, ollama))
    await page.call("models")
    with pytest.raises(BrowserError, match="No provider has the model nosuch"):
        await page.call("ask", "none", "nosuch", "hi")


async def test_answers_go_on_after_a_reload_from_the_byte_that_was_kept(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    await connected(page, await invited(meshllm, ollama))
    await page.call("models")
    gate = asyncio.Event()
    before, after = lines(400), lines(2_000)[400:]
    ollama.script("/api/chat", [*before, gate, *after, END])
    await page.call("ask", "long", MODEL, "hi")
    await page.call("readSome", "long", 5_000)
    kept = base64.b64decode(await page.call("soFar", "long"))
    await page.reload()
    await page.call("connect")
    gate.set()
    assert await page.call("resume", {"long": len(kept)}) == ["long"]
    whole = b"".join([*before, *after, END])
    assert kept + await page.read("long") == whole
    assert len(ollama.to("/api/chat")) == 1
    assert await page.call("resume", {"long": 0, "none": 0}) == []  # nothing runs
    ollama.script("/api/chat", [*lines(3), END])
    await page.call("ask", "next", MODEL, "hi")
    assert await page.read("next") == b"".join([*lines(3), END])


async def test_what_a_reloaded_page_does_not_take_up_is_stopped(
    meshllm: Commands, ollama: ScriptedOllama, page: Page
) -> None:
    await connected(page, await invited(meshllm, ollama, "--parallel", "2"))
    await page.call("models")
    for name in ("kept", "left"):
        ollama.script("/api/chat", [*lines(3), asyncio.Event()])
        await page.call("ask", name, MODEL, name)
    left = await ollama.seen("/api/chat", 2)
    await page.reload()
    await page.call("connect")
    assert await page.call("resume", {"kept": 0}) == ["kept"]
    await left.hung_up.wait()
    assert not (await ollama.seen("/api/chat", 1)).hung_up.is_set()
    await page.call("leave", "kept")
    await (await ollama.seen("/api/chat", 1)).hung_up.wait()
