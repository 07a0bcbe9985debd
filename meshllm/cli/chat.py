"""`meshllm chat`: a conversation in the terminal, or one answer for a script."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import click

from meshllm.cli.answers import check_prompt, read_stdin, show_answer
from meshllm.cli.common import Common, command, pass_common
from meshllm.cli.lan import lan_options, read_lan
from meshllm.cli.running import open_node, run
from meshllm.errors import MeshError

PROMPT = ">>> "
COMMANDS = """\
/model NAME   talk to another model; NAME@PROVIDER pins a provider
/clear        forget what was said
/help         this
/quit         leave (or Ctrl-D)
Ctrl-C stops an answer."""


def _models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell: what a running process of this home knows."""
    from meshllm.cli.look import known_models

    home = ctx.ensure_object(Common).home
    return [name for name in known_models(home) if name.startswith(incomplete)]


@command("chat")
@click.argument("model", required=False, shell_complete=_models)
@click.argument("prompt", required=False)
@lan_options("Use no provider of the local network.")
@pass_common
def chat(
    common: Common,
    model: str | None,
    prompt: str | None,
    no_lan: bool,
    peers: tuple[tuple[str, int], ...],
) -> None:
    """Talk to a model of the mesh.

    Without MODEL to the first there is; without PROMPT as a conversation. A PROMPT of
    `-` is read from stdin. `meshllm run` is the same.
    """
    lan = read_lan(no_lan, peers)
    if model == "-" and prompt is None:
        model, prompt = None, "-"
    if prompt is None:
        _Terminal(common, model, lan).talk()
        return
    text = read_stdin() if prompt == "-" else check_prompt(prompt)
    run(_once(common, model, text, lan))


async def _once(
    common: Common, model: str | None, prompt: str, lan: dict[str, Any]
) -> None:
    from meshllm.conversation import Conversation, pick_model

    async with open_node(common, **lan) as node:
        wanted = pick_model(node.mesh.models(), model)
        await show_answer(common, Conversation(node.mesh, wanted), prompt)


class _Terminal:
    """Reads prompts in the main thread, where Ctrl-C arrives and readline works; the
    node lives in the event loop of another."""

    def __init__(self, common: Common, model: str | None, lan: dict[str, Any]) -> None:
        self._common = common
        self._model = model
        self._lan = lan
        self._was_interrupted = False

    def talk(self) -> None:
        """Until /quit, Ctrl-D, or Ctrl-C twice."""
        from meshllm.cli.background import Background

        self._loop = Background(open_node(self._common, **self._lan))
        with self._loop as node:
            from meshllm.conversation import Conversation, pick_model

            model = pick_model(node.mesh.models(), self._model)
            self._talk = Conversation(node.mesh, model)
            if sys.stdin.isatty():
                with contextlib.suppress(ImportError):
                    import readline  # noqa: F401  line editing, history of this session
                click.echo(f"You talk to {model}. /help lists what else you can type.")
            while (line := self._read()) is not None:
                if not self._take(line.strip()):
                    return

    def _read(self) -> str | None:
        """None at the end."""
        try:
            line = input(PROMPT if sys.stdin.isatty() else "")
        except EOFError:
            if sys.stdin.isatty():
                click.echo()
            return None
        except UnicodeDecodeError:
            click.echo("That line is not UTF-8 text.", err=True)
            return ""
        except KeyboardInterrupt:
            click.echo()
            if self._was_interrupted:
                return None
            self._was_interrupted = True
            click.echo("Ctrl-C again, or /quit, to leave.")
            return ""
        self._was_interrupted = False
        return line

    def _take(self, line: str) -> bool:
        """False to leave."""
        word, _, rest = line.partition(" ")
        match word, rest.strip():
            case "/quit" | "/exit" | "/bye", _:
                return False
            case "/help" | "/?", _:
                click.echo(COMMANDS)
            case "/clear", _:
                self._talk.clear()
            case "/model", "":
                click.echo(self._talk.model)
            case "/model", name:
                self._change_model(name)
            case "", _:
                pass
            case _ if word.startswith("/") and word[1:].isalpha():
                click.echo(f"There is no {word}. /help lists what there is.")
            case _:
                self._answer(line)
        return True

    def _change_model(self, name: str) -> None:
        async def change() -> None:  # in the loop, where the roster changes
            self._talk.change_model(name)

        try:
            self._loop.run(change())
        except MeshError as error:
            click.echo(f"{error} You still talk to {self._talk.model}.", err=True)

    def _answer(self, prompt: str) -> None:
        try:
            text = check_prompt(prompt)
            self._loop.run(show_answer(self._common, self._talk, text))
        except (MeshError, click.UsageError) as error:
            click.echo(str(error), err=True)
        except KeyboardInterrupt:
            click.echo()
