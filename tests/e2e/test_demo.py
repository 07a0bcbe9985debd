"""`meshllm demo`: one answer through a whole mesh, and nothing left of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshllm.processes import Child
from tests.fakes.commands import MESHLLM, READY_S, Commands
from tests.fakes.scripted_ollama import ScriptedOllama, chat_end, chat_line

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

HELLO = "Hello wörld"
# A network namespace with a loopback interface and nothing else: no route, no address.
ALONE = "ip link set lo up && exec {python} -m tests.fakes.alone"


@pytest.fixture
def near(meshllm: Commands, ollama: ScriptedOllama) -> Commands:
    """Commands that find the scripted Ollama where Ollama tells its clients it is."""
    meshllm.env["OLLAMA_HOST"] = ollama.url
    return meshllm


def left_over(meshllm: Commands) -> list[Path]:
    return list(meshllm.home("tmp").iterdir())


async def test_once_streams_one_answer_and_leaves_nothing(near: Commands) -> None:
    done = await near.run("nobody", "demo", "--once", "hi")
    assert done.out == HELLO + "\n"
    assert left_over(near) == []
    assert not near.home("nobody").exists()


async def test_once_as_json_says_who_answered_and_how(
    near: Commands, ollama: ScriptedOllama
) -> None:
    answer = (await near.run("nobody", "demo", "--once", "hi", "--json")).json
    assert list(answer) == ["text", "model", "provider", "path", "ttft_ms", "tokens"]
    assert (answer["text"], answer["model"]) == (HELLO, "llama3.2:latest")
    assert (answer["path"], answer["tokens"]) == ("host", 3)
    assert len(answer["provider"]) == 52
    assert answer["ttft_ms"] > 0
    asked = (await ollama.seen("/api/chat")).json
    assert asked["messages"] == [{"role": "user", "content": "hi"}]


async def test_a_failing_model_server_is_one_line_and_exit_1(
    near: Commands, ollama: ScriptedOllama
) -> None:
    ollama.script_json("/api/chat", {"error": "model requires more memory"}, 500)
    done = await near.run("nobody", "demo", "--once", "hi", code=1)
    assert done.err == "model requires more memory\n"
    assert left_over(near) == []


async def running(meshllm: Commands) -> tuple[Child, dict[str, str]]:
    child = await Child.start((*MESHLLM, "demo", "--json"), meshllm.env, name="demo")
    return child, await child.wait_json(READY_S)


async def test_it_serves_both_apis_until_it_is_told_to_end(near: Commands) -> None:
    child, said = await running(near)
    async with aiohttp.ClientSession() as session:
        body = {"model": said["model"], "prompt": "hi", "stream": False}
        url = f"{said['url']}/api/generate"
        async with session.post(url, json=body) as response:
            assert (await response.json())["response"] == HELLO
        async with session.get(f"{said['url']}/v1/models") as response:
            listed = await response.json()
    assert [model["id"] for model in listed["data"]] == ["llama3.2:latest"]
    os.kill(child.pid, signal.SIGINT)
    assert await child.wait() == 0
    assert left_over(near) == []


async def asked(said: dict[str, Any], begun: asyncio.Event) -> list[dict[str, Any]]:
    """The lines of an answer, however it ends."""
    body = {"model": said["model"], "messages": [{"role": "user", "content": "hi"}]}
    lines = []
    async with aiohttp.ClientSession() as session:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.post(f"{said['url']}/api/chat", json=body) as response:
                async for line in response.content:
                    lines.append(json.loads(line))
                    begun.set()
    return lines


async def refuses(url: str) -> None:
    """Until it takes no new question."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/ready") as response:
                if response.status == 503:
                    return


async def test_sigterm_lets_an_answer_end_that_takes_longer_than_a_child_may(
    near: Commands, ollama: ScriptedOllama
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    one, two = (chat_line("llama3.2", text) for text in ("one", "two"))
    ollama.script("/api/chat", [one, gate, two, chat_end("llama3.2")])
    child, said = await running(near)
    asking = asyncio.create_task(asked(said, begun))
    await begun.wait()
    os.kill(child.pid, signal.SIGTERM)
    await refuses(said["url"])
    await asyncio.sleep(6)  # a child that only will not end is killed after 5 s
    gate.set()
    assert (await asking)[-1]["done"]
    assert await child.wait() == 0
    assert left_over(near) == []


async def test_a_second_signal_ends_all_of_it_at_once(
    near: Commands, ollama: ScriptedOllama
) -> None:
    begun = asyncio.Event()
    ollama.script("/api/chat", [chat_line("llama3.2", "one"), asyncio.Event()])
    child, said = await running(near)
    asking = asyncio.create_task(asked(said, begun))
    await begun.wait()
    os.kill(child.pid, signal.SIGTERM)
    await refuses(said["url"])
    os.kill(child.pid, signal.SIGTERM)
    async with asyncio.timeout(4):
        assert await child.wait() == 130
    assert not any(line.get("done") for line in await asking)
    hung_up = (await ollama.seen("/api/chat")).hung_up
    await hung_up.wait()
    assert not await answers(said["url"])
    assert not await answers(said["signaling"])
    assert left_over(near) == []


async def test_nothing_survives_even_when_it_is_killed(near: Commands) -> None:
    child, said = await running(near)
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    async with asyncio.timeout(30):
        while await answers(said["url"]) or await answers(said["signaling"]):
            await asyncio.sleep(0.05)
        while left_over(near):
            await asyncio.sleep(0.05)


async def answers(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


async def test_a_taken_port_is_one_line_and_exit_1(
    near: Commands, ollama: ScriptedOllama
) -> None:
    port = ollama.url.rpartition(":")[2]
    done = await near.run("nobody", "demo", "--gateway-port", port, code=1)
    assert f"Port {port} is in use" in done.err
    assert done.err.count("\n") == 1
    assert left_over(near) == []


@pytest.mark.skipif(
    sys.platform != "linux"
    or shutil.which("ip") is None
    or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0,
    reason="needs ip, and namespaces of one's own",
)
async def test_a_machine_with_only_loopback_can_try_it_too(meshllm: Commands) -> None:
    """Without MESHLLM_LOOPBACK, which the other tests set."""
    meshllm.env["MESHLLM_LOOPBACK"] = ""
    process = await asyncio.create_subprocess_exec(
        "unshare",
        "-rn",
        "sh",
        "-c",
        ALONE.format(python=sys.executable),
        env={**os.environ, **meshllm.env},
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["text"] == HELLO
