"""A mesh of real processes: signal, init, invite, join, share, gateway, chat."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

import aiohttp
import pytest

from meshllm.errors import BackendError
from tests.fakes.commands import Commands, Serving
from tests.fakes.scraped import scraped
from tests.fakes.scripted_ollama import ScriptedOllama, chat_end, chat_line
from tests.fakes.scripted_openai import MODEL, ScriptedOpenAI, chat_says

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

HELLO = "Hello wörld"  # what the scripted servers say


async def found(meshllm: Commands) -> Serving:
    """A signaling server, and a mesh on it whose owner is the home `anna`."""
    hub = await meshllm.start("hub", "signal", "--port", "0")
    await meshllm.run("anna", "init", str(hub.said["link"]))
    return hub


async def share(meshllm: Commands, home: str, ollama: ScriptedOllama) -> Serving:
    return await meshllm.start(
        home, "share", "--backend", "ollama", "--url", ollama.url
    )


async def ask(gateway: Serving) -> tuple[str, aiohttp.ClientResponse]:
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/api/chat", json=body) as response,
    ):
        lines = [json.loads(line) async for line in response.content]
    return "".join(line["message"]["content"] for line in lines), response


async def test_a_friend_uses_the_owners_model_from_a_third_home(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    provider = await share(meshllm, "anna", ollama)
    assert provider.said["models"] == ["llama3.2:latest"]
    invited = await meshllm.run("anna", "invite", "--name", "ben", "--json")
    joined = await meshllm.run("ben", "join", invited.json["link"], "--json")
    assert joined.json["name"] == "ben"
    assert joined.json["provisional"] is False
    gateway = await meshllm.start("ben", "gateway", "--port", "0")
    text, response = await ask(gateway)
    assert text == HELLO
    owner = await meshllm.run("anna", "identity", "--json")
    assert response.headers["Meshllm-Provider"] == owner.json["id"]
    assert response.headers["Meshllm-Path"] == "host"


async def test_an_openai_server_is_shared_as_ollama_too(meshllm: Commands) -> None:
    async with ScriptedOpenAI() as server:
        await found(meshllm)
        await meshllm.start("anna", "share", "--backend", "openai", "--url", server.url)
        server.script("/v1/chat/completions", chat_says("Hel", "lo"))
        done = await meshllm.run("anna", "chat", MODEL, "hi", "--json")
    assert done.json["text"] == "Hello"
    assert done.json["tokens"] == 2


async def test_everything_runs_at_once_in_one_home(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    provider = await share(meshllm, "anna", ollama)
    gateway = await meshllm.start("anna", "gateway", "--port", "0")
    began = int(time.time())
    text, _ = await ask(gateway)
    assert text == HELLO
    done = await meshllm.run("anna", "chat", "llama3.2", "hi", "--json")
    assert done.json | {"ttft_ms": 0} == {
        "text": HELLO,
        "model": "llama3.2",
        "provider": (await meshllm.run("anna", "identity", "--json")).json["id"],
        "path": "host",
        "ttft_ms": 0,
        "tokens": 3,
    }
    peers = (await meshllm.run("anna", "peers", "--json")).json["peers"]
    seen = {(row["by"], row["direction"]): row for row in peers}
    assert seen["gateway", "provider"]["path"] == "host"
    assert seen["gateway", "provider"]["pid"] == gateway.child.pid
    assert seen["share", "client"]["pid"] == provider.child.pid
    for row in (seen["gateway", "provider"], seen["share", "client"]):
        assert row["candidates"].keys() == {"local", "remote"}
        assert (row["relay"], row["rtt_ms"] > 0) == (False, True)
        assert began <= row["since"] <= time.time()
    unused = seen["share", "provider"]  # ourselves, whom no path leads to
    assert unused.keys() == row.keys()
    assert {unused[key] for key in ("path", "candidates", "relay", "rtt_ms")} == {None}
    table = await meshllm.run("anna", "peers")
    heads, *rows = [line.split("\t") for line in table.out.splitlines()]
    assert heads[:6] == ["peer", "id", "role", "is a", "path", "via"]
    assert {(row[3], row[4], row[5]) for row in rows} == {
        ("provider", "direct", "host-host"),
        ("client", "direct", "host-host"),
    }
    assert all(row[0].endswith(" (this node)") for row in rows)
    await check_status(meshllm, provider, gateway)
    assert await completed(meshllm, "meshllm chat lla") == ["llama3.2:latest"]
    log = await meshllm.run("anna", "logs")
    assert " share info meshllm." in log.out


async def completed(meshllm: Commands, line: str) -> list[str]:
    """What a shell would offer at the end of the line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    meshllm.env |= words | {"_MESHLLM_COMPLETE": "bash_complete"}
    meshllm.env["MESHLLM_HOME"] = str(meshllm.home("anna"))
    done = await meshllm.run("anna")
    del meshllm.env["_MESHLLM_COMPLETE"]
    return [one.partition(",")[2] for one in done.out.splitlines()]


async def check_status(meshllm: Commands, provider: Serving, gateway: Serving) -> None:
    status = await meshllm.run("anna", "status")
    lines = status.out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "node",
        "mesh",
        "server",
        "runs",
        "offers",
    ]
    assert f"share (process {provider.child.pid})" in lines[3]
    assert f"gateway (process {gateway.child.pid})" in lines[3]
    assert "llama3.2:latest (ollama), 0 of 1 running" in lines[4]
    assert f"; the mesh's models at {gateway.url}" in lines[4]
    document = (await meshllm.run("anna", "status", "--json")).json
    assert [one["command"] for one in document["running"]] == ["share", "gateway"]
    assert document["running"][1]["url"] == gateway.url


async def test_a_second_share_of_the_home_is_refused_by_name(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    first = await share(meshllm, "anna", ollama)
    second = await meshllm.run("anna", "share", "--url", ollama.url, code=1)
    assert f"process {first.child.pid}" in second.err
    assert second.err.count("\n") == 1


async def test_a_link_works_once_and_a_home_joins_once(meshllm: Commands) -> None:
    await found(meshllm)
    link = (await meshllm.run("anna", "invite")).out.strip()
    await meshllm.run("ben", "join", link)
    again = await meshllm.run("ben", "join", link, code=1)
    assert "--home" in again.err
    stolen = await meshllm.run("eve", "join", link, code=1)
    assert "used" in stolen.err
    assert not (meshllm.home("eve") / "mesh.json").exists()
    assert "in no mesh" in (await meshllm.run("eve", "status", code=1)).err


async def test_without_an_owners_node_one_joins_provisionally(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    link = (await meshllm.run("anna", "invite", "--role", "member")).out.strip()
    joined = await meshllm.run("ben", "join", link)
    assert "provisionally" in joined.out
    refused = await meshllm.run("ben", "share", "--url", ollama.url, code=1)
    assert "membership" in refused.err
    # The owner's node comes, finds the card, and answers it; ben's next visit gets it.
    await share(meshllm, "anna", ollama)
    await meshllm.run("ben", "chat", "llama3.2", "hi")
    status = (await meshllm.run("ben", "status", "--json")).json
    assert (status["role"], status["provisional"]) == ("member", False)


async def test_the_setup_link_makes_one_mesh(meshllm: Commands) -> None:
    hub = await found(meshllm)
    second = await meshllm.run("eve", "init", str(hub.said["link"]), code=1)
    assert second.err.count("\n") == 1
    assert "takes a new mesh only by its one-time setup link" in second.err
    assert not (meshllm.home("eve") / "mesh.json").exists()
    assert not (meshllm.home("eve") / "root.key").exists()


async def test_a_mesh_of_the_lan_is_attached_to_a_server_later(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    made = await meshllm.run("anna", "init", "--json")
    hub = await meshllm.start("hub", "signal", "--port", "0")
    attached = await meshllm.run("anna", "init", str(hub.said["link"]), "--json")
    assert attached.json["mesh"] == made.json["mesh"]
    assert attached.json["hub"] == hub.url
    assert attached.json["phrase"] is None
    assert (await share(meshllm, "anna", ollama)).url == hub.url


async def test_share_finishes_what_runs_when_it_is_told_to_end(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    provider = await share(meshllm, "anna", ollama)
    gate = asyncio.Event()
    ollama.script(
        "/api/chat",
        [chat_line("llama3.2", "one "), gate, chat_line("llama3.2", "two"), END],
    )
    asking = asyncio.create_task(meshllm.run("anna", "chat", "llama3.2", "hi"))
    await ollama.seen("/api/chat")
    signalled(provider, signal.SIGTERM)
    assert await no_new_answers(meshllm)
    gate.set()
    assert (await asking).out == "one two\n"
    assert await provider.child.wait() == 0


async def test_a_second_signal_ends_share_at_once(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    provider = await share(meshllm, "anna", ollama)
    ollama.script("/api/chat", [chat_line("llama3.2", "one "), asyncio.Event()])
    asking = asyncio.create_task(meshllm.run("anna", "chat", "llama3.2", "hi", code=1))
    seen = await ollama.seen("/api/chat")
    signalled(provider, signal.SIGINT)
    assert await no_new_answers(meshllm)
    signalled(provider, signal.SIGINT)
    assert await provider.child.wait() == 130
    await seen.hung_up.wait()
    assert (await asking).err.count("\n") >= 1


END = chat_end("llama3.2")


def signalled(serving: Serving, number: int) -> None:
    os.kill(serving.child.pid, number)


async def no_new_answers(meshllm: Commands) -> bool:
    """Draining has begun: the provider has withdrawn from the mesh."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        listed = await meshllm.run("anna", "models", code=None)
        if listed.code == 1 and "No model is in the mesh" in listed.err:
            return True
    return False


async def test_a_taken_port_says_who_has_it_and_what_to_type(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    port = ollama.url.rpartition(":")[2]
    with pytest.raises(BackendError, match=f"Port {port} is in use") as caught:
        await meshllm.start("anna", "gateway", "--port", port)
    assert "Ollama answers there" in str(caught.value)
    assert "OLLAMA_HOST=127.0.0.1:" in str(caught.value)


async def test_a_gateway_without_a_provider_serves_and_says_so(
    meshllm: Commands,
) -> None:
    await found(meshllm)
    gateway = await meshllm.start("anna", "gateway", "--port", "0")
    assert gateway.said["models"] == []
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{gateway.url}/ready") as response:
            assert response.status == 503
        async with session.get(f"{gateway.url}/health") as response:
            health: dict[str, Any] = await response.json()
    assert health["status"] == "healthy"


async def test_one_cannot_leave_a_mesh_that_one_serves(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    await found(meshllm)
    provider = await share(meshllm, "anna", ollama)
    refused = await meshllm.run("anna", "leave", code=1)
    assert f"process {provider.child.pid}" in refused.err
    await provider.child.stop()
    await meshllm.run("anna", "leave")
    assert "in no mesh" in (await meshllm.run("anna", "status", code=1)).err


async def test_health_ports_answer_probes_and_scrapes(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    hub = await found(meshllm)
    provider = await meshllm.start(
        "anna", "share", "--url", ollama.url, "--health-port", "0"
    )
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{provider.said['health']}/ready") as response,
    ):
        assert (response.status, response.headers["Server"]) == (200, "meshllm")
        gateway = await meshllm.start("anna", "gateway", "--port", "0")
        await ask(gateway)
        pages = []
        for url in (provider.said["health"], gateway.url, hub.url):
            async with session.get(f"{url}/metrics") as response:
                pages.append(scraped(await response.text()))
    shared, asked, hub_page = pages
    assert shared["meshllm_slot_seconds_count"] == 1
    assert shared["meshllm_queue_seconds_count"] == 1
    assert shared["meshllm_sessions{path=host,peer=client}"] == 1
    assert asked["meshllm_requests_total{api=ollama,status=2xx}"] == 1
    assert asked["meshllm_sessions{path=host,peer=provider}"] == 1
    assert hub_page["meshllm_hub_members"] == 2
    assert hub_page["meshllm_hub_introductions_total"] >= 2
