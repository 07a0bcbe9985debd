"""Streams collected into what the server would have said at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.dialects.collect import Collector, streamed
from meshllm.errors import BackendError
from tests.fakes.scripted_openai import (
    DONE,
    chat_chunk,
    chat_says,
    event,
    text_chunk,
    usage_chunk,
)

CHAT = "/v1/chat/completions"


def collected(parts: list[bytes], path: str = CHAT) -> dict[str, Any]:
    collector = Collector(path)
    for part in parts:
        collector.feed(part)
    return collector.result()


def test_a_chat() -> None:
    assert collected(chat_says("Hé", "llo")) == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "tiny",
        "system_fingerprint": "b1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Héllo"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }


def test_a_completion() -> None:
    parts = [text_chunk("a"), text_chunk("b"), text_chunk("", "length"), DONE]
    whole = collected(parts, "/v1/completions")
    assert whole["object"] == "text_completion"
    assert whole["choices"] == [
        {"index": 0, "text": "ab", "logprobs": None, "finish_reason": "length"}
    ]


DATA = b"".join(chat_says("Hé", "llo 🙂", " x"))


@given(st.lists(st.integers(0, len(DATA)), max_size=10))
def test_any_split_of_the_bytes_gives_the_same_whole(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(DATA)]
    parts = [DATA[a:b] for a, b in pairwise(edges)]
    assert collected(parts) == collected([DATA])


def test_tool_calls_thoughts_and_fields_nobody_knows() -> None:
    piece = {"index": 0, "id": "c", "type": "function"}
    parts = [
        chat_chunk({"role": "assistant", "content": None}),
        chat_chunk({"reasoning": "h"}),
        chat_chunk({"reasoning": "m"}),
        chat_chunk(
            {"tool_calls": [piece | {"function": {"name": "f", "arguments": '{"a'}}]}
        ),
        chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '":1}'}}]}),
        chat_chunk({}, "tool_calls", service_tier="free"),
        usage_chunk(1, 2, timings={"prompt_ms": 5}),
        DONE,
    ]
    whole = collected(parts)
    assert whole["choices"][0] == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None,
            "reasoning": "hm",
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a":1}'},
                }
            ],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }
    assert whole["service_tier"] == "free"
    assert whole["timings"] == {"prompt_ms": 5}


def test_several_choices_are_kept_apart() -> None:
    def piece(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": {"content": text}, "finish_reason": finish}

    parts = [
        event({"choices": [piece(1, "x"), piece(0, "a")]}),
        event({"choices": [piece(0, "b", "stop")]}),
        event({"choices": [piece(1, "y", "length")]}),
        DONE,
    ]
    choices = collected(parts)["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["ab", "xy"]
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]


def test_logprobs_are_joined() -> None:
    def piece(token: str) -> dict[str, Any]:
        logprobs = {"content": [{"token": token, "logprob": -1}], "refusal": None}
        return {"index": 0, "delta": {"content": token}, "logprobs": logprobs}

    parts = [
        event({"choices": [piece("a")]}),
        event({"choices": [piece("b")]}),
        chat_chunk({}, "stop"),
    ]
    logprobs = collected(parts)["choices"][0]["logprobs"]
    assert [item["token"] for item in logprobs["content"]] == ["a", "b"]
    assert logprobs["refusal"] is None


def test_reports_on_the_prompt_leave_no_trace() -> None:
    report = chat_chunk({"role": "assistant"}, prompt_progress={"total": 3})
    assert "prompt_progress" not in collected([report, *chat_says("a")])


def test_a_response_is_the_one_that_its_last_event_holds() -> None:
    whole = {"id": "resp_1", "object": "response", "status": "completed"}
    parts = [
        b"event: response.created\n" + event({"type": "response.created"}),
        b"event: response.completed\n"
        + event({"type": "response.completed", "response": whole}),
    ]
    assert collected(parts, "/v1/responses") == whole
    with pytest.raises(BackendError, match="broke off"):
        collected(parts[:1], "/v1/responses")


def test_a_response_that_failed_is_an_error() -> None:
    failed = {"type": "response.failed", "response": {"error": {"message": "no GPU"}}}
    with pytest.raises(BackendError, match="no GPU"):
        collected([event(failed)], "/v1/responses")


@pytest.mark.parametrize("count", range(4))
def test_half_an_answer_is_none(count: int) -> None:
    with pytest.raises(BackendError, match="broke off"):
        collected(chat_says("a", "b")[:count])


def test_an_error_in_the_stream_is_raised_with_its_status() -> None:
    with pytest.raises(BackendError, match="busy") as caught:
        collected([event({"error": {"code": 503, "message": "busy"}})])
    assert caught.value.status == 503


def test_what_is_asked_of_the_server_streams_with_usage() -> None:
    asked = streamed(CHAT, {"model": "m", "stream_options": {"x": 1}})
    assert asked == {
        "model": "m",
        "stream": True,
        "stream_options": {"x": 1, "include_usage": True},
    }
    assert streamed("/v1/responses", {"input": "x"}) == {"input": "x", "stream": True}
