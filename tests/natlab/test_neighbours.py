"""Two on one LAN, introduced by a server far away: no router is between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.commands import MESHLLM
from tests.natlab.cells import PAGE, Asking, Pair, world
from tests.natlab.nat import Kind

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

PAIRS: list[Pair] = [(kind, kind) for kind in (Kind.SYMMETRIC, Kind.UDP_BLOCKED)]


@pytest.mark.parametrize("asking", [MESHLLM, PAGE], ids=["meshllm", "page"])
async def test_neighbours_meet_on_their_own_network(
    tmp_path: Path, asking: Asking, request: pytest.FixtureRequest
) -> None:
    if asking == PAGE:
        request.getfixturevalue("chromium")
    async with world(tmp_path, PAIRS, neighbours=True, asking=asking) as made:
        cells = [await made.cell(*pair) for pair in PAIRS]
    assert [cell.error for cell in cells] == [None, None]
    assert all(cell.is_direct for cell in cells)
    # A browser hides its address behind a name; the provider finds out who asks.
    assert {cell.candidates for cell in cells} <= {"host-host", "prflx-host"}
