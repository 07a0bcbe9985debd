"""What `make natlab` says of all cells in the end."""

from __future__ import annotations

from tests.natlab.__main__ import summary
from tests.natlab.cells import Cell
from tests.natlab.nat import Kind

CONE, CGNAT, TCP = Kind.FULL_CONE, Kind.CGNAT, Kind.TCP443


def test_the_open_path_stands_beside_the_first_byte_of_each_group() -> None:
    cells = [
        Cell(CONE, CGNAT, True, "direct", "srflx-srflx", 510.0, 400.0),
        Cell(CGNAT, CONE, True, "relay", "relay-srflx", 530.0, 430.0),
        Cell(CONE, CONE, True, "direct", "srflx-srflx", 600.0, 410.0),
        Cell(CONE, TCP, False, "relay", "srflx-relay", 870.0, 790.0),
    ]
    assert summary(cells).splitlines() == [
        "4 of 4 connect,",
        "2 of 3 that can be are direct.",
        "UDP on both sides: first byte median 530 ms, at most 600;"
        " open median 410 ms, at most 430.",
        "on one: first byte median 870 ms, at most 870;"
        " open median 790 ms, at most 790.",
    ]


def test_a_page_tells_no_time_of_its_path_and_no_answer_has_none() -> None:
    cells = [
        Cell(TCP, TCP, False, "relay", "relay-relay", 1400.0),
        Cell(TCP, CONE, False, error="no answer in time"),
    ]
    assert summary(cells).splitlines() == [
        "1 of 2 connect,",
        "0 of 0 that can be are direct.",
        "on neither: first byte median 1400 ms, at most 1400.",
    ]
