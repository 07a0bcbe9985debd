"""`meshllm doctor`: prints what the checks find, as they find it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import click

from meshllm.cli.common import Common, command, logging_on, pass_common
from meshllm.cli.running import run, shown
from meshllm.errors import MeshError

if TYPE_CHECKING:
    from meshllm.doctor import Check, Examination

MARKS: Final = {
    "ok": ("ok", "green"),
    "warning": ("warn", "yellow"),
    "error": ("FAIL", "red"),
    "skipped": ("-", "bright_black"),
}
NAME_WIDTH: Final = max(map(len, ("signaling", "addresses"))) + 1


@command("doctor")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME",
    help="Try this provider only: its name or the start of its id. May be repeated.",
)
@pass_common
def doctor(common: Common, peers: tuple[str, ...]) -> None:
    """Find out why a connection fails, and what to do.

    Looks at this node, its clock, its LAN, the way to the signaling server, this
    network's addresses and NAT, the STUN and TURN servers of the mesh, and connects to
    every provider once. Asks nobody else. Ends with 1 when something keeps it from
    working.
    """
    run(_doctor(common, peers))


async def _doctor(common: Common, peers: tuple[str, ...]) -> None:
    from meshllm.doctor import Examination

    examination = Examination(common.home, peers)
    lines = _Lines()
    with logging_on(common):
        async with aclosing(examination.run()) as checks:
            while True:
                async with shown(examination.doing):
                    check = await anext(checks, None)
                if check is None:
                    break
                if not common.json:
                    lines.show(check)
    lines.end()
    if common.json:
        common.tell("", _document(examination))
    failed = [check for check in examination.checks if check.state == "error"]
    if failed:
        names = ", ".join(dict.fromkeys(check.name for check in failed))
        raise MeshError(f"{len(failed)} of {len(examination.checks)} failed: {names}.")
    common.hint("meshllm peers        # how each is reached now")


class _Lines:
    """A line for each check; those that were skipped for one reason share theirs."""

    def __init__(self) -> None:
        self._skipped: list[Check] = []

    def show(self, check: Check) -> None:
        if self._skipped and check.text != self._skipped[0].text:
            self.end()
        if check.state == "skipped":
            self._skipped.append(check)
        else:
            _print(check.state, check.name, check.text, check.do)

    def end(self) -> None:
        if self._skipped:
            names = ", ".join(check.name for check in self._skipped)
            first = self._skipped[0]
            _print(first.state, "", f"{names}: {first.text}", None)
            self._skipped.clear()


def _print(state: str, name: str, text: str, do: str | None) -> None:
    mark, colour = MARKS[state]
    shown_as = click.style(f"{mark:4}", fg=colour)
    click.echo(f"{shown_as} {name:{NAME_WIDTH}}{text}")
    if do:
        click.echo(f"{'':5}{'':{NAME_WIDTH}}→ {do}")


def _document(examination: Examination) -> dict[str, object]:
    return {
        "fine": examination.is_fine,
        "checks": [check.document() for check in examination.checks],
    }
