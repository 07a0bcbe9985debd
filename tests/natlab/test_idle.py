"""Nodes that nobody asks, whose machines get other addresses: seen at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshllm import control
from tests.natlab.cells import POLL_S, SHORT, World, world
from tests.natlab.events import move
from tests.natlab.nat import Kind
from tests.natlab.sites import Seat

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SEEN_S = 5.0
ROOM_S = 2.0  # for a busy machine
ASKER, PROVIDER = Kind.PORT_RESTRICTED, Kind.FULL_CONE
EARLIER_S = 1.1  # logins are told in whole seconds


async def test_an_idle_node_that_moved_is_at_the_server_again_at_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Nothing tells it: its packets are lost, and the server's heartbeat takes 20 s."""
    async with world(tmp_path, [(ASKER, PROVIDER)]) as made:
        seats = made.askers[ASKER], made.providers[PROVIDER]
        assert (await ask(made))[0]
        before = [await since(made, seat) for seat in seats]
        await asyncio.sleep(EARLIER_S)
        moved_at = time.monotonic()
        for seat in seats:
            move(seat.site)
        async with asyncio.timeout(SEEN_S + ROOM_S):
            for seat, earlier in zip(seats, before, strict=True):
                while await since(made, seat) == earlier:
                    await asyncio.sleep(POLL_S)
        seen_s = time.monotonic() - moved_at
        record_property("at the server again", f"after {seen_s:.1f} s")

        # The warm path is dead, too: the question does not find that out first.
        is_whole, first_s = await ask(made)
        record_property("the next question's first byte", f"after {first_s:.1f} s")
        assert is_whole
        assert first_s < SEEN_S


async def since(made: World, seat: Seat) -> int:
    """When it logged in last."""
    (one,) = control.running(made.meshllm.home(seat.name))
    return int((await control.ask(one, "/status"))["signaling"]["since"])


async def ask(made: World) -> tuple[bool, float]:
    """Whether the answer is whole, and how long its first byte took."""
    begun = time.monotonic()
    came: list[float] = []
    outcome = await made.ask(
        ASKER, PROVIDER, SHORT, lambda number: came.append(time.monotonic())
    )
    return outcome.is_all_of(SHORT), came[0] - begun if came else 0.0
