"""The port for probes: what it answers, and what it says when it is taken."""

import aiohttp
import pytest

from meshllm.errors import ConfigError
from meshllm.metrics import Fact, Metrics
from meshllm.probes import probe_port


async def get(url: str) -> tuple[int, dict[str, object], str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json(), response.headers["Server"]


async def test_health_is_200_with_facts_and_ready_says_why_not() -> None:
    async with probe_port(
        0, lambda: {"clients": 2}, lambda: (False, "No model."), Metrics(tuple)
    ) as url:
        status, body, server = await get(f"{url}/health")
        assert (status, body["status"], body["clients"]) == (200, "healthy", 2)
        assert server == "meshllm"
        status, body, _ = await get(f"{url}/ready")
        assert (status, body) == (503, {"ready": False, "why": "No model."})


async def test_metrics_are_asked_for_at_each_scrape() -> None:
    clients = [1.0]
    metrics = Metrics(lambda: [Fact("meshllm_clients", "Clients.", clients[0])])
    async with (
        probe_port(0, dict, lambda: (True, ""), metrics) as url,
        aiohttp.ClientSession() as session,
    ):
        for clients[0] in (1, 2):
            async with session.get(f"{url}/metrics") as response:
                assert f"meshllm_clients {clients[0]}" in await response.text()
                assert response.headers["Server"] == "meshllm"


async def test_a_taken_port_is_named() -> None:
    async with probe_port(0, dict, lambda: (True, ""), Metrics(tuple)) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(
            ConfigError,
            match=f"Port {port} is in use. Choose another with `--health-port`",
        ):
            async with probe_port(port, dict, lambda: (True, ""), Metrics(tuple)):
                raise AssertionError("two servers on one port")
