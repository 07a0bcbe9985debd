"""`meshllm` itself: finds commands without loading the others, and ends every one.

A command's module is imported when it runs, and it imports aiortc and the like only
then: `meshllm --help` is there at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import click

from meshllm.cli.common import Common, common_options
from meshllm.errors import MeshError

# Heading, and its commands: name, module in meshllm.cli, and what `--help` says.
COMMANDS: Final[dict[str, list[tuple[str, str, str]]]] = {
    "Try it": [
        ("demo", "demo", "Run a whole mesh on this machine, to try."),
    ],
    "A mesh": [
        ("signal", "signal", "Run the signaling server of one or more meshes."),
        ("init", "membership", "Make a mesh; this node is its first owner."),
        ("invite", "membership", "Print a link that lets one more node in."),
        ("join", "membership", "Join the mesh that a link invites to."),
        ("pair", "pair", "Let a machine in, or come in, by six digits."),
        ("leave", "membership", "Leave the mesh."),
    ],
    "Models": [
        ("share", "share", "Offer this machine's models to the mesh."),
        ("gateway", "gateway", "Serve the mesh's models as Ollama and OpenAI."),
        ("chat", "chat", "Talk to a model of the mesh."),
        ("models", "look", "List the models of the mesh, and who has them."),
    ],
    "This node": [
        ("status", "look", "Show this node in five lines."),
        ("peers", "look", "List the peers this node sees, with the path to each."),
        ("doctor", "doctor", "Find out why a connection fails, and what to do."),
        ("logs", "look", "Show the log of the share and gateway in this home."),
        ("identity", "identity", "Show this node's peer id and key file."),
        ("completion", "completion", "Print the completion script of a shell."),
    ],
}
ALIASES: Final = {"run": "chat"}
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it


def commands() -> Iterator[tuple[str, str, str]]:
    for group in COMMANDS.values():
        yield from group


class Root(click.Group):
    """The group of all commands, each loaded by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _, _ in commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        wanted = ALIASES.get(cmd_name, cmd_name)
        for name, module, _ in commands():
            if name == wanted:
                found = getattr(import_module(f"meshllm.cli.{module}"), name)
                assert isinstance(found, click.Command)
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            if not near or args[0].startswith("-"):
                raise
            text = f"No such command '{args[0]}'. Is it `{near[0]}`?"
            raise click.UsageError(text, ctx) from error

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        for heading, group in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, text) for name, _, text in group])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            # click itself would write an empty line to stderr, also to a file.
            raise click.Abort from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Never returns: 0 done, 1 failed with one line on stderr, 2 wrong usage."""
        common = Common()
        try:
            code = super().main(
                args,
                prog_name or "meshllm",
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                obj=common,
                **extra,
            )
            sys.stdout.flush()
        except Exception as error:
            if common.verbose and not isinstance(error, click.ClickException):
                import traceback

                traceback.print_exception(error)
            code = _explain(error)
        except (KeyboardInterrupt, asyncio.CancelledError):
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """As click does, but without loading every command for its help."""
        items = [
            click.shell_completion.CompletionItem(name, help=text)
            for name, _, text in commands()
            if name.startswith(incomplete)
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)


def _explain(error: Exception) -> int:
    """Says on stderr what went wrong, and returns the exit code."""
    match _first(error):
        case click.Abort():
            return INTERRUPTED
        case click.ClickException() as usage:
            usage.show()
            return usage.exit_code
        case BrokenPipeError():
            # Whoever read us has enough. Nothing may be flushed there at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case MeshError() as mesh:
            text = str(mesh)
        case OSError(strerror=str(why)) as os_error:
            where = f"{os_error.filename}: " if os_error.filename else ""
            text = f"{where}{why}."
        case other:
            text = f"{type(other).__name__}: {other} (a bug; -v shows where)"
    click.echo(" ".join(text.split("\n")), err=True)
    return 1


def _first(error: BaseException) -> BaseException:
    """The reason inside a group: what we raise on purpose first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_first(one) for one in error.exceptions]
    return next((one for one in inner if isinstance(one, MeshError)), inner[0])


root = Root(
    name="meshllm",
    help="Reach your own and your friends' language models from anywhere, peer to"
    " peer.",
    epilog="Start with `meshllm demo`, or with the link that somebody sent you:"
    " `meshllm join LINK`.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=common_options(environment=True),
)

__all__ = ["COMMANDS", "Root", "commands", "root"]
