"""A conversation: what is sent, what is kept, and how answers go wrong."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from meshllm.conversation import LINE_BYTES, Conversation, Piece, pick_model
from meshllm.errors import BackendError, MeshError, PeerUnreachable
from meshllm.routing.seam import Listed
from tests.fakes.memory_mesh import ANN, LLAMA, QWEN, MemoryAnswer, MemoryMesh

NDJSON = "application/x-ndjson"


def line(text: str = "", *, thinking: str = "", **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    return json.dumps({"message": message, "done": False} | more).encode() + b"\n"


END = line(done=True, eval_count=2)


def answer(
    *steps: bytes | asyncio.Event | Exception, status: int = 200
) -> MemoryAnswer:
    return MemoryAnswer(NDJSON, list(steps), status)


@pytest.fixture
def mesh() -> MemoryMesh:
    return MemoryMesh(LLAMA, QWEN)


async def said(talk: Conversation, prompt: str) -> list[Piece]:
    return [piece async for piece in talk.ask(prompt)]


def sent(mesh: MemoryMesh) -> list[str]:
    """The contents of the messages of the last question."""
    messages = json.loads(mesh.asked[-1].body)["messages"]
    return [message["content"] for message in messages]


async def test_an_answer_comes_in_pieces_and_as_a_whole(mesh: MemoryMesh) -> None:
    reply = answer(line("Hel"), line("lo"), END)
    mesh.replies = [reply]
    talk = Conversation(mesh, "llama3.2:1b")
    assert await said(talk, "hi") == [Piece("Hel"), Piece("lo")]
    assert talk.reply is not None
    assert (talk.reply.text, talk.reply.model) == ("Hello", "llama3.2:1b")
    assert (talk.reply.provider, talk.reply.path) == (ANN.id, "host")
    assert (talk.reply.tokens, talk.reply.ttft_ms >= 0) == (2, True)
    assert reply.closed.is_set()


async def test_records_may_be_cut_anywhere(mesh: MemoryMesh) -> None:
    whole = line("Hel") + line("lö") + END.rstrip()
    mesh.replies = [answer(*(whole[at : at + 1] for at in range(len(whole))))]
    talk = Conversation(mesh, "llama3.2:1b")
    assert await said(talk, "hi") == [Piece("Hel"), Piece("lö")]


async def test_thoughts_are_told_apart_and_are_not_the_answer(mesh: MemoryMesh) -> None:
    mesh.replies = [answer(line(thinking="hm"), line("yes"), END), answer(END)]
    talk = Conversation(mesh, "llama3.2:1b")
    assert await said(talk, "hi") == [Piece("hm", is_thought=True), Piece("yes")]
    assert talk.reply is not None
    assert talk.reply.text == "yes"
    await said(talk, "again")
    assert sent(mesh) == ["hi", "yes", "again"]


async def test_a_pin_goes_to_the_mesh_and_not_to_the_provider(mesh: MemoryMesh) -> None:
    mesh.replies = [answer(line("x"), END)]
    await said(Conversation(mesh, "llama3.2:1b@bob"), "hi")
    [asked] = mesh.asked
    assert (asked.model, asked.provider) == ("llama3.2:1b", "bob")
    assert json.loads(asked.body)["model"] == "llama3.2:1b"


def test_the_model_is_changed_only_to_one_that_is_there(mesh: MemoryMesh) -> None:
    talk = Conversation(mesh, "llama3.2:1b")
    for name in ("hf.co/org/qwen", "llama3.2:1b@ann", "llama3.2:1b"):
        talk.change_model(name)
        assert talk.model == name
    for name in ("nope", "llama3.2:1b@nobody", "hf.co/org/qwen@ann"):
        with pytest.raises(MeshError) as refused:
            talk.change_model(name)
        assert talk.model == "llama3.2:1b"
        assert str(refused.value) == (
            f"No provider has {name}. In the mesh: hf.co/org/qwen:latest, llama3.2:1b."
        )
    mesh.listed.clear()
    with pytest.raises(MeshError, match="In the mesh: no model now"):
        talk.change_model("llama3.2:1b")


async def test_clear_forgets(mesh: MemoryMesh) -> None:
    mesh.replies = [answer(line("x"), END), answer(line("y"), END)]
    talk = Conversation(mesh, "llama3.2:1b")
    await said(talk, "one")
    talk.clear()
    await said(talk, "two")
    assert sent(mesh) == ["two"]


async def test_an_answer_that_is_stopped_stays_as_far_as_it_got(
    mesh: MemoryMesh,
) -> None:
    stopped = answer(line("half"), asyncio.Event())
    mesh.replies = [stopped, answer(line("x"), END)]
    talk = Conversation(mesh, "llama3.2:1b")
    async with aclosing(talk.ask("one")) as pieces:
        assert await anext(pieces) == Piece("half")
    assert stopped.closed.is_set()
    await said(talk, "two")
    assert sent(mesh) == ["one", "half", "two"]


@pytest.mark.parametrize(
    "steps",
    [
        (line("half"),),
        (line("half"), b'{"broken'),
        (line("half"), b"[]\n"),
        (line("half"), PeerUnreachable("lost")),
        (line("half"), b'{"error":"out of memory"}\n'),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error_and_kept_so_far(
    mesh: MemoryMesh, steps: tuple[bytes, ...]
) -> None:
    mesh.replies = [answer(*steps), answer(line("x"), END)]
    talk = Conversation(mesh, "llama3.2:1b")
    with pytest.raises(MeshError):
        await said(talk, "one")
    await said(talk, "two")
    assert sent(mesh) == ["one", "half", "two"]


async def test_a_question_that_got_no_answer_is_forgotten(mesh: MemoryMesh) -> None:
    refused = answer(b'{"error":"model \'x\' not found"}', status=404)
    mesh.replies = [refused, answer(line("x"), END)]
    talk = Conversation(mesh, "llama3.2:1b")
    with pytest.raises(BackendError, match="model 'x' not found") as caught:
        await said(talk, "one")
    assert caught.value.status == 404
    assert refused.closed.is_set()
    await said(talk, "two")
    assert sent(mesh) == ["two"]


async def test_a_refusal_without_words_gives_its_status(mesh: MemoryMesh) -> None:
    mesh.replies = [answer(status=503)]
    with pytest.raises(BackendError, match="503"):
        await said(Conversation(mesh, "llama3.2:1b"), "one")


async def test_a_line_without_end_is_given_up(mesh: MemoryMesh) -> None:
    mesh.replies = [answer(*[b"x" * 65536] * (LINE_BYTES // 65536 + 1))]
    with pytest.raises(MeshError, match="no answer of a model"):
        await said(Conversation(mesh, "llama3.2:1b"), "one")


@pytest.mark.parametrize(
    "odd",
    [{"message": None}, {"message": {"content": 5}}, {"message": {"thinking": []}}, {}],
)
async def test_what_is_no_text_is_passed_over(
    mesh: MemoryMesh, odd: dict[str, Any]
) -> None:
    mesh.replies = [answer(json.dumps(odd).encode() + b"\n", line("x"), END)]
    assert await said(Conversation(mesh, "llama3.2:1b"), "one") == [Piece("x")]


def test_the_wanted_model_is_taken_even_when_unknown() -> None:
    assert pick_model([LLAMA], "other") == "other"


def test_without_a_wish_the_first_that_chats_is_taken() -> None:
    embedder = Listed(name="a-embedder", capabilities=("embedding",))
    assert pick_model([LLAMA, QWEN, embedder], None) == QWEN.name


def test_a_mesh_without_models_says_what_to_start() -> None:
    with pytest.raises(MeshError, match="`meshllm share`"):
        pick_model([], None)
