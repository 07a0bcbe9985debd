"""An answer under way survives what networks do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.natlab.events import EVENTS, run_all

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

BACK_S = 3.0
ROOM_S = 2.0  # for a busy machine


async def test_a_stream_goes_on_and_nothing_is_lost_or_doubled(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = {ran.event.name: ran for ran in await run_all(tmp_path)}
    for name, ran in found.items():
        record_property(name, f"went on after {ran.back_s:.1f} s")
    assert {name: ran.error for name, ran in found.items()} == {
        event.name: None for event in EVENTS
    }
    late = {name: ran.back_s for name, ran in found.items() if ran.back_s > BACK_S}
    assert max(late.values(), default=0.0) < BACK_S + ROOM_S, late
