"""`meshllm chat` as a person sees it: in a terminal, through a pipe, interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from tests.fakes.commands import MESHLLM, Commands
from tests.fakes.scripted_ollama import ScriptedOllama, chat_end, chat_line
from tests.fakes.terminal import Terminal, in_terminal

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

HELLO = "Hello wörld"


@pytest.fixture
async def anna(meshllm: Commands, ollama: ScriptedOllama) -> AsyncIterator[Commands]:
    """A home `anna` in a mesh that has the scripted Ollama's model."""
    hub = await meshllm.start("hub", "signal", "--port", "0")
    await meshllm.run("anna", "init", str(hub.said["link"]))
    await meshllm.start("anna", "share", "--backend", "ollama", "--url", ollama.url)
    yield meshllm


@pytest.fixture
async def terminal(anna: Commands) -> AsyncIterator[Terminal]:
    async with in_terminal(anna, "anna", "chat") as shown:
        yield shown


def interrupt(terminal: Terminal) -> None:
    os.kill(terminal.process.pid, signal.SIGINT)


async def interrupt_until(terminal: Terminal, done: Coroutine[Any, Any, Any]) -> None:
    """As a person does: press again when nothing happens. Between showing its prompt
    and waiting for a key, Python's `input` notes a signal and acts on the next one."""
    waiting = asyncio.ensure_future(done)
    for _ in range(5):
        interrupt(terminal)
        await asyncio.wait([waiting], timeout=2)
        if waiting.done():
            break
    await waiting


async def test_a_conversation_remembers_what_was_said(
    terminal: Terminal, ollama: ScriptedOllama
) -> None:
    await terminal.shows("You talk to llama3.2:latest.")
    await terminal.shows(">>> ")
    terminal.type("my name is anna\n")
    await terminal.shows(HELLO)
    await terminal.shows(">>> ")
    terminal.type("who am I\n")
    asked = (await ollama.seen("/api/chat", 2)).json
    assert [message["content"] for message in asked["messages"]] == [
        "my name is anna",
        HELLO,
        "who am I",
    ]
    await terminal.shows(HELLO)
    terminal.type("/clear\nand now\n")
    asked = (await ollama.seen("/api/chat", 3)).json
    assert [message["content"] for message in asked["messages"]] == ["and now"]
    terminal.type("/quit\n")
    assert await terminal.process.wait() == 0


async def test_ctrl_c_stops_the_answer_and_not_the_program(
    terminal: Terminal, ollama: ScriptedOllama
) -> None:
    ollama.script("/api/chat", [chat_line("llama3.2", "endless"), asyncio.Event()])
    await terminal.shows(">>> ")
    terminal.type("go on\n")
    await terminal.shows("endless")
    interrupt(terminal)
    await terminal.shows(">>> ")
    seen = await ollama.seen("/api/chat")
    await seen.hung_up.wait()
    terminal.type("again\n")
    await terminal.shows(HELLO)
    asked = (await ollama.seen("/api/chat", 2)).json
    assert [m["content"] for m in asked["messages"]] == ["go on", "endless", "again"]


async def test_ctrl_c_twice_at_the_prompt_leaves(terminal: Terminal) -> None:
    await terminal.shows(">>> ")
    await interrupt_until(terminal, terminal.shows("Ctrl-C again, or /quit, to leave."))
    await terminal.shows(">>> ")
    await interrupt_until(terminal, terminal.process.wait())
    assert terminal.process.returncode == 0


async def test_a_models_escape_sequences_do_not_reach_the_terminal(
    terminal: Terminal, ollama: ScriptedOllama
) -> None:
    ollama.script(
        "/api/chat", [chat_line("llama3.2", "a\x1b]0;owned\x07\x9bz"), chat_end("x")]
    )
    await terminal.shows(">>> ")
    terminal.type("hi\n")
    shown = await terminal.shows("owned")
    assert "\x1b]0;" not in shown


async def test_an_unknown_command_and_an_error_do_not_end_it(
    terminal: Terminal, ollama: ScriptedOllama
) -> None:
    await terminal.shows(">>> ")
    terminal.type("/modle x\n")
    await terminal.shows("There is no /modle.")
    terminal.type("/model nothing\n")
    await terminal.shows(
        "No provider has nothing. In the mesh: llama3.2:latest. "
        "You still talk to llama3.2:latest."
    )
    ollama.script_json("/api/chat", {"error": "out of memory"}, 500)
    terminal.type("/model llama3.2\nhi\n")
    await terminal.shows("out of memory")
    terminal.type("/model\n")
    await terminal.shows("llama3.2\r\n")
    terminal.type("hi\n")
    await terminal.shows(HELLO)


async def test_lines_from_a_pipe_are_a_conversation_too(
    anna: Commands, ollama: ScriptedOllama
) -> None:
    done = await anna.run("anna", "chat", "--json", stdin="one\ntwo\n")
    assert [line["text"] for line in done.lines] == [HELLO, HELLO]
    asked = (await ollama.seen("/api/chat", 2)).json
    assert [m["content"] for m in asked["messages"]] == ["one", HELLO, "two"]


async def test_a_line_that_is_no_text_is_passed_over(
    anna: Commands, ollama: ScriptedOllama
) -> None:
    done = await anna.run("anna", "chat", "--json", stdin=b"caf\xe9\nhi\n")
    assert [line["text"] for line in done.lines] == [HELLO]
    assert "not UTF-8 text" in done.err


async def test_a_dash_reads_one_prompt_from_stdin(
    anna: Commands, ollama: ScriptedOllama
) -> None:
    text = "several\nlines\n"
    done = await anna.run("anna", "run", "llama3.2", "-", stdin=text)
    assert done.out == HELLO + "\n"
    asked = (await ollama.seen("/api/chat")).json
    assert asked["messages"][0]["content"] == text


async def test_an_interrupted_answer_of_a_script_is_exit_130(
    anna: Commands, ollama: ScriptedOllama
) -> None:
    ollama.script("/api/chat", [chat_line("llama3.2", "endless"), asyncio.Event()])
    process = await asyncio.create_subprocess_exec(
        *(*MESHLLM, "--home", str(anna.home("anna")), "chat", "llama3.2", "hi"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **anna.env},
    )
    assert process.stdout is not None
    assert await process.stdout.readexactly(7) == b"endless"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    await (await ollama.seen("/api/chat")).hung_up.wait()


async def test_a_model_that_nobody_has_is_one_line_and_exit_1(anna: Commands) -> None:
    done = await anna.run("anna", "chat", "nothing", "hi", code=1)
    assert done.err.startswith("model 'nothing' not found")
    assert done.err.count("\n") == 1
