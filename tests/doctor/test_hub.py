"""The way to a signaling server: what fails is named, what is behind it is skipped."""

from __future__ import annotations

import email.utils
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from meshllm.doctor.check import Check, State
from meshllm.doctor.hub import STEPS, Hub
from signaling.server import ServeOptions, SignalingServer
from tests.fakes.certificates import certify

HOST = "127.0.0.1"


async def looked_at(url: str) -> dict[str, Check]:
    return {check.name: check async for check in Hub(url).checks()}


@asynccontextmanager
async def answering(
    body: str, *, date: float | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server whose every answer is this, given at `date` by its clock."""

    async def answer(_: web.Request) -> web.Response:
        headers = {}
        if date is not None:
            headers["Date"] = email.utils.formatdate(date, usegmt=True)
        return web.Response(text=body, headers=headers)

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
    await site.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


HEALTHY = '{"status": "healthy", "version": "9.9"}'


async def test_a_server_that_is_well(tmp_path: Path) -> None:
    async with SignalingServer(ServeOptions(tmp_path, port=0)) as server:
        found = await looked_at(server.url)
    assert list(found) == list(STEPS)
    assert {check.state for check in found.values()} == {State.OK}
    assert abs(found["clock"].facts["skew_s"]) < 5


async def test_a_name_that_is_none_skips_the_rest() -> None:
    found = await looked_at(f"https://{'x' * 64}.invalid")
    assert found["dns"].state is State.ERROR
    assert "no such host" in found["dns"].text
    assert {found[name].state for name in STEPS[1:]} == {State.SKIPPED}


async def test_a_port_where_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        found = await looked_at(f"http://{HOST}:{taken.getsockname()[1]}")
    assert found["dns"].state is State.OK
    assert found["tcp"].state is State.ERROR
    assert "nothing listens there" in found["tcp"].text
    assert found["clock"].text == "not looked at: tcp failed"


@pytest.mark.parametrize(
    "body", ["<html>Welcome to our hotel</html>", '{"a": 1}', "[]"]
)
async def test_another_page_is_no_signaling_server(body: str) -> None:
    async with answering(body) as url:
        found = await looked_at(url)
    assert found["http"].state is State.ERROR
    assert "no signaling server" in found["http"].text
    assert "hotel" in (found["http"].do or "")


@pytest.mark.parametrize(
    ("ahead_s", "state", "said"),
    [
        (0, State.OK, "as the server's"),
        (100, State.WARNING, "100 s behind the server's"),
        (-100, State.WARNING, "s ahead of the server's"),
        (400, State.ERROR, "others refuse what this node sends"),
        (-400, State.ERROR, "others refuse what this node sends"),
    ],
)
async def test_clocks(ahead_s: int, state: State, said: str) -> None:
    async with answering(HEALTHY, date=time.time() + ahead_s) as url:
        clock = (await looked_at(url))["clock"]
    assert clock.state is state
    assert said in clock.text
    assert clock.facts["skew_s"] == pytest.approx(ahead_s, abs=2)


async def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    async with answering(HEALTHY, tls=tls_of(tmp_path)) as url:
        found = await looked_at(url)
    assert found["tcp"].state is State.OK
    assert found["tls"].state is State.ERROR
    assert "its certificate is not valid" in found["tls"].text


async def test_a_certificate_that_ends_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = tls_of(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with answering(HEALTHY, tls=tls) as url:
        check = (await looked_at(url))["tls"]
    assert check.state is State.WARNING
    assert "TLSv1.3, the certificate lasts 0 days" in check.text
    assert check.facts["ends"] == pytest.approx(time.time() + 86_400, abs=60)


def tls_of(folder: Path) -> ssl.SSLContext:
    certify(folder, [HOST])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context
