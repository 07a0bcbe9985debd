"""Which providers a question may go to, and what is said when none is left."""

from __future__ import annotations

import pytest

from meshllm.dialects import Model
from meshllm.routing.candidates import candidates
from meshllm.routing.roster import Provider
from meshllm.routing.seam import NoRoute
from meshllm.trust.admission import Admission
from meshllm.trust.announcement import Announcement
from meshllm.trust.grants import Caps, Role
from tests.fakes.people import id_of


def provider(name: str, *models: str) -> Provider:
    id = id_of(name)
    admission = Admission(id, id, name, Role.MEMBER, Caps(), None, None, id)
    card = Announcement(id, id, bytes(16), bytes(32), (1, 1), "scripted", 1, (), (), 1)
    return Provider(card, admission, tuple(Model(model) for model in models))


ANN = provider("ann", "tiny:1b", "llama3.2:latest")
BOB = provider("bob", "qwen:latest")
CAT = provider("cat", "qwen:latest")
OFF = provider("off")  # its model server is down: it announces none
MESH = [ANN, BOB, CAT, OFF]


def refusal(
    model: str | None,
    pin: str | None = None,
    providers: list[Provider] = MESH,
    known: str = "",
) -> tuple[int, str]:
    with pytest.raises(NoRoute) as refused:
        candidates(providers, model, pin, known.split().__contains__)
    error = refused.value
    assert (error.status == 503) == (error.retry_after_s is not None)
    return error.status, str(error)


def found(model: str | None, pin: str | None = None) -> list[str]:
    return [p.name for p in candidates(MESH, model, pin, lambda name: False)]


def test_all_that_have_the_model_may_answer() -> None:
    assert found("qwen") == ["bob", "cat"]
    assert found(None) == ["ann", "bob", "cat", "off"]


def test_a_pin_leaves_the_one_it_names() -> None:
    assert found("qwen", "Cat") == ["cat"]
    assert found("qwen", CAT.id[:20]) == ["cat"]
    assert found(None, "off") == ["off"]


def test_a_pin_to_one_that_lacks_the_model_names_those_that_have_it() -> None:
    status, text = refusal("qwen", "ann", known="qwen tiny:1b")
    assert status == 404
    assert text == "provider 'ann' does not have model 'qwen'; bob and cat have it"
    _, text = refusal("tiny:1b", "bob", known="tiny:1b")
    assert text == "provider 'bob' does not have model 'tiny:1b'; ann has it"


def test_of_many_that_have_it_some_are_named() -> None:
    many = [provider(f"p{n}", "qwen") for n in range(8)]
    _, text = refusal("qwen", "ann", [ANN, *many])
    assert text.endswith("p0, p1, p2, p3, p4 and 3 more have it")
    _, text = refusal("qwen", "ann", [ANN, *many[:5]])
    assert text.endswith("p0, p1, p2, p3 and p4 have it")


def test_a_pin_to_one_whose_model_server_is_off_may_be_tried_again() -> None:
    status, text = refusal("qwen", "off")
    assert status == 503
    assert text == "provider 'off' offers no model now; its model server may be off"


def test_a_pin_to_nobody_says_where_to_look() -> None:
    status, text = refusal("qwen", "zoe", known="qwen")
    assert (status, "no provider 'zoe'" in text) == (404, True)
    assert "`meshllm peers`" in text
    assert refusal("qwen", "zoe", [])[0] == 404


def test_a_model_that_was_here_is_away_and_one_never_seen_is_unknown() -> None:
    assert refusal("old", known="old")[0] == 503
    assert refusal("old", "ann", known="old")[0] == 503
    status, text = refusal("never")
    assert (status, text.startswith("model 'never' not found")) == (404, True)
    assert refusal("never", "ann")[0] == 404


def test_in_an_empty_mesh_it_says_what_to_start() -> None:
    for model in ("qwen", None):
        status, text = refusal(model, providers=[], known="qwen")
        assert (status, "`meshllm share`" in text) == (503, True)
