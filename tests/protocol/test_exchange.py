"""Heads: found in any cut of a stream's bytes, and strict about what they hold."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import LocalProtocolError, RemoteProtocolError
from meshllm.protocol.exchange import (
    HEAD_MAX,
    HeadReader,
    RequestHead,
    ResponseHead,
    encode_head,
)
from tests.vectors import make_frames

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    make_frames.FILE.read_text(encoding="utf-8")
)
REQUEST = make_frames.REQUEST
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
requests = st.builds(
    RequestHead,
    printable.filter(bool),
    st.sampled_from(["GET", "POST", "DELETE"]),
    printable.map(lambda text: "/" + text),
    st.none()
    | st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20
    ),
    printable,
)
responses = st.builds(
    ResponseHead,
    st.integers(200, 599),
    printable,
    st.dictionaries(
        st.sampled_from(["queue", "load", "prefill"]),
        st.floats(0, 1e9, allow_nan=False),
    ),
)


def reader_of(kind: str) -> HeadReader[RequestHead] | HeadReader[ResponseHead]:
    return HeadReader(RequestHead) if kind == "request" else HeadReader(ResponseHead)


def read(data: bytes) -> tuple[RequestHead, bytes] | None:
    return HeadReader(RequestHead).feed(data)


@given(
    requests | responses,
    st.binary(max_size=30),
    st.lists(st.integers(0, 300), max_size=12),
)
def test_any_cut_gives_the_same_head_and_body(
    head: RequestHead | ResponseHead, body: bytes, cuts: list[int]
) -> None:
    stream = encode_head(head) + body
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    reader = reader_of("request" if isinstance(head, RequestHead) else "response")
    found: RequestHead | ResponseHead | None = None
    rest = b""
    for piece in pieces:
        if found is not None:
            rest += piece
        elif (result := reader.feed(piece)) is not None:
            found, rest = result
    assert (found, rest) == (head, body)


@pytest.mark.parametrize("vector", VECTORS["heads"], ids=lambda v: v["name"])
def test_a_head_reads_as_its_vector_says(vector: dict[str, Any]) -> None:
    found = reader_of(vector["kind"]).feed(bytes.fromhex(vector["hex"]))
    assert found is not None
    assert (make_frames.as_json(found[0]), found[1]) == (vector["head"], b"")


@pytest.mark.parametrize("vector", VECTORS["malformed_heads"], ids=lambda v: v["name"])
def test_a_malformed_head_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        reader_of(vector["kind"]).feed(bytes.fromhex(vector["hex"]))


def test_unknown_keys_are_ignored() -> None:
    fields = {**make_frames.as_json(REQUEST), "v": 1, "later": {"a": [1]}}
    assert read(make_frames.head_bytes(json.dumps(fields))) == (REQUEST, b"")


def test_a_head_that_is_too_long_is_refused_before_it_has_come() -> None:
    with pytest.raises(RemoteProtocolError, match="12,288"):
        read((HEAD_MAX + 1).to_bytes(4, "big"))
    assert read(HEAD_MAX.to_bytes(4, "big")) is None


def test_a_head_that_is_too_long_is_not_written() -> None:
    long = RequestHead("1", "GET", "/" + "x" * HEAD_MAX, None, "")
    with pytest.raises(LocalProtocolError, match="12,288"):
        encode_head(long)


def test_an_empty_head_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="not JSON"):
        read(bytes(4))


def test_there_is_one_head_a_stream() -> None:
    reader = HeadReader(RequestHead)
    reader.feed(encode_head(REQUEST))
    with pytest.raises(LocalProtocolError):
        reader.feed(b"body")


@given(st.binary(max_size=60), st.sampled_from(["request", "response"]))
def test_random_bytes_are_a_head_or_an_error(data: bytes, kind: str) -> None:
    for stream in (data, len(data).to_bytes(4, "big") + data):
        try:
            reader_of(kind).feed(stream)
        except RemoteProtocolError:
            continue


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2),
        max_leaves=3,
    ),
    st.sampled_from(["v", "id", "method", "path", "model", "type", "status", "timing"]),
)
def test_any_value_in_any_place_is_a_head_or_an_error(value: Any, name: str) -> None:
    fields = {
        **make_frames.as_json(REQUEST),
        "v": 1,
        "status": 200,
        "timing": {"a": 1},
        name: value,
    }
    data = make_frames.head_bytes(json.dumps(fields))
    for kind in ("request", "response"):
        try:
            reader_of(kind).feed(data)
        except RemoteProtocolError:
            continue
