"""Chromium asks: the kinds of ways that its peer connections take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.natlab.cells import CHROMIUM, Cell, Pair, world
from tests.natlab.nat import Kind, can_be_direct

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("chromium"),
]

PAIRS: list[Pair] = [
    (Kind.PORT_RESTRICTED, Kind.CGNAT),
    (Kind.TCP443, Kind.UDP_BLOCKED),
    (Kind.V6_SYMMETRIC, Kind.V6_SYMMETRIC),
]


async def test_a_browser_connects_and_is_direct_where_it_can_be(tmp_path: Path) -> None:
    cells: list[Cell] = []
    async with world(tmp_path, PAIRS, asking=CHROMIUM) as made:
        await made.cells(PAIRS, cells.append)
    assert [cell for cell in cells if cell.error is not None] == []
    found = {(cell.asker, cell.provider): cell.is_direct for cell in cells}
    assert found == {pair: can_be_direct(*pair) for pair in PAIRS}
