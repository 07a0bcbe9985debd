"""What the end-to-end tests share: commands, and a scripted Ollama."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.commands import Commands, commands
from tests.fakes.scripted_ollama import ScriptedOllama


@pytest.fixture
async def meshllm(tmp_path: Path) -> AsyncIterator[Commands]:
    async with commands(tmp_path) as running:
        yield running


@pytest.fixture
async def ollama() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as server:
        yield server
