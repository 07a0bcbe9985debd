"""Which messages go when a conversation outgrows the context."""

from __future__ import annotations

from typing import Any

import pytest

from meshllm.dialects.truncate import overflow, shortened
from meshllm.errors import BackendError


def said(role: str, name: str, length: int = 100) -> dict[str, Any]:
    return {"role": role, "content": name.ljust(length, ".")}


def names(messages: list[dict[str, Any]] | None) -> str:
    return "".join(message["content"][0] for message in messages or ())


TALK = [said("system", "s"), *(said("user", name) for name in "abcdefgh")]


@pytest.mark.parametrize(
    ("tokens", "left"),
    [
        (850, "sdefgh"),  # 850 into 3/4 of 800: three of nine must go
        (1700, "sgh"),
        (90_000, "sh"),  # what was said last stays, and the rules
    ],
)
def test_the_oldest_go_first(tokens: int, left: str) -> None:
    assert names(shortened(TALK, tokens, 800)) == left


def test_with_one_message_nothing_can_go() -> None:
    assert shortened([said("system", "s"), said("user", "a")], 9000, 100) is None
    assert shortened([], 9000, 100) is None


def test_a_result_goes_with_its_call() -> None:
    talk = [
        said("user", "a"),
        said("assistant", "b"),
        said("tool", "c"),
        said("tool", "d"),
        said("assistant", "e"),
        said("user", "f"),
    ]
    assert names(shortened(talk, 600, 600)) == "ef"


@pytest.mark.parametrize("tokens", range(801, 5000, 97))
def test_each_try_leaves_less(tokens: int) -> None:
    """So that asking again comes to an end."""
    talk: list[dict[str, Any]] | None = TALK
    tries = 0
    while talk is not None:
        before, talk, tries = len(talk), shortened(talk, tokens, 800), tries + 1
        assert talk is None or len(talk) < before
    assert tries <= len(TALK)


def test_the_error_tells_by_how_much() -> None:
    text = "request (5031 tokens) exceeds the available context size (2048 tokens), try"
    assert overflow(BackendError(text, 400)) == (5031, 2048)
    assert overflow(BackendError("out of memory")) is None
