"""The embedded model's process dies or stands still; or its parent does."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from meshllm.backends.model_file import fetch
from meshllm.errors import ConfigError
from tests.fakes.commands import Serving
from tests.fakes.town import Town, kill, town

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        sys.platform != "linux" or importlib.util.find_spec("xllamacpp") is None,
        reason="needs xllamacpp, and /proc to find its process",
    ),
]

STORY = "Tell a very long story about a lighthouse."
LONG = STORY * 180  # some seconds to read, on any machine that runs tests


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    try:
        await fetch()
    except ConfigError as error:
        pytest.skip(str(error))
    async with town(tmp_path) as here:
        yield here


def engine(share: Serving) -> int | None:
    """The process id of a provider's engine."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
            argv = Path(f"/proc/{entry}/cmdline").read_text()
        except OSError:
            continue  # it ended meanwhile
        parent = int(stat.rpartition(")")[2].split()[1])
        if parent == share.child.pid and "embedded_child" in argv:
            return int(entry)
    return None


async def ended(pid: int) -> None:
    while str(pid) in os.listdir("/proc"):
        await asyncio.sleep(0.02)


async def story(
    url: str, most: int, begun: asyncio.Event | None = None, prompt: str = STORY
) -> list[dict[str, Any]]:
    """The lines of an answer of at most so many tokens; an error with its status."""
    options = {"num_predict": most}
    body = {"model": "smollm2:135m", "prompt": prompt, "options": options}
    lines = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/generate", json=body) as response,
    ):
        if response.status != 200:
            return [{"status": response.status, **await response.json()}]
        async for line in response.content:
            lines.append(orjson.loads(line))
            if begun is not None:
                begun.set()
    return lines


async def test_every_death_shows_and_leaves_nothing_behind(here: Town) -> None:
    share = await here.meshllm.start("anna", "share", "--backend", "embedded")
    gateway = await here.gateway()

    begun = asyncio.Event()
    asking = asyncio.create_task(story(gateway.url, 2000, begun))
    await begun.wait()
    first = engine(share)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    told = (await asking)[-1]
    assert "starts it again" in told["error"]

    assert (await story(gateway.url, 3))[-1]["done"]  # by another engine
    second = engine(share)
    assert second not in (None, first)
    assert second is not None

    begun.clear()
    asking = asyncio.create_task(story(gateway.url, 2000, begun))
    await begun.wait()
    os.kill(second, signal.SIGSTOP)  # a program may leave though nothing moves
    asking.cancel()
    await asyncio.wait([asking])
    await here.slots(running=0)
    os.kill(second, signal.SIGCONT)
    assert (await story(gateway.url, 3))[-1]["done"]

    await kill(share.child)  # and with its parent the engine ends
    await ended(second)
    left = os.listdir(here.meshllm.env["TMPDIR"])
    assert [name for name in left if not name.startswith("meshllm-run-")] == []


async def test_in_the_prompt_and_in_the_queue_it_shows_and_the_next_one_answers(
    here: Town,
) -> None:
    share = await here.meshllm.start(
        "anna", "share", "--backend", "embedded", "--parallel", "1"
    )
    gateway = await here.gateway()
    reading = asyncio.create_task(story(gateway.url, 3, prompt=LONG))
    queued = asyncio.create_task(story(gateway.url, 3))
    await here.slots(running=1, waiting=1)
    first = engine(share)
    assert first is not None
    os.kill(first, signal.SIGSTOP)  # it has not said a word yet
    leaving = asyncio.create_task(story(gateway.url, 3))
    await here.slots(running=1, waiting=2)
    leaving.cancel()
    await asyncio.wait([leaving])
    await here.slots(running=1, waiting=1)
    assert not reading.done()
    os.kill(first, signal.SIGKILL)
    (told,) = await reading
    assert told["status"] == 502
    assert "starts it again" in told["error"]
    assert (await queued)[-1]["done"]  # by another engine
    assert engine(share) not in (None, first)
    await here.slots(running=0)
