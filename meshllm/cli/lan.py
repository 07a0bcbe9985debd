"""The options of commands that use the LAN: `--no-lan`, `--peer`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
LAN_PORT: Final = 11430  # of `--peer ADDRESS`, to be set by `share --lan-port 11430`
_PEER = re.compile(r"(?:\[([0-9A-Za-z:.%]+)\]|([^\s:/\[\]]+))(?::([0-9]{1,5}))?")


class Peer(click.ParamType[tuple[str, int]]):
    """ADDRESS or ADDRESS:PORT, an IPv6 address in brackets."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        found = _PEER.fullmatch(str(value))
        port = int(found[3] or LAN_PORT) if found else 0
        if found is None or not 0 < port < 65_536:
            self.fail(
                f"{value!r} is no address; write 192.168.1.5, 192.168.1.5:{LAN_PORT}"
                f" or [fd00::5]:{LAN_PORT}."
            )
        return found[1] or found[2], port


def lan_options(no_lan: str) -> Callable[[F], F]:
    """`no_lan`: what that option means for this command."""

    def decorate(command: F) -> F:
        peer = click.option(
            "--peer",
            "peers",
            multiple=True,
            type=Peer(),
            metavar="ADDRESS",
            help="A `share` of the local network that multicast does not reach, as"
            f" ADDRESS or ADDRESS:PORT ({LAN_PORT}). May be repeated.",
        )
        return click.option("--no-lan", is_flag=True, help=no_lan)(peer(command))

    return decorate


def read_lan(
    no_lan: bool, peers: tuple[tuple[str, int], ...], *, relay_only: bool = False
) -> dict[str, Any]:
    """As options of the node. UsageError when they exclude each other."""
    if peers and (no_lan or relay_only):
        other = "--no-lan" if no_lan else "--relay-only"
        raise click.UsageError(f"--peer and {other} exclude each other.")
    return {"lan": not no_lan, "peers": peers}
