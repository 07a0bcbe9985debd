"""A conversation with a model of the mesh: prompts in, pieces of answers out."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol

from meshllm.errors import BackendError, MeshError
from meshllm.gateway.pins import find, split_pin
from meshllm.routing.seam import Answer, Ask, Listed

LINE_BYTES: Final = 1 << 20  # a piece of an answer is some bytes; this is an attack
BROKEN_OFF: Final = "The answer broke off before its end."


class Asked(Protocol):
    """Whom a conversation asks: the mesh itself, or a gateway of it."""

    def models(self) -> list[Listed]: ...
    async def ask(self, ask: Ask) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """`is_thought`: the model thinks aloud, this is not the answer yet."""

    text: str
    is_thought: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `tokens` as the model server counted them, if it did."""

    text: str
    model: str
    provider: str
    path: str
    ttft_ms: float
    tokens: int | None


def pick_model(models: Sequence[Listed], wanted: str | None) -> str:
    """`wanted`, or the first that can chat. MeshError when the mesh has none."""
    if wanted:
        return wanted
    for model in sorted(models, key=lambda model: model.name):
        if "completion" in model.capabilities:
            return model.name
    raise MeshError(
        "No model is in the mesh now. On the machine that has some: `meshllm share`."
    )


class Conversation:
    """Keeps what was said, for as long as it lives, also when its model changes.

    `options` are Ollama's, the model's own where they are silent.
    """

    def __init__(
        self, mesh: Asked, model: str, options: Mapping[str, Any] | None = None
    ) -> None:
        self.model = model
        self._options = dict(options or {})
        self.reply: Reply | None = None
        self.place: int | None = None  # in the provider's line, while we wait
        self._mesh = mesh
        self._messages: list[dict[str, str]] = []

    def change_model(self, name: str) -> None:
        """MeshError, and all stays as it was, when no provider has that model."""
        models = self._mesh.models()
        if find(name, models) is None:
            there = ", ".join(sorted(model.name for model in models))
            raise MeshError(
                f"No provider has {name}. In the mesh: {there or 'no model now'}."
            )
        self.model = name

    def clear(self) -> None:
        self._messages.clear()

    def _on_queue(self, place: int) -> None:
        self.place = place

    async def ask(self, prompt: str) -> AsyncGenerator[Piece, None]:
        """The answer as it comes; `reply` is the whole of it afterwards.

        An answer that is stopped half way stays in the conversation, as far as it got;
        a question that got none does not. Raises MeshError.
        """
        self.place = None
        question = {"role": "user", "content": prompt}
        text, began, first = "", time.monotonic(), 0.0
        answer, model = await self._send([*self._messages, question])
        last: dict[str, Any] = {}
        try:
            async with aclosing(_lines(answer)) as lines:
                async for last in lines:
                    first = first or time.monotonic()
                    for piece in _pieces(last):
                        text += "" if piece.is_thought else piece.text
                        yield piece
        finally:
            await answer.aclose()
            if text:
                reply = {"role": "assistant", "content": text}
                self._messages += [question, reply]
        if not last.get("done"):
            raise MeshError(BROKEN_OFF)
        self.reply = Reply(
            text=text,
            model=model,
            provider=answer.provider,
            path=answer.path,
            ttft_ms=round((first - began) * 1000, 1),
            tokens=_count(last.get("eval_count")),
        )

    async def _send(self, messages: list[dict[str, str]]) -> tuple[Answer, str]:
        """The answer, its head known to be good, and the model without its pin."""
        model, pin = split_pin(self.model, self._mesh.models())
        body = {
            "model": model,
            "messages": messages,
            "stream": True,
            "options": self._options,
        }
        answer = await self._mesh.ask(
            Ask(
                request_id=secrets.token_hex(16),
                method="POST",
                path="/api/chat",
                model=model,
                provider=pin,
                content_type="application/json",
                body=json.dumps(body, ensure_ascii=False).encode(),
                on_queue=self._on_queue,
            )
        )
        if answer.status == 200:
            return answer, model
        async with aclosing(answer):
            refusal = [line async for line in _lines(answer)]
        why = refusal[0].get("error") if refusal else None
        raise BackendError(str(why or f"status {answer.status}"), answer.status)


async def _lines(answer: Answer) -> AsyncGenerator[dict[str, Any], None]:
    """The objects of an NDJSON body, or of a body that is one object."""
    held = b""
    async for chunk in answer:
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield _object(line)
        if len(held) > LINE_BYTES:
            raise MeshError("The provider's answer is no answer of a model.")
    if held.strip():
        yield _object(held)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as exc:
        raise MeshError(BROKEN_OFF) from exc
    if not isinstance(found, dict):
        raise MeshError("The provider's answer is no answer of a model.")
    return found


def _pieces(line: dict[str, Any]) -> list[Piece]:
    if "error" in line:
        raise MeshError(str(line["error"]))
    message = line.get("message")
    if not isinstance(message, dict):
        return []
    thought, text = message.get("thinking"), message.get("content")
    pieces = []
    if isinstance(thought, str) and thought:
        pieces.append(Piece(thought, is_thought=True))
    if isinstance(text, str) and text:
        pieces.append(Piece(text))
    return pieces


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
