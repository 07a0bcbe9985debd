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

OWNERS = ("role", "name")
WAITING = "Waiting for the other machine …"


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
@click.option("--no-lan", is_flag=True, help="Meet at the signaling server only.")
@pass_common
@click.pass_context
def pair(
    ctx: click.Context,
    common: Common,
    mailbox: int | None,
    hub: str | None,
    role: str,
    name: str | None,
    no_lan: bool,
) -> None:
    """Let a machine in, or come in, by six digits.

    On one network type `meshllm pair` on a machine of the mesh's owner and on the one
    that comes in. Elsewhere, the owner's shows a number: type `meshllm pair MAILBOX
    --hub URL` with it on the other.

    The one that comes in shows six digits, which you type on the owner's; that one then
    shows two, which you type on the new one. It takes both screens, ten minutes at
    most, and no link.
    """
    from meshllm import pairing

    with _Terminal(common) as screen:
        if mailbox is None and pairing.is_member(common.home):
            letting = pairing.let_in(
                common.home, screen, name=name, role=role, lan=not no_lan
            )
            _tell_admitted(common, run(letting))
            return
        _refuse_owners(ctx)
        if mailbox is None and no_lan:
            raise click.UsageError("Without the LAN it takes a MAILBOX and its --hub.")
        if mailbox is not None and hub is None:
            raise ConfigError(
                f"At which server is mailbox {mailbox}? The owner's machine shows it:"
                f" `meshllm pair {mailbox} --hub https://…`"
            )
        coming = pairing.come_in(common.home, screen, mailbox, hub)
        _tell_paired(common, run(coming))


def _refuse_owners(ctx: click.Context) -> None:
    for given in OWNERS:
        if ctx.get_parameter_source(given) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{given} is for the owner's machine: who comes in does not choose"
                " as what."
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

    def waiting(
        self, mailbox: int | None, hub: str | None, is_on_lan: bool, until: float
    ) -> None:
        self._until = until
        far = None if mailbox is None else f"meshllm pair {mailbox} --hub {hub}"
        lines = ["meshllm pair"] if is_on_lan else []
        if far is not None:
            lines.append(far)
        if len(lines) == 2:
            width = len(lines[1])
            lines = [
                f"{lines[0]:{width}}   # on this network",
                f"{lines[1]}   # from elsewhere",
            ]
        browser = ""
        if mailbox is not None:
            browser = f"In a browser open {hub} and type {mailbox} there.\n\n"
        shown = "".join(f"  {line}\n" for line in lines)
        self._common.event(
            "waiting",
            f"On the machine that comes in, type:\n\n{shown}\n{browser}"
            f"This is open until {_time(until)}, for one machine. Ctrl-C closes it.",
            mailbox=mailbox,
            hub=None if mailbox is None else hub,
            lan=is_on_lan,
            command=far,
            until=int(until),
        )
        self._countdown.show(WAITING, until)

    def looking(self, until: float) -> None:
        self._common.event(
            "looking",
            "This node is in no mesh and comes into one. Type `meshllm pair` on a"
            " machine of the mesh's owner, too: on this network they find each other,"
            " elsewhere it shows what to type here.",
            until=int(until),
        )
        self._countdown.show(WAITING, until)

    def note(self, text: str) -> None:
        self._common.note(text)

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
        self._countdown.show(WAITING, self._until)

    def show_code(self, code: str, until: float) -> None:
        self._countdown.hide()
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
