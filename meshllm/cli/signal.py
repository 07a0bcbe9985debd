"""`meshllm signal`: the signaling server."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshllm.cli.common import (
    PORT,
    Common,
    logging_on,
    not_yet,
    pass_common,
    serving_command,
)
from meshllm.cli.running import Signals, run
from meshllm.errors import ConfigError

if TYPE_CHECKING:
    from signaling.server import Network, ServeOptions, SignalingServer

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
STUN = ("stun:", "stuns:")
TURN = ("turn:", "turns:")


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
@click.option("--coturn", is_flag=True, help="Start a coturn beside it (not yet).")
@click.option("--external-ip", metavar="IP", help="For --coturn (not yet).")
@click.option(
    "--trusted-proxy",
    multiple=True,
    metavar="CIDR",
    help="A reverse proxy whose X-Forwarded-For is believed.",
)
@click.option(
    "--admit",
    type=click.Choice(["setup", "open", "closed"]),
    default="setup",
    show_default=True,
    help="Who may register a mesh: by the one-time link, anyone, nobody new.",
)
@pass_common
def signal(common: Common, /, **given: Any) -> None:
    """Run the signaling server of one or more meshes.

    It introduces peers to each other and sees no prompt, no answer and no readable
    offer. The first start prints the one-time link for `meshllm init`.
    """
    run(_serve(common, _options(common.home, **given)))


def _options(
    home: Path,
    *,
    coturn: bool,
    external_ip: str | None,
    admit: str,
    stun: tuple[str, ...],
    turn: tuple[str, ...],
    turn_secret_file: Path | None,
    trusted_proxy: tuple[str, ...],
    **given: Any,
) -> ServeOptions:
    from signaling.kept import Admit
    from signaling.server import ServeOptions

    if coturn or external_ip:
        raise not_yet("--coturn")
    if turn and turn_secret_file is None:
        raise ConfigError(
            "--turn needs --turn-secret-file: the static-auth-secret of that server."
        )
    return ServeOptions(
        home=home,
        admit=Admit(admit),
        stun=tuple(_ice_url("--stun", url, STUN) for url in stun),
        turn=tuple(_ice_url("--turn", url, TURN) for url in turn),
        turn_secret=_secret(turn_secret_file) if turn_secret_file else None,
        trusted_proxies=tuple(_network(text) for text in trusted_proxy),
        **given,
    )


def _ice_url(option: str, url: str, schemes: tuple[str, ...]) -> str:
    if url.startswith(schemes):
        return url
    raise ConfigError(f"{option} {url}: write it like {schemes[0]}relay.example:3478.")


def _secret(path: Path) -> bytes:
    secret = path.read_bytes().strip()
    if not secret:
        raise ConfigError(
            f"{path} is empty; it must hold the secret of the TURN server."
        )
    return secret


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigError(f"--trusted-proxy {text}: {exc}.") from exc


async def _serve(common: Common, options: ServeOptions) -> None:
    from signaling.server import SignalingServer

    with logging_on(common):
        await _until_told(common, SignalingServer(options))


async def _until_told(common: Common, starting: SignalingServer) -> None:
    async with Signals() as signals, starting as server:
        if (link := server.setup_link) is not None:
            common.event(
                "setup",
                "To make your mesh on this server, once, on your own machine:\n"
                f"  meshllm init '{link}'",
                link=link,
            )
        common.event("ready", f"ready {server.url}", url=server.url)
        await signals.wait()
