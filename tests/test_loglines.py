"""The latest log lines: kept, followed, bounded, and taken from any thread."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from meshllm import loglines
from meshllm.loglines import LogLines

log = logging.getLogger("tests.loglines")


@pytest.fixture
async def lines() -> AsyncIterator[LogLines]:
    handler = LogLines()
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)


async def settled() -> None:
    """Lines are added by callbacks of the loop, in order."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_soon(done.set)
    await done.wait()


async def texts(lines: LogLines) -> list[str]:
    await settled()
    return [line["text"] for line in lines.lines]


async def test_a_line_keeps_its_level_name_and_text(lines: LogLines) -> None:
    log.warning("%s is away", "anna")
    await settled()
    [line] = lines.lines
    assert line["level"] == "warning"
    assert line["logger"] == "tests.loglines"
    assert line["text"] == "anna is away"


async def test_debug_lines_are_not_kept(lines: LogLines) -> None:
    log.debug("noise")
    log.info("news")
    assert await texts(lines) == ["news"]


async def test_only_the_newest_are_kept(
    lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(loglines.KEPT + 5):
        log.info("%d", number)
    found = await texts(lines)
    assert len(found) == loglines.KEPT
    assert (found[0], found[-1]) == ("5", str(loglines.KEPT + 4))


async def test_a_follower_gets_what_is_kept_and_then_what_comes(
    lines: LogLines,
) -> None:
    log.info("before")
    await settled()
    async with aclosing(lines.follow()) as following:
        assert (await anext(following))["text"] == "before"
        log.info("after")
        assert (await anext(following))["text"] == "after"


async def test_a_follower_ends_when_the_lines_do(lines: LogLines) -> None:
    log.info("last words")
    await settled()

    async def all_of_them() -> list[str]:
        return [line["text"] async for line in lines.follow()]

    following = asyncio.create_task(all_of_them())
    await settled()
    lines.end()
    assert await following == ["last words"]


async def test_following_after_the_end_ends_too(lines: LogLines) -> None:
    lines.end()
    assert [line async for line in lines.follow()] == []


async def test_a_slow_follower_loses_the_oldest_lines(
    lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.info("first")
    await settled()
    async with aclosing(lines.follow()) as following:
        await anext(following)
        for number in range(loglines.KEPT + loglines.UNREAD + 3):
            log.info("%d", number)
        await settled()
        assert (await anext(following))["text"] == "3"


async def test_other_threads_may_log(lines: LogLines) -> None:
    await asyncio.to_thread(log.info, "from afar")
    assert await texts(lines) == ["from afar"]
