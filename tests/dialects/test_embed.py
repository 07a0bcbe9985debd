"""Ollama's embedding calls over OpenAI's."""

from __future__ import annotations

import math
from typing import Any

import pytest

from meshllm.dialects import BadRequest
from meshllm.dialects.embed import (
    embeddings_answer,
    nothing_embedded,
    texts_of,
    truncation,
)
from meshllm.errors import BackendError

EMBED, OLD = "/api/embed", "/api/embeddings"
ANSWER = {
    "data": [
        {"index": 1, "embedding": [0.0, 2.0, 0.0]},
        {"index": 0, "embedding": [3.0, 4.0, 12.0]},
    ],
    "usage": {"prompt_tokens": 9},
}


@pytest.mark.parametrize(
    ("given", "texts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ("", []), (None, []), ([], [])],
)
def test_what_is_to_be_embedded(given: Any, texts: list[str]) -> None:
    assert texts_of(EMBED, {"input": given}) == texts


@pytest.mark.parametrize("given", [7, [7], {"a": 1}, [["a"]]])
def test_other_inputs_are_refused(given: Any) -> None:
    with pytest.raises(BadRequest, match=r"^invalid input type$"):
        texts_of(EMBED, {"input": given})


def test_vectors_come_in_order_and_with_length_one() -> None:
    found = embeddings_answer(EMBED, {}, "m", ANSWER, 77)
    assert found["embeddings"] == [[3 / 13, 4 / 13, 12 / 13], [0.0, 1.0, 0.0]]
    assert found["model"] == "m"
    assert found["prompt_eval_count"] == 9
    assert found["total_duration"] == 77


def test_fewer_dimensions_are_normalised_again() -> None:
    found = embeddings_answer(EMBED, {"dimensions": 2}, "m", ANSWER, 1)
    assert found["embeddings"] == [[0.6, 0.8], [0.0, 1.0]]
    assert math.hypot(*found["embeddings"][0]) == pytest.approx(1)


def test_the_old_call_gives_one_vector_as_it_is() -> None:
    assert texts_of(OLD, {"prompt": "a"}) == ["a"]
    answer = {"data": [{"embedding": [3.0, 4.0]}]}
    assert embeddings_answer(OLD, {}, "m", answer, 1) == {"embedding": [3.0, 4.0]}


def test_nothing_to_embed() -> None:
    assert nothing_embedded(EMBED, "m") == {"model": "m", "embeddings": []}
    assert nothing_embedded(OLD, "m") == {"embedding": []}


@pytest.mark.parametrize(
    "answer", [{}, [], {"data": [{}]}, {"data": [{"embedding": 1}]}]
)
def test_an_answer_without_vectors(answer: Any) -> None:
    with pytest.raises(BackendError, match="no embeddings"):
        embeddings_answer(EMBED, {}, "m", answer, 1)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("input (301 tokens) is too large to process. (current batch size: 256)", 256),
        ("request (5 tokens) exceeds the available context size (4 tokens), try", 4),
        ("out of memory", None),
    ],
)
def test_a_text_that_is_too_long_is_cut_unless_that_is_unwanted(
    text: str, limit: int | None
) -> None:
    error = BackendError(text, 500)
    assert truncation({}, error) == limit
    if limit is not None:
        with pytest.raises(BadRequest, match="input length exceeds the context"):
            truncation({"truncate": False}, error)
