"""The cheap VPS: `meshllm signal` and coturn, TLS on 443 for both.

With two addresses, one each: a VPS with only one would part them by the name that TLS
asks for (SNI), which is no question of NATs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from meshllm.processes import Child
from signaling.coturn_config import Coturn, Tls, coturn_config
from tests.fakes.certificates import certify
from tests.fakes.commands import Commands
from tests.natlab import net
from tests.natlab.sites import VPS, VPS_HOSTS, VPS_HOSTS6

POLL_S = 0.02
HUB, RELAY = VPS_HOSTS
RELAY6 = VPS_HOSTS6[1]
STUN_URLS = (f"stun:{RELAY}:3478", f"stun:[{RELAY6}]:3478")
TURN_URLS = (
    f"turn:{RELAY}:3478?transport=udp",
    f"turn:{RELAY}:3478?transport=tcp",
    f"turns:{RELAY}:443?transport=tcp",
)


@asynccontextmanager
async def vps(meshllm: Commands, members: Sequence[str]) -> AsyncIterator[Child]:
    """Both servers, and a mesh there whose members have these homes. Yields coturn,
    which may be frozen or killed."""
    folder = meshllm.home("vps")
    folder.mkdir()
    async with coturn(folder) as relay:
        meshllm.env["SSL_CERT_FILE"] = str(folder / "ca.pem")
        hub = await meshllm.start(
            *("hub", "signal", "--host", HUB, "--port", "443"),
            *("--public-url", f"https://{HUB}"),
            *("--tls-cert", f"{folder}/server.pem"),
            *("--tls-key", f"{folder}/server.key"),
            *("--turn-secret-file", f"{folder}/secret"),
            *(word for url in STUN_URLS for word in ("--stun", url)),
            *(word for url in TURN_URLS for word in ("--turn", url)),
            at=net.entered(VPS),
        )
        await _settle(meshllm, hub.said["link"], members)
        yield relay


@asynccontextmanager
async def coturn(folder: Path) -> AsyncIterator[Child]:
    """It serves. In the folder are `secret` (of `use-auth-secret`) and `ca.pem`."""
    certify(folder, (*VPS_HOSTS, *VPS_HOSTS6))
    secret = secrets.token_hex(16)
    (folder / "secret").touch(0o600)
    (folder / "secret").write_text(secret)
    relay, relay6 = ipaddress.ip_address(RELAY), ipaddress.ip_address(RELAY6)
    tls = Tls(443, folder / "server.pem", folder / "server.key")
    wish = Coturn(folder, secret, RELAY, (relay, relay6), relay, tls=tls)
    (folder / "turn.conf").write_text(coturn_config(wish))
    command = ("turnserver", "-c", str(folder / "turn.conf"))
    child = await Child.start(net.entered(VPS, *command), name="coturn")
    try:
        while not all([await _listens(port) for port in (3478, 443)]):
            if child.returncode is not None:
                await child.wait()
                raise RuntimeError(child.why())
            await asyncio.sleep(POLL_S)
        yield child
    finally:
        await child.stop()


async def _listens(port: int) -> bool:
    with closing(net.bound(VPS, socket.SOCK_STREAM, RELAY)) as here:
        try:
            await asyncio.get_running_loop().sock_connect(here, (RELAY, port))
        except ConnectionRefusedError:
            return False
    return True


async def _settle(meshllm: Commands, link: str, members: Sequence[str]) -> None:
    command = (sys.executable, "-m", "tests.natlab.settle")
    argv = (*command, str(meshllm.home("")), link, *members)
    child = await Child.start(net.entered(VPS, *argv), meshllm.env, name="settle")
    if await child.wait():
        raise RuntimeError(child.why())
