"""`meshllm pair` as two people see it: digits read from one process, typed into
another, through a real signaling server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.commands import READY_S, Commands, Serving
from tests.fakes.pairing import Pairing, pairing
from tests.fakes.scripted_ollama import ScriptedOllama
from tests.fakes.terminal import in_terminal

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.fixture
async def hub(meshllm: Commands) -> Serving:
    """A signaling server with a mesh on it, whose owner is the home `anna`."""
    meshllm.env["MESHLLM_PAIR_NO_LAN"] = "1"  # whoever else is on this machine
    hub = await meshllm.start("hub", "signal", "--port", "0")
    await meshllm.run("anna", "init", str(hub.said["link"]))
    return hub


@asynccontextmanager
async def waiting(meshllm: Commands, *words: str) -> AsyncIterator[tuple[Pairing, str]]:
    """The owner's side, and the number of its mailbox."""
    async with pairing(meshllm, "anna", *words) as anna:
        yield anna, str((await anna.until("waiting"))["mailbox"])


@asynccontextmanager
async def met(
    meshllm: Commands, hub: Serving, *words: str
) -> AsyncIterator[tuple[Pairing, Pairing, str, str]]:
    """Both sides, the digits on the newcomer's screen, and the mailbox's number."""
    async with (
        waiting(meshllm, *words) as (anna, number),
        pairing(meshllm, "ben", number, "--hub", hub.url) as ben,
    ):
        yield anna, ben, (await ben.until("code"))["code"], number


async def agree(anna: Pairing, ben: Pairing, code: str) -> None:
    """Each types what the other's screen shows, and all is well."""
    anna.type(code)
    ben.type((await anna.until("receipt"))["receipt"])
    assert (await anna.ends(), await ben.ends()) == (0, 0)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


async def test_a_machine_is_let_in_by_what_its_screen_shows(
    meshllm: Commands, hub: Serving
) -> None:
    words = ("--role", "member", "--name", "ben")
    async with pairing(meshllm, "anna", *words) as anna:
        opened = await anna.until("waiting")
        assert opened["command"] == f"meshllm pair {opened['mailbox']} --hub {hub.url}"
        where = (str(opened["mailbox"]), "--hub", hub.url)
        async with pairing(meshllm, "ben", *where) as ben:
            code = (await ben.until("code"))["code"]
            assert (await anna.until("ask"))["what"] == "code"
            await agree(anna, ben, f"{code[:3]} {code[3:]}")
            ours, theirs = await anna.until("paired"), await ben.until("paired")
    assert ours["sure"] is True
    for told in (ours, theirs):
        assert (told["name"], told["role"]) == ("ben", "member")
    status = (await meshllm.run("ben", "status", "--json")).json
    assert (status["role"], status["provisional"]) == ("member", False)
    assert (status["id"], status["hub"]) == (ours["id"], hub.url)
    assert status["mesh"] == ours["mesh"] == theirs["mesh"]


async def test_who_was_let_in_uses_the_mesh(
    meshllm: Commands, hub: Serving, ollama: ScriptedOllama
) -> None:
    """The membership is one like any other, also while the owner's node runs."""
    where = ("--backend", "ollama", "--url", ollama.url)
    await meshllm.start("anna", "share", *where)
    await paired(meshllm, hub)
    done = await meshllm.run("ben", "chat", "llama3.2", "hi", "--json")
    assert done.json["text"] == "Hello wörld"


async def paired(meshllm: Commands, hub: Serving) -> None:
    async with met(meshllm, hub, "--name", "ben") as (anna, ben, code, _):
        await agree(anna, ben, code)


async def test_a_wrong_code_ends_it_on_both_and_lets_nobody_in(
    meshllm: Commands, hub: Serving
) -> None:
    async with met(meshllm, hub) as (anna, ben, code, number):
        anna.type(wrong(code))
        anna.type(code)  # too late
        assert "again with `meshllm pair` on both" in await anna.fails()
        assert "typed on the other machine are wrong" in await ben.fails()
        done = await meshllm.run("ben", "pair", number, "--hub", hub.url, code=1)
        assert f"no mailbox {number}" in done.err
    assert not (meshllm.home("ben") / "mesh.json").exists()


async def test_what_cannot_be_meant_is_asked_again(
    meshllm: Commands, hub: Serving
) -> None:
    async with met(meshllm, hub) as (anna, ben, code, _):
        anna.type("")
        anna.type(code[:5])
        assert "not 6 digits" in (await anna.until("mistyped"))["why"]
        anna.type(code)
        receipt = (await anna.until("receipt"))["receipt"]
        ben.type("x")
        assert "not 2 digits" in (await ben.until("mistyped"))["why"]
        ben.type(receipt)
        assert (await anna.ends(), await ben.ends()) == (0, 0)


async def test_a_third_party_in_the_mailbox_is_refused_and_disturbs_nobody(
    meshllm: Commands, hub: Serving
) -> None:
    async with met(meshllm, hub) as (anna, ben, code, number):
        eve = await meshllm.run("eve", "pair", number, "--hub", hub.url, code=1)
        assert "another machine pairs already" in eve.err
        await agree(anna, ben, code)


async def test_ctrl_c_closes_the_mailbox_and_tells_the_other(
    meshllm: Commands, hub: Serving
) -> None:
    async with met(meshllm, hub) as (anna, ben, *_):
        await anna.until("ask")
        anna.process.send_signal(signal.SIGINT)
        assert await anna.ends() == 130
        assert "was stopped on the other machine" in await ben.fails()
    async with waiting(meshllm):  # nothing is left in the way
        pass


async def test_a_machine_that_dies_ends_it_on_the_other(
    meshllm: Commands, hub: Serving
) -> None:
    async with met(meshllm, hub) as (anna, ben, *_):
        await anna.until("ask")
        ben.process.kill()
        assert "has gone away" in await anna.fails()


async def test_without_anybody_to_type_it_ends(meshllm: Commands, hub: Serving) -> None:
    async with waiting(meshllm) as (anna, number):
        done = await meshllm.run("ben", "pair", number, "--hub", hub.url, code=1)
        assert "stdin has ended" in done.err
        assert "was stopped on the other machine" in await anna.fails()


async def test_who_is_in_a_mesh_does_not_come_into_another(
    meshllm: Commands, hub: Serving
) -> None:
    await paired(meshllm, hub)
    for words in (("412", "--hub", hub.url), ()):
        done = await meshllm.run("ben", "pair", *words, code=1)
        assert "--home" in done.err


async def test_a_server_that_is_away_is_named(meshllm: Commands, hub: Serving) -> None:
    await hub.child.stop()
    for home, words in (("anna", ()), ("ben", ("412", "--hub", hub.url))):
        done = await meshllm.run(home, "pair", *words, code=1)
        assert f"{hub.url} cannot be reached" in done.err


async def test_on_a_terminal_it_says_what_to_do_and_counts_down(
    meshllm: Commands, hub: Serving
) -> None:
    async with in_terminal(meshllm, "anna", "pair") as anna:
        shown = await anna.shows(f" --hub {hub.url}")
        number = shown.split()[-3]
        await anna.shows("Waiting for the other machine … 9:5")
        async with pairing(meshllm, "ben", number, "--hub", hub.url) as ben:
            code = (await ben.until("code"))["code"]
            await anna.shows("Six digits: ")
            anna.type(f"{code}\n")
            shown = await anna.shows(" on the other machine.")
            ben.type(shown.rpartition("Now type ")[2].split()[0])
            await anna.shows("is a guest of your mesh now.")
            await anna.shows("Next:")
            assert await ben.ends() == 0
        async with asyncio.timeout(READY_S):
            assert await anna.process.wait() == 0


async def test_an_interrupted_question_leaves_the_line_to_what_is_said_next(
    meshllm: Commands, hub: Serving
) -> None:
    async with waiting(meshllm) as (anna, number):
        words = ("pair", number, "--hub", hub.url)
        async with in_terminal(meshllm, "ben", *words) as ben:
            await ben.shows("Two digits: ")
            await anna.until("ask")
            anna.process.send_signal(signal.SIGINT)
            assert await ben.shows("The pairing was stopped") == (
                "\r\nThe pairing was stopped"
            )
