"""`meshllm pair`: let a machine in, or come in, by six digits."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from meshllm.cli.common import Common, configured_command, pass_common
from meshllm.cli.running import run
from meshllm.cli.typed import Countdown, TypedLines
from meshllm.errors import ConfigError

if TYPE_CHECKING:
    from meshllm.pairing import Admitted, Paired

NO_NUMBER = (
    "This node is in no mesh, so it is the one that comes in: type the number that"
    " `meshllm pair` shows on a machine of the mesh's owner, `meshllm pair NUMBER --hub"
    " URL`. (To make a mesh: `meshllm init`.)"
)
OWNERS = ("role", "name")


@configured_command("pair")
@click.argument("mailbox", type=click.IntRange(100, 999), required=False)
@click.option(
    "--hub", metavar="URL", help="With MAILBOX: the signaling server to meet at."
)
@click.option(
    "--role",
    type=click.Choice(["guest", "member"]),
    default="guest",
    show_default=True,
    help="On the owner's machine: a guest uses models; a member may share some too.",
)
@click.option(
    "--name", metavar="N", help="On the owner's machine: what the new node is called."
)
@pass_common
@click.pass_context
def pair(
    ctx: click.Context,
    common: Common,
    mailbox: int | None,
    hub: str | None,
    role: str,
    name: str | None,
) -> None:
    """Let a machine in, or come in, by six digits.

    On a machine of the mesh's owner, `meshllm pair` shows a number. Type `meshllm pair
    MAILBOX --hub URL` with it on the machine that comes in: that one shows six digits,
    which you type on the owner's; then that one shows two, which you type on the new
    one. It takes both machines in front of you, ten minutes at most, and no link.
    """
    from meshllm import pairing

    if mailbox is not None:
        _refuse_owners(ctx)
        if hub is None:
            raise ConfigError(
                f"At which server is mailbox {mailbox}? The owner's machine shows it:"
                f" `meshllm pair {mailbox} --hub https://…`"
            )
        with _Terminal(common) as screen:
            _tell_paired(
                common, run(pairing.come_in(common.home, mailbox, hub, screen))
            )
    elif pairing.is_member(common.home):
        with _Terminal(common) as screen:
            admitted = run(pairing.let_in(common.home, screen, name=name, role=role))
            _tell_admitted(common, admitted)
    else:
        raise ConfigError(NO_NUMBER)


def _refuse_owners(ctx: click.Context) -> None:
    """Who comes in does not choose as what."""
    for given in OWNERS:
        if ctx.get_parameter_source(given) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{given} is for the owner's machine, where `meshllm pair` runs"
                " without a number."
            )


class _Terminal:
    """The Screen of a person at a terminal, or of a program that reads --json."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._typed = TypedLines()
        self._countdown = Countdown()
        self._until = 0.0

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._countdown.hide()

    def waiting(self, mailbox: int, hub: str, until: float) -> None:
        self._until = until
        line = f"meshllm pair {mailbox} --hub {hub}"
        self._common.event(
            "mailbox",
            f"On the machine that comes in, type:\n\n  {line}\n\n"
            f"This is open until {_time(until)}, for one machine. Ctrl-C closes it.",
            mailbox=mailbox,
            hub=hub,
            until=int(until),
            command=line,
        )
        self._countdown.show("Waiting for the other machine …", until)

    def arrived(self) -> None:
        self._countdown.hide()
        text = "The other machine is there. Type the six digits that it shows."
        self._common.event("arrived", text)

    async def ask_code(self) -> str:
        return await self._ask("code", "Six digits: ")

    def show_receipt(self, receipt: str) -> None:
        self._common.event(
            "receipt",
            f"That is right. Now type {receipt} on the other machine.",
            receipt=receipt,
        )
        self._countdown.show("Waiting for the other machine …", self._until)

    def show_code(self, code: str, until: float) -> None:
        self._common.event(
            "code",
            f"\n  {code[:3]} {code[3:]}\n\n"
            "Type these six digits on the owner's machine, "
            f"by {_time(until)}. It then shows two; type them here.",
            code=code,
            until=int(until),
        )

    async def ask_receipt(self) -> str:
        return await self._ask("receipt", "Two digits: ")

    def mistyped(self, why: str) -> None:
        self._common.event("mistyped", why, why=why)

    async def _ask(self, what: str, prompt: str) -> str:
        if self._common.json:
            self._common.event("ask", "", what=what)
            return await self._typed.next()
        click.echo(prompt, nl=not sys.stdin.isatty())
        has_typed = False
        try:
            line = await self._typed.next()
            has_typed = True
        finally:
            if not has_typed and sys.stdin.isatty():
                click.echo()  # what is said next is not part of the prompt
        return line


def _tell_admitted(common: Common, admitted: Admitted) -> None:
    text = f"{admitted.name!r} is a {admitted.role.value} of your mesh now."
    if not admitted.is_sure:
        text += (
            " The other machine has not said that it knows: `meshllm status` there"
            " tells. If it does not, pair again."
        )
    common.tell(
        text,
        {
            "event": "paired",
            "mesh": admitted.mesh,
            "id": admitted.id,
            "name": admitted.name,
            "role": admitted.role.value,
            "sure": admitted.is_sure,
        },
    )
    common.next("meshllm share        # offer this machine's models to it")


def _tell_paired(common: Common, paired: Paired) -> None:
    who = paired.admission
    common.tell(
        f"This node is {who.name!r}, {who.role.value} of the mesh {paired.mesh}.",
        {
            "event": "paired",
            "mesh": paired.mesh,
            "name": who.name,
            "role": who.role.value,
            "until": who.until,
        },
    )
    common.next(
        "meshllm gateway      # its models, as Ollama and OpenAI on this machine",
        "meshllm chat         # or here in the terminal",
    )


def _time(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
