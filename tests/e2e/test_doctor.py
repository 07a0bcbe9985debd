"""`meshllm doctor` as a person runs it: real processes, real servers, real paths."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.fakes.commands import Commands, Serving
from tests.fakes.scripted_ollama import ScriptedOllama
from tests.fakes.stun import StunServer
from tests.fakes.turn import TurnServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SECRET = b"a secret of two servers"
ALL = {
    *("node", "running", "addresses", "dns", "tcp", "tls", "http", "clock"),
    *("signaling", "stun", "turn", "ipv6", "relay", "nat", "peer", "lan"),
}


@asynccontextmanager
async def mesh(meshllm: Commands, *, secret: bytes = SECRET) -> AsyncIterator[Serving]:
    """A signaling server that names a STUN and a TURN server; `anna` owns the mesh."""
    path = meshllm.home("secret")
    path.write_bytes(secret)
    path.chmod(0o600)
    async with StunServer.running() as stun, TurnServer.sharing(SECRET) as turn:
        hub = await meshllm.start(
            *("hub", "signal", "--port", "0", "--stun", f"stun:127.0.0.1:{stun}"),
            *("--turn", turn.url, "--turn-secret-file", str(path)),
        )
        await meshllm.run("anna", "init", str(hub.said["link"]))
        yield hub


async def share(meshllm: Commands, ollama: ScriptedOllama) -> Serving:
    where = ("--backend", "ollama", "--url", ollama.url)
    return await meshllm.start("anna", "share", *where)


def named(checks: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [check for check in checks if check["name"] == name]
    return found


async def test_a_mesh_that_is_well(meshllm: Commands, ollama: ScriptedOllama) -> None:
    async with mesh(meshllm):
        sharing = await share(meshllm, ollama)
        done = await meshllm.run("anna", "doctor", "--json")
        shown = await meshllm.run("anna", "doctor")
    assert done.err == ""
    assert done.json["fine"] is True
    checks = done.json["checks"]
    assert {check["name"] for check in checks} == ALL
    assert {check["state"] for check in checks} == {"ok"}
    for check in checks:
        assert check.keys() == {"name", "state", "text", "do", "about", "facts"}
    (process,) = named(checks, "running")["facts"]["processes"]
    assert process == {
        "command": "share", "pid": sharing.child.pid, "connected": True, "policy": "all"
    }  # fmt: skip
    assert named(checks, "relay")["facts"]["answered"] == ["udp"]
    assert named(checks, "lan")["text"].startswith("127.0.0.1: multicast works")
    peer = named(checks, "peer")["facts"]
    assert (peer["path"], peer["relay"], peer["problem"]) == ("host", False, None)
    assert peer["rtt_ms"] > 0
    lines = shown.out.splitlines()
    assert len(lines) == len(ALL)
    assert all(line.startswith("ok   ") for line in lines)
    assert shown.err == "Next:\n  meshllm peers        # how each is reached now\n"


async def test_a_server_that_is_off_is_found_out(meshllm: Commands) -> None:
    async with mesh(meshllm) as hub:
        await hub.child.stop()
        done = await meshllm.run("anna", "doctor", code=1)
    assert "FAIL tcp" in done.out
    assert "-              tls, http, clock: not looked at: tcp failed" in done.out
    assert done.err == "1 of 16 failed: tcp.\n"


async def test_secrets_that_differ_are_found_out(meshllm: Commands) -> None:
    async with mesh(meshllm, secret=b"another"):
        done = await meshllm.run("anna", "doctor", "--json", code=1)
    checks = done.json["checks"]
    assert "refuses the credential" in named(checks, "turn")["text"]
    assert named(checks, "relay")["state"] == "error"
    assert named(checks, "stun")["state"] == "ok"
    assert named(checks, "peer")["text"] == "no provider is in the mesh now"


async def test_a_provider_that_hangs_has_a_verdict_within_ten_seconds(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    async with mesh(meshllm):
        sharing = await share(meshllm, ollama)
        await meshllm.run("anna", "status")  # it is at rest, and in no write
        os.kill(sharing.child.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            done = await meshllm.run("anna", "doctor", "--json", code=1)
            took_s = time.monotonic() - began
        finally:
            os.kill(sharing.child.pid, signal.SIGCONT)
    checks = done.json["checks"]
    peer = named(checks, "peer")
    assert "the peer has not answered the offer" in peer["facts"]["problem"]
    assert took_s < 20  # with two seconds of asking its control socket, and starting
    running = named(checks, "running")
    assert "does not answer on its control socket" in running["text"]


async def test_a_provider_that_is_not_there(
    meshllm: Commands, ollama: ScriptedOllama
) -> None:
    async with mesh(meshllm):
        await share(meshllm, ollama)
        name = (await meshllm.run("anna", "status", "--json")).json["name"]
        done = await meshllm.run("anna", "doctor", "--peer", "nobody", code=1)
        fine = await meshllm.run("anna", "doctor", "--peer", name, "--json")
    assert "no provider 'nobody' is in the mesh now" in done.out
    assert named(fine.json["checks"], "peer")["facts"]["name"] == name


async def test_a_mesh_of_the_lan_has_no_server_to_look_at(meshllm: Commands) -> None:
    await meshllm.run("anna", "init")
    done = await meshllm.run("anna", "doctor", "--json")
    assert named(done.json["checks"], "signaling")["state"] == "skipped"
    shown = await meshllm.run("anna", "doctor")
    assert "this mesh lives on this LAN" in shown.out
