"""A gateway on a free loopback port in front of a mesh in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from meshllm.gateway import Gateway, Options
from tests.fakes.memory_mesh import LLAMA, QWEN, MemoryMesh


@pytest.fixture
def mesh() -> MemoryMesh:
    return MemoryMesh(LLAMA, QWEN)


@pytest.fixture
async def gateway(mesh: MemoryMesh) -> AsyncIterator[Gateway]:
    gateway = Gateway(mesh, Options(port=0, drain_s=0))
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        yield client
