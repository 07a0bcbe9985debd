"""Server-sent events, however the bytes come; and taking llama.cpp's reports out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.dialects import sse
from meshllm.dialects.sse import EventStream, ProgressFilter
from meshllm.errors import BackendError

STREAM = (
    ": hello\n\ndata: one\n\n"
    "event: named\ndata: two é\ndata:  three\nid: 4\n\n"
    "data: crlf 🙂\r\n\r\n"
    "retry: 5\n\ndata:tight\r\rdata\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = [b"one", "two é\n three".encode(), "crlf 🙂".encode(), b"tight", b"[DONE]"]

REPORT = b'data: {"choices":[],"prompt_progress":{"total":9,"processed":0}}\n\n'
ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
QUOTED = b'data: {"choices":[{"delta":{"content":"\\"prompt_progress\\":{"}}]}\n\n'


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(cuts)
def test_events_are_the_same_however_the_bytes_come(places: list[int]) -> None:
    stream = EventStream()
    found = [event for part in split(STREAM, places) for event in stream.feed(part)]
    assert found + stream.end() == EVENTS


def test_a_byte_at_a_time() -> None:
    stream = EventStream()
    found = [event for byte in STREAM for event in stream.feed(byte.to_bytes(1, "big"))]
    assert found + stream.end() == EVENTS


def test_an_event_is_out_with_its_blank_line() -> None:
    stream = EventStream()
    assert stream.feed(b"data: x\n") == []
    assert stream.feed(b"\n") == [b"x"]


def test_the_last_event_may_lack_its_blank_line() -> None:
    stream = EventStream()
    assert stream.feed(b"data: x\n\ndata: y") == [b"x"]
    assert stream.end() == [b"y"]


def test_an_event_without_end_is_the_servers_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "EVENT_LIMIT", 1000)
    stream = EventStream()
    for _ in range(20):
        stream.feed(b"data: " + b"x" * 90 + b"\n\n")  # long, but it ends
    with pytest.raises(BackendError, match="without end"):
        for _ in range(20):
            stream.feed(b"data: " + b"x" * 90 + b"\n")


@given(cuts)
def test_reports_on_the_prompt_are_taken_out(places: list[int]) -> None:
    data = REPORT + REPORT + ROLE + QUOTED + b"data: [DONE]\n\n"
    reports = ProgressFilter()
    out = b"".join(reports.feed(part) for part in split(data, places))
    assert out + reports.end() == ROLE + QUOTED + b"data: [DONE]\n\n"


@given(cuts)
def test_a_stream_without_reports_is_untouched(places: list[int]) -> None:
    reports = ProgressFilter()
    out = b"".join(reports.feed(part) for part in split(STREAM, places))
    assert out + reports.end() == STREAM


def test_once_the_answer_began_nothing_is_held_back() -> None:
    reports = ProgressFilter()
    assert reports.feed(REPORT + ROLE + b"data: tor") == ROLE + b"data: tor"
    assert reports.feed(b"n") == b"n"


def test_the_events_that_open_a_response_come_before_its_reports() -> None:
    opening = b'event: response.created\ndata: {"a":1}\n\n'
    reports = ProgressFilter()
    named = b"event: response.in_progress\n" + REPORT
    assert reports.feed(opening + named + ROLE) == opening + ROLE
