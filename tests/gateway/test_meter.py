"""/metrics of the gateway: what is counted, and who may read it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from meshllm.errors import PeerUnreachable
from meshllm.gateway import Gateway, Options
from meshllm.metrics import Fact
from meshllm.routing.seam import NoRoute
from tests.fakes.memory_mesh import LLAMA, MemoryAnswer, MemoryMesh
from tests.fakes.scraped import scraped

NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json"
CHAT = {"model": "llama3.2:1b", "messages": [{"role": "user", "content": "hi"}]}


async def scrape(client: httpx.AsyncClient) -> dict[str, float]:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Server"] == "meshllm"
    return scraped(response.text)


async def test_requests_are_counted_by_api_and_ending(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    lost = PeerUnreachable("lost")
    mesh.replies = [
        MemoryAnswer(NDJSON, [b"{}\n"]),
        MemoryAnswer(SSE, [b"data: {}\n\n", lost]),
        NoRoute(503, "busy", retry_after_s=5),
    ]
    await client.post("/api/chat", json=CHAT)
    await client.post("/v1/chat/completions", json=CHAT)
    await client.post("/api/chat", json=CHAT)
    await client.post("/api/chat", content=b"{")
    await client.get("/nowhere")
    found = await scrape(client)
    counts = {
        key.removeprefix("meshllm_requests_total"): value
        for key, value in found.items()
        if key.startswith("meshllm_requests_total")
    }
    assert counts == {
        "{api=ollama,status=2xx}": 1,
        "{api=ollama,status=4xx}": 1,
        "{api=ollama,status=5xx}": 1,
        "{api=openai,status=broken}": 1,
        "{api=own,status=4xx}": 1,
    }


async def test_a_program_that_hangs_up_has_left(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    answer = MemoryAnswer(NDJSON, [b"{}\n", asyncio.Event()])
    mesh.replies = [answer]
    async with client.stream("POST", "/api/chat", json=CHAT) as response:
        await anext(response.aiter_raw())
        assert (await scrape(client))["meshllm_requests_running"] == 2
    await answer.closed.wait()
    found = await scrape(client)
    assert found["meshllm_requests_total{api=ollama,status=left}"] == 1
    assert found["meshllm_requests_running"] == 1
    assert "meshllm_answer_seconds_count{api=ollama}" not in found


async def test_the_first_byte_is_timed_for_streams_only(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.replies = [
        MemoryAnswer(NDJSON, [b"{}\n", b"{}\n"]),
        MemoryAnswer(JSON, [b"{}"]),
    ]
    await client.post("/api/chat", json=CHAT)
    await client.post("/api/chat", json={**CHAT, "stream": False})
    found = await scrape(client)
    assert found["meshllm_first_byte_seconds_count{api=ollama}"] == 1
    assert found["meshllm_answer_seconds_count{api=ollama}"] == 2
    first = found["meshllm_first_byte_seconds_sum{api=ollama}"]
    assert 0 < first < found["meshllm_answer_seconds_sum{api=ollama}"]


async def test_bytes_of_both_ways_are_counted(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    line = b"{}" * 4_000 + b"\n"
    mesh.replies = [
        MemoryAnswer(NDJSON, [line] * 10),
        MemoryAnswer(JSON, [b"[" + b"1," * 999 + b"1]"]),
    ]
    body = json.dumps(CHAT).encode()
    await client.post("/api/chat", content=body)
    await client.post("/v1/chat/completions", content=body)
    found = await scrape(client)
    assert found["meshllm_request_bytes_total{api=ollama}"] == len(body)
    sent = found["meshllm_answer_bytes_total{api=ollama}"]
    assert 80_010 < sent < 82_000  # with the head, and the lengths of its chunks
    assert found["meshllm_answer_bytes_total{api=openai}"] == 2_001


async def test_what_a_stranger_names_is_no_label(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    before = set(await scrape(client))
    for number in range(20):
        mesh.replies = [NoRoute(404, "not found"), MemoryAnswer(NDJSON, [b"{}\n"])]
        await client.post("/api/chat", json={**CHAT, "model": f"spam{number}"})
        await client.post("/api/chat", json={**CHAT, "model": f"spam{number}"})
        await client.request(f"SPAM{number}", f"/spam{number}")
    response = await client.get("/metrics")
    assert "spam" not in response.text.lower()
    assert LLAMA.name not in response.text
    assert len(set(scraped(response.text)) - before) < 50  # two histograms, some counts


async def test_the_node_behind_it_tells_its_own() -> None:
    gateway = Gateway(
        MemoryMesh(), Options(port=0), lambda: [Fact("meshllm_providers", "P.", 3)]
    )
    await gateway.start()
    try:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            assert (await scrape(client))["meshllm_providers"] == 3
    finally:
        await gateway.stop()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer k"}, 200),
        ({"Authorization": "Bearer k", "Host": "evil.example"}, 403),
        ({"Authorization": "Bearer k", "Origin": "https://evil.example"}, 403),
    ],
)
async def test_who_may_not_use_the_gateway_may_not_read_its_metrics(
    headers: dict[str, str], status: int
) -> None:
    gateway = Gateway(MemoryMesh(), Options(port=0, api_key="k"))
    await gateway.start()
    try:
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as client:
            response = await client.get("/metrics")
            assert response.status_code == status
            assert ("meshllm_" in response.text) == (status == 200)
    finally:
        await gateway.stop()


async def test_while_it_drains_it_still_tells(mesh: MemoryMesh) -> None:
    hold = asyncio.Event()
    mesh.replies = [MemoryAnswer(NDJSON, [b"{}\n", hold])]
    gateway = Gateway(mesh, Options(port=0))
    await gateway.start()
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        async with client.stream("POST", "/api/chat", json=CHAT) as response:
            lines = response.aiter_raw()
            await anext(lines)
            stopping = asyncio.create_task(gateway.stop())
            while (await client.get("/ready")).status_code != 503:
                await asyncio.sleep(0)
            assert (await scrape(client))["meshllm_requests_running"] == 2
            hold.set()
            assert [line async for line in lines] == []
        await stopping
