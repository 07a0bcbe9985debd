"""Slots: first come first served, a bounded line, and nothing lost to cancelling."""

from __future__ import annotations

import asyncio

import pytest

from meshllm.errors import Code, NotAllowed
from meshllm.provider.slots import Slots


class Job:
    """Holds a slot until it is told to end."""

    def __init__(self, slots: Slots) -> None:
        self.positions: list[int] = []
        self.runs = asyncio.Event()
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._run(slots))

    async def _run(self, slots: Slots) -> None:
        async with slots.take(self.positions.append):
            self.runs.set()
            await self.may_end.wait()

    async def end(self) -> None:
        self.may_end.set()
        await self.task

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_line_is_served_in_order_and_hears_its_position() -> None:
    slots = Slots(parallel=1, queue=8)
    first, second, third = Job(slots), Job(slots), Job(slots)
    await first.runs.wait()
    await settle()
    assert (second.positions, third.positions) == ([1], [2])
    await first.end()
    await second.runs.wait()
    assert not third.runs.is_set()
    assert third.positions == [2, 1]
    await second.end()
    await third.end()
    assert (slots.running, slots.waiting) == (0, 0)


async def test_beyond_the_line_is_busy() -> None:
    slots = Slots(parallel=1, queue=1)
    runs, waits = Job(slots), Job(slots)
    await runs.runs.wait()
    await settle()
    with pytest.raises(NotAllowed, match="server busy") as refused:
        async with slots.take(lambda position: None):
            pass
    assert refused.value.code is Code.BUSY
    assert slots.refused == 1
    await runs.end()
    await waits.end()


async def test_a_cancelled_waiter_leaves_the_line() -> None:
    slots = Slots(parallel=1, queue=8)
    runs, leaves, stays = Job(slots), Job(slots), Job(slots)
    await runs.runs.wait()
    await settle()
    await leaves.cancel()
    assert stays.positions == [2, 1]
    await runs.end()
    await stays.runs.wait()
    await stays.end()
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_slot_given_to_a_waiter_in_the_moment_it_is_cancelled_passes_on() -> (
    None
):
    slots = Slots(parallel=1, queue=8)
    runs, leaves, stays = Job(slots), Job(slots), Job(slots)
    await runs.runs.wait()
    await settle()
    runs.may_end.set()
    await asyncio.sleep(0)  # `leaves` has its slot now, and has not run yet
    await leaves.cancel()
    await stays.runs.wait()
    await stays.end()
    assert (slots.running, slots.waiting) == (0, 0)


async def test_who_waited_and_who_ran_is_told_in_seconds() -> None:
    slots = Slots(parallel=1, queue=8)
    waited: list[float] = []
    ran: list[float] = []
    slots.on_waited, slots.on_ran = waited.append, ran.append
    first, second, leaves = Job(slots), Job(slots), Job(slots)
    await first.runs.wait()
    await settle()
    await leaves.cancel()
    assert (len(waited), len(ran)) == (1, 0)
    await first.end()
    await second.runs.wait()
    await second.end()
    assert (len(waited), len(ran)) == (2, 2)
    assert waited[1] > waited[0] >= 0  # the second stood in line
    assert min(ran) > 0


async def test_a_failing_job_gives_its_slot_back() -> None:
    slots = Slots(parallel=1, queue=0)
    with pytest.raises(RuntimeError):
        async with slots.take(lambda position: None):
            raise RuntimeError
    assert slots.running == 0
