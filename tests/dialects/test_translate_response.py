"""OpenAI streams as Ollama's, checked against lines written by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.dialects.translate_response import (
    Moment,
    OllamaStream,
    gather,
    loaded,
    ndjson,
)
from tests.fakes.scripted_openai import (
    DONE,
    chat_chunk,
    chat_says,
    event,
    text_chunk,
    usage_chunk,
)

WHEN = "2026-01-02T03:04:05.000000006Z"
AT = Moment(WHEN, 9_000_000)
TIMINGS = {
    "cache_n": 30,
    "prompt_n": 1,
    "prompt_ms": 2.5,
    "predicted_n": 3,
    "predicted_ms": 4.25,
}


def opened(path: str = "/api/chat", *, alternatives: bool = False) -> OllamaStream:
    return OllamaStream(path, "Tiny", "request-1", alternatives=alternatives)


def translated(
    parts: list[bytes], path: str = "/api/chat", *, alternatives: bool = False
) -> list[dict[str, Any]]:
    stream = opened(path, alternatives=alternatives)
    chunks = [chunk for part in parts for chunk in stream.feed(part, AT)]
    chunks += stream.end(AT)
    assert stream.failure is None
    return chunks


def test_a_chat_line_by_line() -> None:
    parts = [
        chat_chunk({"role": "assistant", "content": None}),
        chat_chunk({"content": "Hé"}),
        chat_chunk({"content": "llo"}),
        chat_chunk({}, "stop"),
        usage_chunk(31, 2, timings=TIMINGS),
        DONE,
    ]
    assert ndjson(translated(parts)).decode().splitlines() == [
        f'{{"model":"Tiny","created_at":"{WHEN}",'
        '"message":{"role":"assistant","content":"Hé"},"done":false}',
        f'{{"model":"Tiny","created_at":"{WHEN}",'
        '"message":{"role":"assistant","content":"llo"},"done":false}',
        f'{{"model":"Tiny","created_at":"{WHEN}",'
        '"message":{"role":"assistant","content":""},"done":true,'
        '"done_reason":"stop","total_duration":9000000,"load_duration":6500000,'
        '"prompt_eval_count":31,"prompt_eval_duration":2500000,'
        '"eval_count":3,"eval_duration":4250000}',
    ]


def test_a_generate_line_by_line() -> None:
    parts = [
        text_chunk("a"),
        text_chunk("", "length", timings=TIMINGS),
        DONE,
    ]
    assert ndjson(translated(parts, "/api/generate")).decode().splitlines() == [
        f'{{"model":"Tiny","created_at":"{WHEN}","response":"a","done":false}}',
        f'{{"model":"Tiny","created_at":"{WHEN}","response":"","done":true,'
        '"done_reason":"length","total_duration":9000000,"load_duration":6500000,'
        '"prompt_eval_count":31,"prompt_eval_duration":2500000,'
        '"eval_count":3,"eval_duration":4250000}',
    ]


EVERYTHING = b"".join(
    [
        b": ping\n\n",
        chat_chunk({}, prompt_progress={"total": 9, "processed": 0}),
        chat_chunk({"role": "assistant", "content": ""}),
        chat_chunk({"reasoning_content": "hm 🤔"}),
        chat_chunk({"content": "día 🙂"}),
        chat_chunk({"content": "\r\n\n"}),
        chat_chunk(
            {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}
        ),
        chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chat_chunk({}, "tool_calls"),
        usage_chunk(5, 6),
        DONE,
    ]
)


@given(st.lists(st.integers(0, len(EVERYTHING)), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_lines(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(EVERYTHING)]
    parts = [EVERYTHING[a:b] for a, b in pairwise(edges)]
    assert ndjson(translated(parts)) == ndjson(translated([EVERYTHING]))


def test_thinking_comes_first_and_never_with_content() -> None:
    for key in ("reasoning_content", "reasoning"):
        parts = [
            chat_chunk({key: "hm"}),
            chat_chunk({key: " so", "content": "yes"}),
            chat_chunk({}, "stop"),
            DONE,
        ]
        said = [chunk["message"] for chunk in translated(parts)]
        assert said == [
            {"role": "assistant", "content": "", "thinking": "hm"},
            {"role": "assistant", "content": "", "thinking": " so"},
            {"role": "assistant", "content": "yes"},
            {"role": "assistant", "content": ""},
        ]


def call_piece(index: int | None, arguments: str, **more: Any) -> dict[str, Any]:
    piece: dict[str, Any] = {"function": {"arguments": arguments}, **more}
    if "name" in more:
        piece["function"]["name"] = piece.pop("name")
    return piece if index is None else piece | {"index": index}


def test_tool_calls_come_whole_with_objects_for_arguments() -> None:
    parts = [
        chat_chunk({"tool_calls": [call_piece(0, '{"z": 1,', id="call_x", name="f")]}),
        chat_chunk({"tool_calls": [call_piece(1, "", name="g")]}),
        chat_chunk({"tool_calls": [call_piece(0, ' "a": "é"}')]}),
        chat_chunk({}, "tool_calls"),
        DONE,
    ]
    chunks = translated(parts)
    first, second = chunks[0]["message"]["tool_calls"]
    assert first["id"] == "call_x"
    assert list(first["function"]["arguments"].items()) == [("z", 1), ("a", "é")]
    assert first["function"]["index"] == 0
    assert "type" not in first
    assert second["function"] == {"index": 1, "name": "g", "arguments": {}}
    assert second["id"].startswith("call_")
    assert len(second["id"]) == len("call_") + 8
    assert translated(parts)[0]["message"]["tool_calls"][1]["id"] == second["id"]
    assert [chunk["done"] for chunk in chunks] == [False, True]
    assert chunks[-1]["done_reason"] == "stop"


def test_tool_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    parts = [
        chat_chunk({"tool_calls": [call_piece(None, "{}", id="a", name="f")]}),
        chat_chunk({"tool_calls": [call_piece(None, "{", id="b", name="g")]}),
        chat_chunk({"tool_calls": [call_piece(None, "}")]}),
        chat_chunk({}, "tool_calls"),
    ]
    calls = translated(parts)[0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["f", "g"]


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", "7"])
def test_arguments_that_are_no_object_are_an_error(arguments: str) -> None:
    stream = opened()
    piece = call_piece(0, arguments, name="f")
    stream.feed(chat_chunk({"tool_calls": [piece]}) + chat_chunk({}, "stop"), AT)
    assert stream.feed(DONE, AT) == []
    assert "arguments that are no JSON object" in str(stream.failure)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "stop"), ("other", "stop")],
)
def test_done_reasons(finish: str, reason: str) -> None:
    assert translated([chat_chunk({}, finish), DONE])[-1]["done_reason"] == reason


def test_without_timings_durations_are_as_seen_from_here() -> None:
    stream = opened()
    stream.feed(chat_chunk({"role": "assistant", "content": ""}), Moment(WHEN, 10))
    stream.feed(chat_chunk({"content": "a"}), Moment(WHEN, 100))
    stream.feed(chat_chunk({"content": "b"}), Moment(WHEN, 250))
    stream.feed(chat_chunk({}, "stop"), Moment(WHEN, 300))
    counted = stream.feed(usage_chunk(7, 2) + DONE, Moment(WHEN, 400))[-1]
    assert {key: counted[key] for key in counted if "_" in key} == {
        "created_at": WHEN,
        "done_reason": "stop",
        "total_duration": 400,
        "load_duration": 1,
        "prompt_eval_count": 7,
        "prompt_eval_duration": 100,
        "eval_count": 2,
        "eval_duration": 150,
    }


def test_a_server_that_counts_nothing_leaves_the_count_to_us() -> None:
    last = translated([*chat_says("a", "b", "c")[:4], chat_chunk({}, "stop")])[-1]
    assert last["eval_count"] == 3
    assert "prompt_eval_count" not in last


LOGPROBS = {
    "content": [
        {
            "id": 5,
            "token": "é",
            "bytes": [195, 169],
            "logprob": -0.5,
            "top_logprobs": [{"id": 6, "token": "e", "bytes": None, "logprob": -1.5}],
        }
    ]
}


@pytest.mark.parametrize("alternatives", [True, False])
def test_logprobs_are_beside_the_token(alternatives: bool) -> None:
    choice = {"index": 0, "delta": {"content": "é"}, "logprobs": LOGPROBS}
    parts = [event({"choices": [choice]}), chat_chunk({}, "stop")]
    found = translated(parts, alternatives=alternatives)[0]["logprobs"]
    wanted: dict[str, Any] = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    if alternatives:
        wanted["top_logprobs"] = [{"token": "e", "logprob": -1.5, "bytes": [101]}]
    assert found == [wanted]


def test_logprobs_of_the_older_api() -> None:
    old = {"tokens": ["a", "é"], "token_logprobs": [None, -0.25], "text_offset": [0, 1]}
    choice = {"index": 0, "text": "aé", "logprobs": old}
    parts = [event({"choices": [choice]}), text_chunk("", "stop")]
    assert translated(parts, "/api/generate")[0]["logprobs"] == [
        {"token": "a", "logprob": 0.0, "bytes": [97]},
        {"token": "é", "logprob": -0.25, "bytes": [195, 169]},
    ]


@pytest.mark.parametrize("count", range(4))
def test_a_stream_that_stops_before_its_end_is_never_done(count: int) -> None:
    parts = chat_says("a", "b")[:count]
    stream = opened()
    chunks = [chunk for part in parts for chunk in stream.feed(part, AT)]
    chunks += stream.end(AT)
    assert "broke off" in str(stream.failure)
    assert not any(chunk["done"] for chunk in chunks)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_stream_that_said_why_it_stopped_is_done(missing: int) -> None:
    """Not every server sends its usage, or [DONE]."""
    parts = [*chat_says("a"), b""][:-missing]
    assert translated(parts)[-1]["done"] is True


def test_done_without_a_reason_is_done() -> None:
    assert translated([chat_chunk({"content": "a"}), DONE])[-1]["done_reason"] == "stop"


@pytest.mark.parametrize(
    ("bad", "says", "status"),
    [
        (event({"error": {"code": 503, "message": "too busy"}}), "too busy", 503),
        (event({"error": "no memory"}), "no memory", 500),
        (event({"error": {"code": "x", "message": "odd"}}), "odd", 500),
        (b"data: {torn\n\n", "not JSON", 502),
        (b"data: 7\n\n", "no object", 502),
    ],
)
def test_an_error_in_the_stream_ends_it(bad: bytes, says: str, status: int) -> None:
    stream = opened()
    chunks = stream.feed(chat_chunk({"content": "a"}) + bad + DONE, AT)
    chunks += stream.end(AT)
    assert [chunk["message"]["content"] for chunk in chunks] == ["a"]
    assert stream.failure is not None
    assert says in str(stream.failure)
    assert stream.failure.status == status


def test_what_follows_done_is_not_read() -> None:
    assert len(translated([*chat_says("a"), b"data: {torn\n\n"])) == 2


def test_the_whole_is_the_sum_of_the_chunks() -> None:
    whole = gather(translated([EVERYTHING]))
    assert whole["message"] == {
        "role": "assistant",
        "content": "día 🙂\r\n\n",
        "thinking": "hm 🤔",
        "tool_calls": [
            {"id": "c", "function": {"index": 0, "name": "f", "arguments": {}}}
        ],
    }
    assert whole["done"] is True
    assert (whole["prompt_eval_count"], whole["eval_count"]) == (5, 6)


def test_the_whole_of_a_generate_joins_logprobs_too() -> None:
    choice = {"index": 0, "text": "é", "logprobs": LOGPROBS}
    parts = [event({"choices": [choice]})] * 2 + [text_chunk("", "stop")]
    whole = gather(translated(parts, "/api/generate"))
    assert whole["response"] == "éé"
    assert [item["token"] for item in whole["logprobs"]] == ["é", "é"]
    assert "message" not in whole


def test_loading_answers_with_nothing_said() -> None:
    assert json.dumps(loaded("/api/chat", "Tiny", WHEN, "load")) == (
        f'{{"model": "Tiny", "created_at": "{WHEN}", "message": {{"role": "assistant", '
        '"content": ""}, "done": true, "done_reason": "load"}'
    )
    assert loaded("/api/generate", "Tiny", WHEN, "unload") == {
        "model": "Tiny",
        "created_at": WHEN,
        "response": "",
        "done": True,
        "done_reason": "unload",
    }
