from __future__ import annotations

import pytest

from meshllm.gateway.pins import find, split_pin
from meshllm.routing.seam import Listed
from tests.fakes.memory_mesh import ANN, BOB

MODELS = [
    Listed(name="llama3.2:1b", providers=(ANN, BOB)),
    Listed(name="qwen:latest", providers=(BOB,)),
    Listed(name="chat@2.0", providers=(ANN,)),
]


@pytest.mark.parametrize(
    ("name", "model", "pin"),
    [
        ("llama3.2:1b", "llama3.2:1b", None),
        ("llama3.2:1b@bob", "llama3.2:1b", "bob"),
        ("qwen@bob", "qwen", "bob"),
        ("QWEN:latest@bob", "QWEN:latest", "bob"),
        ("qwen@bob@example.org", "qwen", "bob@example.org"),
        ("chat@2.0", "chat@2.0", None),
        ("chat@2.0@ann", "chat@2.0", "ann"),
        ("chat@2.0@ann@example.org", "chat@2.0", "ann@example.org"),
        ("qwen@", "qwen", None),
        ("unknown@2.0@bob", "unknown@2.0", "bob"),
        ("@bob", "@bob", None),
        ("unknown@", "unknown@", None),
    ],
)
def test_a_name_is_split_where_it_leaves_a_known_model(
    name: str, model: str, pin: str | None
) -> None:
    assert split_pin(name, MODELS) == (model, pin)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("LLAMA3.2:1b", "llama3.2:1b"),
        ("qwen", "qwen:latest"),
        ("qwen@Bob", "qwen:latest"),
        ("qwen@bobbbb", "qwen:latest"),
        ("qwen@BOBBBB", "qwen:latest"),
        ("qwen@ann", None),
        ("llama3.2", None),
        ("chat@2.0", "chat@2.0"),
    ],
)
def test_a_model_is_found_by_name_and_pin(name: str, found: str | None) -> None:
    model = find(name, MODELS)
    assert (model and model.name) == found
