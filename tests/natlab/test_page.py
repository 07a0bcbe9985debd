"""The chat page asks, as people do: straight through NATs, by TLS, and by a relay when
they hide their address."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.natlab.cells import PAGE, Pair, world
from tests.natlab.nat import Kind, can_be_direct

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("chromium"),
]

THROUGH_NATS: Pair = (Kind.PORT_RESTRICTED, Kind.CGNAT)
PAIRS: list[Pair] = [
    THROUGH_NATS,
    (Kind.TCP443, Kind.UDP_BLOCKED),
    (Kind.V6_SYMMETRIC, Kind.V6_SYMMETRIC),
]


async def test_the_page_is_direct_where_it_can_be_and_may(tmp_path: Path) -> None:
    async with world(tmp_path, PAIRS, asking=PAGE) as made:
        cells = [await made.cell(*pair) for pair in PAIRS]
        await made.visits[Kind.PORT_RESTRICTED].hide_address()
        hidden = await made.cell(*THROUGH_NATS)
    assert [cell.error for cell in [*cells, hidden]] == [None] * 4
    assert [cell.is_direct for cell in cells] == [
        can_be_direct(*pair) for pair in PAIRS
    ]
    assert not hidden.is_direct
    # What it says in a word is what it says of both ends.
    direct, by_tls, by_ipv6, hiding = (
        str(cell.candidates).split("-") for cell in [*cells, hidden]
    )
    assert "relay" not in direct + by_ipv6
    assert by_tls == ["relay", "relay"]
    assert hiding[0] == "relay"
