from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.dialects import NDJSON, SSE
from meshllm.gateway.records import HELD_LIMIT, Records


def test_whole_lines_pass_at_once() -> None:
    records = Records(NDJSON)
    assert records.feed(b"a\nb\n") == b"a\nb\n"
    assert records.rest() == b""


def test_half_a_line_waits_for_its_other_half() -> None:
    records = Records(NDJSON)
    assert records.feed(b"a\nb") == b"a\n"
    assert records.feed(b"c") == b""
    assert records.feed(b"d\n") == b"bcd\n"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_an_event_ends_with_a_blank_line_even_when_that_is_split(end: bytes) -> None:
    event = b"event: x\r\ndata: 2" + end
    for cut in range(1, len(event)):
        records = Records(SSE)
        assert records.feed(event[:cut]) == b""
        assert records.feed(event[cut:]) == event


def test_the_rest_is_what_never_ended() -> None:
    records = Records(NDJSON)
    records.feed(b"a\nb")
    assert records.rest() == b"b"
    assert records.rest() == b""


def test_a_long_record_passes_torn_and_heals_with_its_end() -> None:
    records = Records(NDJSON)
    assert records.feed(b"x" * HELD_LIMIT) == b""
    assert not records.is_torn
    assert records.feed(b"y") == b"x" * HELD_LIMIT + b"y"
    assert records.is_torn
    assert records.feed(b"z") == b""
    assert records.feed(b"\n") == b"z\n"
    assert not records.is_torn


@given(
    media_type=st.sampled_from([NDJSON, SSE]),
    chunks=st.lists(st.text("a\r\n", min_size=1).map(str.encode)),
)
def test_whatever_the_chunks_nothing_is_lost_and_only_whole_records_pass(
    media_type: str, chunks: list[bytes]
) -> None:
    records = Records(media_type)
    passed = [records.feed(chunk) for chunk in chunks]
    ends = (b"\n",) if media_type == NDJSON else (b"\n\n", b"\r\n\r\n")
    assert all(part == b"" or part.endswith(ends) for part in passed)
    rest = records.rest()
    assert b"".join(passed) + rest == b"".join(chunks)
    assert not any(end in rest for end in ends)
