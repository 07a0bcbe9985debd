"""Lists of models in both APIs, from the Model alone."""

from __future__ import annotations

import pytest

from meshllm.dialects import Model, lists

OLD = Model("old:1b", "ab" * 32, 5, "2025-01-01T00:00:00.123456789Z")
NEW = Model(
    "new:latest",
    modified_at="2026-01-01T01:00:00+01:00",
    details={"family": "llama", "families": ["llama"], "embedding_length": 576},
    capabilities=("completion", "tools"),
    context_length=4096,
)


def test_tags_are_newest_first_and_every_field_is_there() -> None:
    found = lists.tags([OLD, NEW])["models"]
    assert [tag["name"] for tag in found] == ["new:latest", "old:1b"]
    assert found[1] == {
        "name": "old:1b",
        "model": "old:1b",
        "modified_at": "2025-01-01T00:00:00.123456789Z",
        "size": 5,
        "digest": "ab" * 32,
        "details": {
            "parent_model": "",
            "format": "",
            "family": "",
            "families": None,
            "parameter_size": "",
            "quantization_level": "",
        },
        "capabilities": ["completion"],
    }
    assert len(found[0]["digest"]) == 64  # programs show its first twelve
    assert lists.tags([]) == {"models": []}


def test_ps() -> None:
    (found,) = lists.ps([NEW], "2027-01-01T00:00:00Z")["models"]
    assert found["expires_at"] == "2027-01-01T00:00:00Z"
    assert found["context_length"] == 4096
    assert found["size_vram"] == 0


def test_show_always_has_model_info() -> None:
    found = lists.show(NEW)
    assert found["model_info"] == {
        "general.architecture": "llama",
        "llama.context_length": 4096,
        "llama.embedding_length": 576,
    }
    assert found["capabilities"] == ["completion", "tools"]
    assert lists.show(Model("bare"))["model_info"] == {
        "general.architecture": "unknown"
    }


def test_openais_list() -> None:
    assert lists.openai_models([OLD, NEW, Model("x")]) == {
        "object": "list",
        "data": [
            {
                "id": "old:1b",
                "object": "model",
                "created": 1735689600,
                "owned_by": "library",
            },
            {
                "id": "new:latest",
                "object": "model",
                "created": 1767225600,
                "owned_by": "library",
            },
            {"id": "x", "object": "model", "created": 0, "owned_by": "library"},
        ],
    }
    assert lists.openai_models([])["data"] == []  # never null


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("llama", "llama:latest", True),
        ("LLaMA:8B", "llama:8b", True),
        ("hf.co:443/a/b", "hf.co:443/a/b:latest", True),
        ("llama", "llama:8b", False),
        ("a/llama", "llama", False),
    ],
)
def test_names_that_mean_the_same(one: str, other: str, same: bool) -> None:
    assert lists.same_name(one, other) is same
