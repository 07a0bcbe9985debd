"""The port for probes: what it answers, and what it says when it is taken."""

import aiohttp
import pytest

from meshllm.errors import ConfigError
from meshllm.probes import probe_port


async def get(url: str) -> tuple[int, dict[str, object], str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json(), response.headers["Server"]


async def test_health_is_200_with_facts_and_ready_says_why_not() -> None:
    async with probe_port(
        0, lambda: {"clients": 2}, lambda: (False, "No model.")
    ) as url:
        status, body, server = await get(f"{url}/health")
        assert (status, body["status"], body["clients"]) == (200, "healthy", 2)
        assert server == "meshllm"
        status, body, _ = await get(f"{url}/ready")
        assert (status, body) == (503, {"ready": False, "why": "No model."})


async def test_a_taken_port_is_named() -> None:
    async with probe_port(0, dict, lambda: (True, "")) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"Port {port} cannot be used"):
            async with probe_port(port, dict, lambda: (True, "")):
                raise AssertionError("two servers on one port")
