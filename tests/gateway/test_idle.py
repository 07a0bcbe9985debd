"""Connections that hold a file and say nothing."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from meshllm.gateway import Gateway, idle, server
from meshllm.gateway.idle import BODY_S, SILENT_MAX, SILENT_S, Idle
from tests.fakes.memory_mesh import LLAMA, MemoryAnswer, MemoryMesh


def test_one_that_never_asks_is_cut_after_two_minutes() -> None:
    connections = Idle[str]()
    assert connections.due({"a": None}, 0) == []
    assert connections.due({"a": None, "b": None}, SILENT_S) == []
    assert connections.due({"a": None, "b": None}, SILENT_S + 1) == ["a"]


def test_one_that_asks_now_and_then_is_not() -> None:
    connections = Idle[str]()
    connections.due({"a": None}, 0)
    connections.forget("a")  # it asked, and was answered between two looks
    assert connections.due({"a": None}, SILENT_S + 1) == []
    connections.due({}, SILENT_S + 2)  # a request of it is under way
    assert connections.due({"a": None}, 3 * SILENT_S) == []


def test_a_body_may_be_slow_and_may_not_stop() -> None:
    connections = Idle[str]()
    for minute in range(10):
        assert connections.due({"a": minute}, minute * BODY_S) == []
    assert connections.due({"a": 9}, 10 * BODY_S + 1) == ["a"]


def test_of_too_many_those_go_that_stood_still_longest() -> None:
    connections = Idle[int]()
    waiting: dict[int, int | None] = {0: None, 1: 7}
    connections.due(waiting, 0)
    waiting |= dict.fromkeys(range(2, SILENT_MAX + 2))
    assert connections.due(waiting, 1) == [0, 1]


def test_many_at_once_that_go_on_are_left_alone() -> None:
    connections = Idle[int]()
    for size in range(3):
        many: dict[int, int | None] = dict.fromkeys(range(SILENT_MAX * 2), size)
        assert connections.due(many, size) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK_S", 0.01)
    monkeypatch.setattr(idle, "SILENT_S", 0.05)
    monkeypatch.setattr(idle, "BODY_S", 0.05)


def address(gateway: Gateway) -> tuple[str, int]:
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    return host, int(port)


async def until_cut(reader: asyncio.StreamReader) -> None:
    """Nothing is said; in order or by a reset."""
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""


HALF_BODY = (
    b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHo", HALF_BODY])
async def test_what_does_not_go_on_is_cut(
    impatient: None, gateway: Gateway, said: bytes
) -> None:
    reader, writer = await asyncio.open_connection(*address(gateway))
    writer.write(said)
    await until_cut(reader)
    writer.close()


async def test_a_program_that_waits_for_its_answer_is_left_alone(
    impatient: None, gateway: Gateway, mesh: MemoryMesh, client: httpx.AsyncClient
) -> None:
    thinks = asyncio.Event()
    mesh.replies = [MemoryAnswer("application/x-ndjson", [thinks, b"{}\n"])]
    body = {"model": LLAMA.name, "messages": [{"role": "user", "content": "x"}]}
    asking = asyncio.create_task(client.post("/api/chat", json=body))
    await mesh.has_ask.wait()
    reader, writer = await asyncio.open_connection(*address(gateway))
    await until_cut(reader)  # silent as long, and asking nothing
    thinks.set()
    assert (await asking).content == b"{}\n"
    writer.close()
