"""A dozen cells of `make natlab`: every kind of site, every way through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.natlab.cells import Cell, Pair, world
from tests.natlab.nat import Kind, can_be_direct

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

# Few sites that are asked often: a share and a gateway take a second each to start.
PAIRS: list[Pair] = [
    (Kind.FULL_CONE, Kind.SYMMETRIC),
    (Kind.PORT_RESTRICTED, Kind.CGNAT),
    (Kind.SYMMETRIC, Kind.PUBLIC),
    (Kind.TCP443, Kind.UDP_BLOCKED),
    (Kind.FULL_CONE, Kind.UDP_BLOCKED),
    (Kind.PORT_RESTRICTED, Kind.SYMMETRIC),
    (Kind.SYMMETRIC, Kind.CGNAT),
    (Kind.V6_SYMMETRIC, Kind.V6_SYMMETRIC),
    (Kind.FULL_CONE, Kind.CGNAT),
    (Kind.V6_SYMMETRIC, Kind.SYMMETRIC),
    (Kind.TCP443, Kind.PUBLIC),
    (Kind.SYMMETRIC, Kind.V6_SYMMETRIC),
]


async def test_a_dozen_cells_connect_and_are_direct_where_they_can_be(
    tmp_path: Path,
) -> None:
    cells: list[Cell] = []
    async with world(tmp_path, PAIRS) as made:
        await made.cells(PAIRS, cells.append)
    assert [cell for cell in cells if cell.error is not None] == []
    found = {(cell.asker, cell.provider): cell.is_direct for cell in cells}
    assert found == {pair: can_be_direct(*pair) for pair in PAIRS}
