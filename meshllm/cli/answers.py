"""An answer on stdout as it comes, or as one object when it is whole."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from meshllm.cli.common import Common
from meshllm.cli.running import shown

if TYPE_CHECKING:
    from meshllm.conversation import Conversation

# A model's words may hold escape sequences, which a terminal would obey.
HIDDEN: Final = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))


def check_prompt(prompt: str) -> str:
    """UsageError when it asks nothing, or is no text that could be sent."""
    if not prompt.strip():
        raise click.UsageError("The prompt is empty: say what to ask, in quotes.")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError("The prompt is not UTF-8 text.") from error
    return prompt


def read_stdin() -> str:
    """The prompt that is piped in. UsageError as `check_prompt`."""
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise click.UsageError("What came on stdin is not UTF-8 text.") from error
    if not text.strip():
        raise click.UsageError(
            "Nothing came on stdin to ask. Pipe a question in: "
            "`echo 'Why is the sky blue?' | meshllm chat MODEL -`"
        )
    return check_prompt(text)


async def show_answer(common: Common, talk: Conversation, prompt: str) -> None:
    """Asks, and prints the answer. Raises MeshError."""
    waiting = contextlib.AsyncExitStack()
    async with waiting, contextlib.aclosing(talk.ask(prompt)) as pieces:
        await waiting.enter_async_context(shown(lambda: _waiting(talk)))
        async for piece in pieces:
            await waiting.aclose()
            if not common.json:
                _show(piece.text, is_thought=piece.is_thought)
    reply = talk.reply
    assert reply is not None
    common.tell("", asdict(reply))


def _waiting(talk: Conversation) -> str:
    if talk.place is None:
        return f"Waiting for {talk.model} …"
    return f"Waiting for {talk.model}, number {talk.place} in line …"


def _show(text: str, *, is_thought: bool) -> None:
    """A thought only where somebody watches: it is not the answer."""
    if sys.stdout.isatty():
        text = text.translate(HIDDEN)
        click.echo(click.style(text, dim=True) if is_thought else text, nl=False)
    elif not is_thought:
        click.echo(text, nl=False)
    sys.stdout.flush()
