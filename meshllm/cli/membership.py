"""`init`, `invite`, `join`, `leave`: this node and its mesh."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from meshllm.cli.common import Common, command, not_yet, pass_common
from meshllm.cli.running import run, shown
from meshllm.errors import MeshError

T = TypeVar("T")
UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class Span(click.ParamType[int]):
    """A length of time: 30m, 12h, 7d, 2w. In seconds."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", str(value))
        if found is None:
            self.fail(f"{value!r} is no length of time; write 30m, 12h, 7d or 2w.")
        return int(found[1]) * UNITS[found[2]]


@command("init")
@click.argument("link", required=False)
@pass_common
def init(common: Common, link: str | None) -> None:
    """Make a mesh; this node is its first owner.

    LINK is what `meshllm signal` printed when it first started. Without one the mesh
    lives on this LAN; attach it to a server later with `meshllm init LINK`.
    """
    from meshllm import founding

    founded = run(_waiting("Asking the server …", founding.init(common.home, link)))
    document = {
        "mesh": founded.mesh,
        "hub": founded.hub,
        "phrase": founded.phrase,
        "root_key": str(founded.root_key),
    }
    where = f"at {founded.hub}" if founded.hub else "on this LAN"
    if founded.phrase is None:
        common.tell(f"Your mesh {founded.mesh} is {where} now.", document)
    else:
        common.tell(
            f"Your mesh {founded.mesh} is made, {where}.\n\n"
            "Its recovery phrase is shown this once. Write it down; whoever has it"
            " rules the mesh:\n\n"
            f"{_words(founded.phrase)}\n\n"
            f"The same key is in {founded.root_key}; you may move that file away.\n"
            "An invited node becomes a member when a node of yours meets it: let"
            " `share` or `gateway` run here once before an invitation ends.",
            document,
        )
    if founded.problem is not None:
        raise MeshError(founded.problem)
    common.next(
        "meshllm share        # offer this machine's models",
        "meshllm invite       # a link for the next node",
    )


def _words(phrase: str) -> str:
    words = phrase.split()
    rows = [words[start : start + 6] for start in range(0, len(words), 6)]
    return "\n".join("  " + " ".join(row) for row in rows)


@command("invite")
@click.option("--name", metavar="N", help="What the mesh will call the new node.")
@click.option(
    "--role",
    type=click.Choice(["guest", "member"]),
    default="guest",
    show_default=True,
    help="A guest uses models; a member may share some too.",
)
@click.option(
    "--expires", type=Span(), default="7d", show_default=True, help="30m, 12h, 7d, 2w."
)
@click.option("--models", metavar="A,B", help="Only these models.")
@click.option("--parallel", type=click.IntRange(1, 1000), help="Requests at once.")
@click.option("--tokens-per-day", type=int, help="Not yet.")
@click.option("--qr", is_flag=True, help="Show the link as a QR code too.")
@click.option("--offline", is_flag=True, help="A long link that needs no server.")
@pass_common
def invite(
    common: Common,
    name: str | None,
    role: str,
    expires: int,
    models: str | None,
    parallel: int | None,
    tokens_per_day: int | None,
    qr: bool,
    offline: bool,
) -> None:
    """Print a link that lets one more node in.

    It works once, in `meshllm join` and in the chat page.
    """
    from meshllm import joining

    if tokens_per_day is not None:
        raise not_yet("--tokens-per-day")
    names = tuple(one.strip() for one in (models or "").split(",") if one.strip())
    asking = joining.invite(
        common.home,
        name=name,
        role=role,
        expires_s=expires,
        models=names or None,
        parallel=parallel,
        offline=offline,
    )
    invited = run(_waiting("Leaving the invitation at the server …", asking))
    common.tell(
        invited.link,
        {
            "link": invited.link,
            "name": invited.name,
            "role": invited.role.value,
            "until": invited.until,
        },
    )
    if qr and not common.json:
        _show_qr(invited.link)
    common.hint(
        f"meshllm join '{'LINK' if len(invited.link) > 200 else invited.link}'",
        f"# on the other machine; once, until {_day(invited.until)}, as {invited.name}",
    )


def _show_qr(link: str) -> None:
    import segno

    segno.make(link, error="l").terminal(out=sys.stdout, compact=True)


@command("join")
@click.argument("link")
@pass_common
def join(common: Common, link: str) -> None:
    """Join the mesh that a link invites to.

    Put LINK in quotes, because of the #.
    """
    from meshllm import joining

    asking = joining.join(common.home, link)
    joined = run(_waiting("Joining …", asking))
    who = joined.admission
    lines = [f"This node is {who.name!r}, {who.role.value} of the mesh {joined.mesh}."]
    if joined.is_provisional and who.until is not None:
        then = (
            "its membership comes"
            if joined.promised is who.role
            else f"it becomes a {joined.promised.value}"
        )
        lines = [
            f"This node is {who.name!r} in the mesh {joined.mesh}, provisionally and as"
            f" a guest until {_day(who.until)}: {then} as soon as a node of the mesh's"
            " owner is online."
        ]
    if joined.problem is not None:
        lines.append(f"The server does not know yet: {joined.problem}")
    common.tell(
        "\n".join(lines),
        {
            "mesh": joined.mesh,
            "name": who.name,
            "role": who.role.value,
            "provisional": joined.is_provisional,
            "until": who.until,
        },
    )
    common.next(
        "meshllm gateway      # its models, as Ollama and OpenAI on this machine",
        "meshllm chat         # or here in the terminal",
    )


@command("leave")
@pass_common
def leave(common: Common) -> None:
    """Leave the mesh.

    This node's keys stay; to come back takes a new link.
    """
    from meshllm import joining

    mesh = joining.leave(common.home)
    common.tell(f"This node has left the mesh {mesh}.", {"left": mesh})
    common.next("meshllm join LINK", "meshllm init")


async def _waiting(text: str, work: Coroutine[Any, Any, T]) -> T:
    async with shown(lambda: text):
        return await work


def _day(until: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(until))
