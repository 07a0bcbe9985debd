"""`meshllm signal`: the signaling server."""

from __future__ import annotations

import asyncio
import contextlib
import signal as numbers
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from meshllm.cli.common import PORT, Common, logging_on, pass_common, serving_command
from meshllm.cli.running import Signals, run
from meshllm.cli.signal_options import read_options

if TYPE_CHECKING:
    from signaling.server import ServeOptions, SignalingServer

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
# What only --coturn knows.
RELAY: Final = (
    "external_ip",
    "turn_host",
    "turn_ip",
    "turn_port",
    "turn_tls_port",
    "turn_proxy_port",
    "turn_relay_ports",
)


@serving_command("signal")
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option(
    "--port",
    type=PORT,
    metavar="PORT",
    default=8080,
    show_default=True,
    help="Listen here.",
)
@click.option("--public-url", metavar="URL", help="How others reach this server.")
@click.option("--tls-cert", type=FILE, help="Speak TLS with this certificate chain.")
@click.option("--tls-key", type=FILE, help="The certificate's key.")
@click.option("--stun", multiple=True, metavar="URL", help="A STUN server for peers.")
@click.option("--turn", multiple=True, metavar="URL", help="A TURN server for peers.")
@click.option("--turn-secret-file", type=FILE, help="The secret shared with --turn.")
@click.option("--coturn", is_flag=True, help="Run a coturn beside it: STUN and TURN.")
@click.option(
    "--external-ip",
    metavar="IP",
    help="What coturn's address is to the outside, behind a 1:1 NAT.",
)
@click.option(
    "--turn-host",
    metavar="NAME",
    help="How others reach coturn.  [default: as --public-url]",
)
@click.option(
    "--turn-ip",
    multiple=True,
    metavar="IP",
    help="coturn listens here, and relays from the first.",
)
@click.option(
    "--turn-port",
    type=PORT,
    metavar="PORT",
    help="coturn's, UDP and TCP.  [default: 3478]",
)
@click.option(
    "--turn-tls-port",
    type=PORT,
    metavar="PORT",
    help="coturn's, with --tls-cert.  [default: 443, or 5349 if that is --port]",
)
@click.option(
    "--turn-proxy-port",
    type=PORT,
    metavar="PORT",
    help="coturn takes TCP here alone, from a proxy that ends TLS (PROXY v2).",
)
@click.option(
    "--turn-relay-ports",
    metavar="MIN-MAX",
    help="coturn relays from these, UDP.  [default: 49152-65535]",
)
@click.option(
    "--trusted-proxy",
    multiple=True,
    metavar="CIDR",
    help="A reverse proxy whose X-Forwarded-For or Forwarded is believed.",
)
@click.option(
    "--admit",
    type=click.Choice(["setup", "open", "closed"]),
    default="setup",
    show_default=True,
    help="Who may register a mesh: by the one-time link, anyone, nobody new.",
)
@click.option(
    "--print-coturn-config",
    is_flag=True,
    help="Print what --coturn would run, for one that runs elsewhere, and end.",
)
@pass_common
def signal(
    common: Common,
    /,
    coturn: bool,
    print_coturn_config: bool,
    **given: Any,
) -> None:
    """Run the signaling server of one or more meshes.

    It introduces peers to each other and sees no prompt, no answer and no readable
    offer. The first start prints the one-time link for `meshllm init`.
    """
    relay = {name: given.pop(name) for name in RELAY}
    options = read_options(
        common.home, coturn=coturn or print_coturn_config, relay=relay, **given
    )
    run(_print(common, options) if print_coturn_config else _serve(common, options))


async def _print(common: Common, options: ServeOptions) -> None:
    from signaling.coturn_config import coturn_config
    from signaling.coturn_plan import plan

    assert options.relay is not None
    with logging_on(common):
        text = coturn_config(await plan(options.relay, options.home))
    common.tell(text.rstrip("\n"), {"config": text})


async def _serve(common: Common, options: ServeOptions) -> None:
    from signaling.server import SignalingServer

    with logging_on(common):
        await _until_told(common, SignalingServer(options))


async def _until_told(common: Common, starting: SignalingServer) -> None:
    async with Signals() as told, starting as server:
        with _on_hangup(server):
            if (link := server.setup_link) is not None:
                common.event(
                    "setup",
                    "To make your mesh on this server, once, on your own machine:\n"
                    f"  meshllm init '{link}'",
                    link=link,
                )
            common.event("ready", f"ready {server.url}", url=server.url)
            await told.wait()


@contextlib.contextmanager
def _on_hangup(server: SignalingServer) -> Iterator[None]:
    """A service is told by SIGHUP to read its certificate again. In a terminal it means
    what it always did: the terminal was closed."""
    if sys.platform == "win32" or sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(numbers.SIGHUP, server.renew_certificate)
    try:
        yield
    finally:
        loop.remove_signal_handler(numbers.SIGHUP)
