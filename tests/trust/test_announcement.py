"""A provider's announcement: signed by the node it names, every field in bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meshllm.errors import (
    LocalProtocolError,
    MeshError,
    RemoteProtocolError,
    TrustError,
)
from meshllm.trust import signed
from meshllm.trust.announcement import Announcement, ModelCard, chain, versions
from tests.fakes.people import NOW, id_of, key

MODEL = ModelCard(
    name="llama3.2:1b",
    digest="baf6a787fdff",
    size=1_321_098_329,
    modified_at="2026-11-01T10:00:00Z",
    details={"family": "llama", "families": ["llama"], "nested": {"rope": 0.5}},
    capabilities=("completion", "tools"),
    context_length=131_072,
)
ANNOUNCEMENT = Announcement(
    mesh=id_of("root"),
    id=id_of("ann"),
    conn=bytes(range(16)),
    box=bytes(range(32)),
    versions=(1, 1),
    backend="ollama",
    parallel=2,
    models=(MODEL,),
    chain=("statement",),
    ts=NOW,
)
TOKEN = ANNOUNCEMENT.sign(key("ann"))
BODY = signed.read_naming("announcement", TOKEN, "id")


def read(fields: dict[str, Any]) -> Announcement:
    return Announcement.read(signed.sign("announcement", fields, key("ann")))


def test_what_was_announced_is_read() -> None:
    assert Announcement.read(TOKEN) == ANNOUNCEMENT


def test_nobody_announces_for_another() -> None:
    with pytest.raises(TrustError, match="does not hold"):
        Announcement.read(ANNOUNCEMENT.sign(key("eve")))


def test_every_field_is_needed_and_no_other_is_taken() -> None:
    for name in BODY:
        with pytest.raises(MeshError):
            read({other: value for other, value in BODY.items() if other != name})
    with pytest.raises(RemoteProtocolError, match="unknown"):
        read(BODY | {"host": "x"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"mesh": "x"},
        {"conn": "AAAA"},
        {"box": "AAAA"},
        {"versions": [1]},
        {"versions": [2, 1]},
        {"versions": [0, 1]},
        {"versions": [1, 1_001]},
        {"versions": "11"},
        {"backend": ""},
        {"backend": "x" * 33},
        {"parallel": 0},
        {"parallel": 10_001},
        {"models": [1]},
        {"models": {}},
        {"chain": []},
        {"chain": ["a", "b", "c", "d"]},
        {"chain": [""]},
        {"chain": ["x" * 12_289]},
        {"chain": "statement"},
        {"ts": -1},
        {"ts": 1.0},
    ],
)
def test_no_field_is_out_of_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError, match=f"field {next(iter(wrong))}"):
        read(BODY | wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "m" * 257},
        {"name": "m\n"},
        {"digest": "d" * 129},
        {"size": -1},
        {"size": 1.5},
        {"modified_at": "x" * 65},
        {"details": []},
        {"details": {f"key {n}": n for n in range(33)}},
        {"capabilities": ["x"] * 17},
        {"capabilities": [""]},
        {"context_length": None},
        {"more": 1},
    ],
)
def test_no_field_of_a_model_is_out_of_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError, match="field models"):
        read(BODY | {"models": [MODEL.to_json() | wrong]})


def test_there_are_at_most_256_models() -> None:
    small = replace(MODEL, details={}, digest="", capabilities=(), modified_at="")

    def named(count: int) -> tuple[ModelCard, ...]:
        return tuple(replace(small, name=f"m{n}") for n in range(count))

    full = replace(ANNOUNCEMENT, models=named(256))

    assert Announcement.read(full.sign(key("ann"))) == full
    with pytest.raises(RemoteProtocolError, match="0 to 256"):
        Announcement.read(replace(full, models=named(257)).sign(key("ann")))


def test_what_does_not_fit_is_not_signed() -> None:
    large = replace(MODEL, details={"license": "x" * 40_000})

    with pytest.raises(LocalProtocolError, match="too large"):
        replace(ANNOUNCEMENT, models=(large,)).sign(key("ann"))


def test_versions_and_chains_are_tuples() -> None:
    assert versions([1, 3]) == (1, 3)
    assert chain(["a", "b"]) == ("a", "b")
