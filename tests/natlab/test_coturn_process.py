"""A real coturn beside `meshllm signal`: it comes back, and it goes when we go."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from tests.fakes.certificates import Authority
from tests.natlab import net
from tests.natlab.relay import MACHINE, OWN, Relay, relay

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

POLL_S = 0.02
WAIT_S = 20


def pid_of(made: Relay) -> int:
    return int((made.home / "coturn" / "turnserver.pid").read_text())


async def ended(pid: int) -> None:
    """Until a process is gone that is not our child."""
    fd = os.pidfd_open(pid)
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, gone.set)
    try:
        async with asyncio.timeout(WAIT_S):
            await gone.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def page(made: Relay, path: str) -> str:
    def inside(info: tuple[Any, ...]) -> socket.socket:
        with net.inside(MACHINE):
            return socket.socket(*info[:3])

    connector = aiohttp.TCPConnector(socket_factory=inside)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(made.serving.url + path) as response,
    ):
        return await response.text()


async def is_running(made: Relay) -> bool:
    said = json.loads(await page(made, "/health"))["coturn"]
    assert said in ("running", "restarting")
    return bool(said == "running")


async def test_one_that_was_killed_is_back_and_serves(tmp_path: Path) -> None:
    async with relay(tmp_path) as made:
        assert await is_running(made)
        assert "meshllm_hub_coturn_up 1" in await page(made, "/metrics")
        first = pid_of(made)
        gone = asyncio.ensure_future(ended(first))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        await gone
        async with asyncio.timeout(WAIT_S):
            while pid_of(made) == first or not await is_running(made):
                await asyncio.sleep(POLL_S)
        async with made.user() as user:
            assert await user.allocate() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_it_ends_when_the_server_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with relay(tmp_path) as made:
        gone = asyncio.ensure_future(ended(pid_of(made)))
        await asyncio.sleep(0)
        os.kill(made.serving.child.pid, number)
        await gone
        code = await made.serving.child.wait()
        assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)


async def test_a_renewed_certificate_reaches_coturn_too(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    first = authority.issue(cert, key, OWN)
    trusted = ssl.create_default_context(cadata=authority.pem.decode())
    tls = ("--tls-cert", str(cert), "--tls-key", str(key))
    async with relay(tmp_path, *tls) as made:
        # The server itself took another port, so that coturn has 443.
        assert await _shown(trusted) == first
        second = authority.issue(cert, key, OWN)
        os.kill(made.serving.child.pid, signal.SIGHUP)
        async with asyncio.timeout(WAIT_S):
            while await _shown(trusted) != second:
                await asyncio.sleep(POLL_S)


async def _shown(trusted: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection to coturn sees."""
    own = net.bound(MACHINE, socket.SOCK_STREAM, OWN)
    await asyncio.get_running_loop().sock_connect(own, (OWN, 443))
    _, writer = await asyncio.open_connection(
        sock=own, ssl=trusted, server_hostname=OWN
    )
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(found).serial_number
