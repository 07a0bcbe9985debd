"""What browser tests share: a Chromium, the harness page, commands, an Ollama."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.browser import (
    Browser,
    Page,
    build_harness,
    chromium,
    missing,
    serve,
)
from tests.fakes.commands import Commands, commands
from tests.fakes.scripted_ollama import ScriptedOllama


@pytest.fixture(scope="session", autouse=True)
def can_browse() -> None:
    """CI has what these tests need; elsewhere they are skipped by name."""
    lacking = missing()
    if lacking is not None and os.environ.get("CI") != "true":
        pytest.skip(f"needs {lacking}")
    assert lacking is None


@pytest.fixture
async def meshllm(tmp_path: Path) -> AsyncIterator[Commands]:
    async with commands(tmp_path) as running:
        yield running


@pytest.fixture
async def ollama() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as server:
        yield server


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running
        assert running.errors == []


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once: no test changes it."""
    folder = tmp_path_factory.mktemp("harness")
    asyncio.run(build_harness(folder))
    return folder


@pytest.fixture
async def page(browser: Browser, harness: Path) -> AsyncIterator[Page]:
    """The harness in a page of its own."""
    async with serve(harness) as url:
        yield await browser.open(url)
