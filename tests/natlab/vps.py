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
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshllm.processes import Child
from signaling.coturn_config import Coturn, Tls, coturn_config
from tests.fakes.certificates import certify
from tests.fakes.commands import Commands
from tests.natlab import net
from tests.natlab.sites import DEAD, VPS, VPS_HOSTS, VPS_HOSTS6

POLL_S = 0.02
HUB, RELAY = VPS_HOSTS
RELAY6 = VPS_HOSTS6[1]
# Both are found over IPv4 and IPv6, by those who have this for /etc/hosts.
HUB_NAME, RELAY_NAME = "hub.example.org", "relay.example.org"
NAMES = f"""127.0.0.1 localhost
{HUB} {HUB_NAME}
{VPS_HOSTS6[0]} {HUB_NAME}
{RELAY} {RELAY_NAME}
{RELAY6} {RELAY_NAME}
"""
STUN_URLS = (f"stun:{RELAY}:3478", f"stun:[{RELAY6}]:3478")
TURN_URLS = (
    f"turn:{RELAY}:3478?transport=udp",
    f"turn:{RELAY}:3478?transport=tcp",
    f"turns:{RELAY}:443?transport=tcp",
)
SPARE_URL = f"turn:{HUB}:3478?transport=tcp"
# Silence, not a refusal: nobody learns of it but by waiting.
DEAD_STUN = f"stun:{DEAD}:3478"
DEAD_TURN = tuple(url.replace(RELAY, DEAD) for url in TURN_URLS)


@dataclass(frozen=True, slots=True)
class Servers:
    """What the VPS has for ICE. `dead` are named first."""

    dead: Literal["stun", "turn"] | None = None
    has_relays: bool = True
    has_spare: bool = False  # a second relay, over TCP only

    @property
    def stun(self) -> tuple[str, ...]:
        return ((DEAD_STUN,) if self.dead == "stun" else ()) + STUN_URLS

    @property
    def turn(self) -> tuple[str, ...]:
        if not self.has_relays:
            return ()
        dead = DEAD_TURN if self.dead == "turn" else ()
        return dead + TURN_URLS + ((SPARE_URL,) if self.has_spare else ())


ALL_ANSWER = Servers()


@asynccontextmanager
async def vps(
    meshllm: Commands, members: Sequence[str], servers: Servers = ALL_ANSWER
) -> AsyncIterator[Child]:
    """`meshllm signal` and coturn, and a mesh there whose members have these homes.
    Yields coturn, which may be frozen or killed."""
    folder = meshllm.home("vps")
    folder.mkdir()
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(coturn(folder))
        if servers.has_spare:
            secret = (folder / "secret").read_text()
            (folder / "spare").mkdir()
            spare = _turnserver(folder / "spare", secret, HUB)
            await stack.enter_async_context(spare)
        meshllm.env["SSL_CERT_FILE"] = str(folder / "ca.pem")
        hub = await meshllm.start(
            *("hub", "signal", "--host", HUB, "--port", "443"),
            *("--public-url", f"https://{HUB}"),
            *("--tls-cert", f"{folder}/server.pem"),
            *("--tls-key", f"{folder}/server.key"),
            *("--turn-secret-file", f"{folder}/secret"),
            *(word for url in servers.stun for word in ("--stun", url)),
            *(word for url in servers.turn for word in ("--turn", url)),
            at=net.entered(VPS),
        )
        await _settle(meshllm, hub.said["link"], members)
        yield relay


@asynccontextmanager
async def coturn(folder: Path) -> AsyncIterator[Child]:
    """It serves. In the folder are `secret` (of `use-auth-secret`) and `ca.pem`."""
    certify(folder, (*VPS_HOSTS, *VPS_HOSTS6, HUB_NAME, RELAY_NAME))
    secret = secrets.token_hex(16)
    (folder / "secret").touch(0o600)
    (folder / "secret").write_text(secret)
    tls = Tls(443, folder / "server.pem", folder / "server.key")
    async with _turnserver(folder, secret, RELAY, RELAY6, tls=tls) as child:
        while not all([await _listens(port) for port in (3478, 443)]):
            if child.returncode is not None:
                await child.wait()
                raise RuntimeError(child.why())
            await asyncio.sleep(POLL_S)
        yield child


@asynccontextmanager
async def _turnserver(
    folder: Path, secret: str, *hosts: str, tls: Tls | None = None
) -> AsyncIterator[Child]:
    """On these addresses; the first is the one that it relays from."""
    addresses = tuple(ipaddress.ip_address(host) for host in hosts)
    wish = Coturn(folder, secret, hosts[0], addresses, addresses[0], tls=tls)
    (folder / "turn.conf").write_text(coturn_config(wish))
    command = ("turnserver", "-c", str(folder / "turn.conf"))
    child = await Child.start(net.entered(VPS, *command), name="coturn")
    try:
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


async def invited(meshllm: Commands, name: str) -> str:
    """A link of the owner's for one guest."""
    words = ("invite", "--name", name, "--json")
    done = await meshllm.run("owner", *words, at=net.entered(VPS))
    return str(done.json["link"])


async def _settle(meshllm: Commands, link: str, members: Sequence[str]) -> None:
    command = (sys.executable, "-m", "tests.natlab.settle")
    argv = (*command, str(meshllm.home("")), link, *members)
    child = await Child.start(net.entered(VPS, *argv), meshllm.env, name="settle")
    if await child.wait():
        raise RuntimeError(child.why())
