"""A program that asks a gateway to count, and judges the answer as programs do."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.fakes.counting import MODEL, Plan, text_of

OLLAMA = "/api/chat"
OPENAI = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}


@dataclass
class Outcome:
    """How it went: `numbers` as they came; `error` in the API's own form."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    is_whole: bool = False
    error: str | None = None
    is_cut: bool = False  # the connection broke: no program takes that for the end
    _said: Any = field(default_factory=hashlib.sha256)  # of the text, as it came

    @property
    def is_in_order(self) -> bool:
        return self.numbers == list(range(len(self.numbers)))

    def is_all_of(self, plan: Plan) -> bool:
        if not self.is_whole or self.numbers != list(range(plan.lines)):
            return False
        expected = hashlib.sha256()
        for number in range(plan.lines):
            expected.update(text_of(plan, number).encode())
        return bool(self._said.digest() == expected.digest())

    @property
    def is_failure_that_shows(self) -> bool:
        """Not whole, says so, and has nothing twice or out of order."""
        is_said = self.error is not None or self.is_cut
        return is_said and not self.is_whole and self.is_in_order


async def ask(
    url: str,
    plan: Plan,
    api: str = OLLAMA,
    *,
    stream: bool = True,
    more: str = "",
    model: str = MODEL,
    on_number: Callable[[int], None] = lambda number: None,
    connector: aiohttp.BaseConnector | None = None,
) -> Outcome:
    """Asks, and reads to the end, whatever the end is. `more` is a second message."""
    outcome = Outcome()
    messages = [{"role": "user", "content": plan.prompt}]
    if more:
        messages.append({"role": "user", "content": more})
    body = {"model": model, "messages": messages, "stream": stream}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            data = io.BytesIO(json.dumps(body, ensure_ascii=False).encode())
            async with session.post(url + api, data=data, headers=JSON) as response:
                outcome.status = response.status
                outcome.headers = dict(response.headers)
                if response.status != 200:
                    outcome.error = _error(await response.json(), api)
                elif not stream:
                    _take(outcome, await response.json(), api, on_number)
                else:
                    held = b""
                    async for chunk in response.content.iter_any():
                        *lines, held = (held + chunk).split(b"\n")
                        for line in lines:
                            _take_line(outcome, line, api, on_number)
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
            outcome.is_cut = True
    return outcome


def _take_line(
    outcome: Outcome, line: bytes, api: str, on: Callable[[int], None]
) -> None:
    data = line.removeprefix(b"data: ")
    if not data:
        return
    if data == b"[DONE]":
        outcome.is_whole = outcome.error is None
        return
    _take(outcome, json.loads(data), api, on)


def _take(
    outcome: Outcome, said: dict[str, Any], api: str, on: Callable[[int], None]
) -> None:
    if "error" in said:
        outcome.error = _error(said, api)
        return
    if api == OPENAI:
        text = said["choices"][0]["delta"]["content"]
    else:
        text = said["message"]["content"]
        outcome.is_whole = said["done"]
    outcome._said.update(text.encode())
    for word in text.replace("ä", "").split():
        outcome.numbers.append(int(word))
        on(outcome.numbers[-1])


def _error(said: dict[str, Any], api: str) -> str:
    """Of the API that was asked, and no other: a sentence, or an object with one."""
    error = said["error"]
    text = error["message"] if api == OPENAI else error
    assert isinstance(text, str), said
    return text
