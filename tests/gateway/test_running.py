from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import httpx

from meshllm.errors import Code, StreamReset
from meshllm.routing.seam import Holder, NoRoute
from tests.fakes.memory_mesh import ANN, LLAMA, MemoryAnswer, MemoryMesh, Reply

CARL = Holder("c" * 52, "carl", "relay")
JSON = "application/json"


def loaded(*models: tuple[str, str]) -> bytes:
    entries = [{"name": name, "expires_at": expiry} for name, expiry in models]
    return json.dumps({"models": entries}).encode()


async def test_only_connected_providers_are_asked(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [MemoryAnswer(JSON, [loaded(("m", "2026-08-01T10:00:00Z"))])]
    answer = await client.get("/api/ps")
    assert [model["name"] for model in answer.json()["models"]] == ["m"]
    [ask] = mesh.asked
    assert (ask.method, ask.path, ask.model) == ("GET", "/api/ps", None)
    assert ask.provider == ANN.id
    assert ask.body == b""


async def test_no_provider_connected_is_nothing_loaded(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.listed = []
    assert (await client.get("/api/ps")).json() == {"models": []}


async def test_several_providers_are_one_list_longest_expiry_first(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.listed = [replace(LLAMA, providers=(ANN, CARL))]
    mesh.replies = [
        MemoryAnswer(
            JSON,
            [
                loaded(
                    ("first-out", "2026-08-01T10:00:00.123456789Z"),
                    ("no-time", "soon"),
                )
            ],
        ),
        MemoryAnswer(JSON, [loaded(("last-out", "2026-08-01T09:00:00-07:00"))]),
    ]
    answer = await client.get("/api/ps")
    names = [model["name"] for model in answer.json()["models"]]
    assert names == ["last-out", "first-out", "no-time"]
    assert mesh.asked[0].request_id != mesh.asked[1].request_id


async def test_providers_that_fail_or_talk_nonsense_are_left_out(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    replies: list[Reply] = [
        NoRoute(502, "Lost."),
        MemoryAnswer(JSON, [b'{"mod', StreamReset(Code.GONE, "Lost.")]),
        MemoryAnswer(JSON, [b"[]"]),
        MemoryAnswer(JSON, [b'{"models":{"a":1}}']),
        MemoryAnswer(JSON, [b"\xff"]),
        MemoryAnswer(JSON, [b" " * 300_000]),
        MemoryAnswer(JSON, [b'{"models":[1,null,{"name":"m"}]}']),
    ]
    holders = tuple(
        Holder(str(n) * 52, f"p{n}", "host") for n in range(2, 2 + len(replies))
    )
    mesh.listed = [replace(LLAMA, providers=holders)]
    mesh.replies = list(replies)
    answer = await client.get("/api/ps")
    assert answer.json() == {"models": [{"name": "m"}]}
    assert all(r.closed.is_set() for r in replies if isinstance(r, MemoryAnswer))


async def test_a_silent_provider_holds_nobody_up_for_long(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    silent = MemoryAnswer(JSON, [asyncio.Event()])
    mesh.listed = [replace(LLAMA, providers=(ANN, CARL))]
    mesh.replies = [silent, MemoryAnswer(JSON, [b'{"models":[{"name":"m"}]}'])]
    answer = await client.get("/api/ps")
    assert answer.json() == {"models": [{"name": "m"}]}
    assert silent.closed.is_set()
