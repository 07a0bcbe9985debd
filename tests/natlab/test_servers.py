"""STUN and TURN servers that are silent, and meshes that have none."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from meshllm import control
from tests.natlab.cells import Pair, World, world
from tests.natlab.nat import Kind
from tests.natlab.vps import DEAD_STUN, DEAD_TURN, Servers

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

USABLE_MS = 2_000  # 0.9 s and what a dead relay may add, on a busy machine
VERDICT_S = 10.0
ROOM_S = 1.0
POLL_S = 0.1
DIRECT: Pair = (Kind.PORT_RESTRICTED, Kind.CGNAT)
RELAYED: Pair = (Kind.SYMMETRIC, Kind.SYMMETRIC)


@pytest.mark.parametrize(
    ("dead", "urls"), [("stun", (DEAD_STUN,)), ("turn", DEAD_TURN)]
)
async def test_a_dead_server_costs_little_and_is_named(
    tmp_path: Path, dead: Literal["stun", "turn"], urls: tuple[str, ...]
) -> None:
    pairs = [DIRECT, RELAYED]
    async with world(tmp_path, pairs, servers=Servers(dead=dead)) as made:
        for pair, is_direct in ((DIRECT, True), (RELAYED, False)):
            cell = await made.cell(*pair)
            assert (cell.error, cell.is_direct) == (None, is_direct)
            assert cell.first_ms < USABLE_MS
        answers = await _answers(made, DIRECT[0])
        assert [url for url in answers if answers[url] is False] == list(urls)
        warned = await _warnings(made, DIRECT[0], len(urls))
    assert [text.split()[0] for text in warned] == list(urls)


async def _answers(made: World, asker: Kind) -> dict[str, bool | None]:
    """By URL, once each was asked."""
    while True:
        rows = (await _ask(made, asker, "/status"))["servers"]
        answers = {row["url"]: row["answers"] for row in rows}
        if None not in answers.values():
            return answers
        await asyncio.sleep(POLL_S)


async def _warnings(made: World, asker: Kind, count: int) -> list[str]:
    """Of servers, once there are so many in the log."""
    while True:
        lines = await _ask(made, asker, "/logs")
        texts = [line["text"] for line in lines if line["level"] == "warning"]
        found = [text for text in texts if "does not answer" in text]
        if len(found) >= count:
            return found
        await asyncio.sleep(POLL_S)


async def _ask(made: World, asker: Kind, path: str) -> Any:
    (gateway,) = control.running(made.meshllm.home(made.askers[asker].name))
    return await control.ask(gateway, path)


async def test_without_any_path_there_is_soon_a_reason(tmp_path: Path) -> None:
    pairs: list[Pair] = [RELAYED, (Kind.UDP_BLOCKED, Kind.PUBLIC)]
    async with world(tmp_path, pairs, servers=Servers(has_relays=False)) as made:
        began = time.monotonic()
        cells = await asyncio.gather(*(made.cell(*pair) for pair in pairs))
        took_s = time.monotonic() - began
    assert took_s < VERDICT_S + ROOM_S
    for cell in cells:
        assert cell.error is not None
        assert "TURN" in cell.error
