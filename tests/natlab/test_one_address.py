"""One public address, as in deploy/: haproxy parts HTTPS and TURN over TLS by name."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshllm.processes import Child, guarded
from meshllm.protocol.signal_codec import decode_hub
from meshllm.protocol.signals import Challenge
from signaling import stun
from signaling.limits import DEFAULT_LIMITS
from tests.fakes.certificates import Authority
from tests.fakes.commands import Commands, Serving, commands
from tests.natlab import net
from tests.natlab.nat import Kind
from tests.natlab.pair import POLL_S, at, pair
from tests.natlab.sites import VPS, VPS_HOSTS, VPS_HOSTS6, Site, internet

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

DEPLOY = Path(__file__).parents[2] / "deploy"
HUB_NAME, TURN_NAME = "hub.example.org", "turn.example.org"


@pytest.fixture(autouse=True)
def splitter() -> None:
    """As `laboratory`, for one test only."""
    if why := net.missing(haproxy="haproxy"):
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


def environment(name: str) -> dict[str, str]:
    """A file of deploy/ for systemd."""
    lines = (DEPLOY / name).read_text().splitlines()
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key: value for key, _, value in pairs}


@asynccontextmanager
async def deployed(meshllm: Commands) -> AsyncIterator[tuple[Serving, Path]]:
    """What deploy/README.md has on the machine, started. Also the names, for all."""
    folder = meshllm.home("vps")
    folder.mkdir()
    names = folder / "hosts"
    names.write_text(f"127.0.0.1 localhost\n{VPS_HOSTS[0]} {HUB_NAME} {TURN_NAME}\n")
    authority, both = Authority(), folder / "both.pem"
    cert, key = folder / "cert.pem", folder / "key.pem"
    authority.issue(cert, key, HUB_NAME, TURN_NAME)
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    (folder / "ca.pem").write_bytes(authority.pem)
    haproxy = await Child.start(
        guarded(net.entered(VPS, "haproxy", "-f", str(DEPLOY / "haproxy.cfg"))),
        environment("haproxy.env") | {"CERTIFICATE": str(both)},
        name="haproxy",
    )
    try:
        await _listens(haproxy)
        meshllm.env["SSL_CERT_FILE"] = str(folder / "ca.pem")
        before = dict(meshllm.env)
        meshllm.env |= environment("signal.env")
        hub = await meshllm.start("hub", "signal", at=at(VPS, names))
        meshllm.env.clear()
        meshllm.env |= before
        yield hub, names
    finally:
        await haproxy.stop()


async def _listens(haproxy: Child) -> None:
    while haproxy.returncode is None:
        with closing(net.bound(VPS, socket.SOCK_STREAM, VPS_HOSTS[0])) as here:
            try:
                await asyncio.get_running_loop().sock_connect(here, (VPS_HOSTS[0], 443))
            except ConnectionRefusedError:
                await asyncio.sleep(POLL_S)
                continue
        return
    raise RuntimeError(haproxy.why())


@asynccontextmanager
async def one_address(
    root: Path, *sites: Site
) -> AsyncIterator[tuple[Commands, Serving, Path]]:
    with internet(sites):
        net.ip(VPS, f"addr del {VPS_HOSTS[1]}/32 dev wan0")
        net.ip(VPS, f"addr del {VPS_HOSTS6[1]}/128 dev wan0")
        async with commands(root) as meshllm, deployed(meshllm) as (hub, names):
            meshllm.env["MESHLLM_LOOPBACK"] = ""
            yield meshllm, hub, names


async def test_who_may_only_speak_to_443_asks_through_the_one_address(
    tmp_path: Path,
) -> None:
    asker, provider = Site(Kind.TCP443, 1), Site(Kind.TCP443, 2)
    async with (
        one_address(tmp_path, asker, provider) as (meshllm, hub, names),
        pair(
            *(meshllm, hub.said["link"]),
            asker=asker.host(),
            provider=provider.host(),
            hub=VPS,
            names=names,
        ) as made,
    ):
        answer = await made.ask("hello")
        assert answer.text == "Hello wörld"
        assert answer.candidates == ("relay", "relay")


async def test_both_servers_see_who_it_really_is(tmp_path: Path) -> None:
    one, other = Site(Kind.TCP443, 1), Site(Kind.TCP443, 2)
    async with one_address(tmp_path, one, other) as (meshllm, *_):
        trusted = ssl.create_default_context(cafile=meshllm.env["SSL_CERT_FILE"])
        for site in (one, other):
            assert await mapped(site, trusted) == site.address

        most = DEFAULT_LIMITS.strangers_per_address
        async with AsyncExitStack() as stack:
            # What a caller says itself about where it comes from counts for nothing.
            # At once: who has not logged in is sent away after 5 s.
            firsts = await asyncio.gather(
                *(
                    first_word(stack, one, trusted, f"203.0.113.{100 + n}")
                    for n in range(most + 1)
                )
            )
            assert sum(isinstance(said, Challenge) for said in firsts) == most
            assert isinstance(await first_word(stack, other, trusted, ""), Challenge)


async def mapped(site: Site, trusted: ssl.SSLContext) -> str:
    """The address that coturn sees."""
    own = net.bound(site.host(), socket.SOCK_STREAM, "0.0.0.0")
    await asyncio.get_running_loop().sock_connect(own, (VPS_HOSTS[0], 443))
    reader, writer = await asyncio.open_connection(
        sock=own, ssl=trusted, server_hostname=TURN_NAME
    )
    transaction = bytes(range(12))
    writer.write(stun.request(transaction))
    head = await reader.readexactly(20)
    body = await reader.readexactly(int.from_bytes(head[2:4]))
    writer.close()
    await writer.wait_closed()
    return str(stun.mapped_address(head + body, transaction))


async def first_word(
    stack: AsyncExitStack, site: Site, trusted: ssl.SSLContext, claim: str
) -> object:
    """What the signaling server says to one more socket, which stays."""

    def there(info: tuple[Any, ...]) -> socket.socket:
        with net.inside(site.host()):
            return socket.socket(*info[:3])

    session = await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=there))
    )
    opened = await session.ws_connect(
        f"https://{VPS_HOSTS[0]}/v1/signal",
        ssl=trusted,
        server_hostname=HUB_NAME,
        headers={
            "Host": HUB_NAME,
            "X-Forwarded-For": claim,
            "Forwarded": "for=8.8.8.8",
        },
    )
    stack.push_async_callback(opened.close)
    return decode_hub((await opened.receive()).data)
