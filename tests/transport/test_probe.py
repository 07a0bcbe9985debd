"""What single servers are asked, and the words for what goes wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshllm.errors import PeerUnreachable
from meshllm.transport import probe
from meshllm.transport.probe import StunSocket, allocated, resolve
from meshllm.transport.servers import IceServer, Server, read_url
from tests.fakes.certificates import certify
from tests.fakes.stun import PUBLIC, StunServer
from tests.fakes.turn import TurnServer

HOST = "127.0.0.1"


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        yield server.getsockname()[1]


def server(url: str, credential: str = "secret") -> Server:
    found = read_url(url, IceServer((url,), "user", credential))
    assert found is not None
    return found


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A TCP port that takes connections and says nothing."""
    server = await asyncio.start_server(lambda reader, writer: None, HOST, 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_stun_server_says_how_it_sees_the_socket() -> None:
    async with StunServer.running(other_port=3479) as port, StunSocket.bound(HOST) as s:
        answer = await s.ask((HOST, port))
        own = s.transport.get_extra_info("sockname")[1]
    assert answer.mapped == (PUBLIC, own)
    assert (answer.server, answer.other_port) == ((HOST, port), 3479)
    assert 0 < answer.ms < 1000


async def test_one_socket_asks_several_at_once() -> None:
    async with (
        StunServer.running() as one,
        StunServer.running() as other,
        StunSocket.bound(HOST) as here,
    ):
        answers = await asyncio.gather(here.ask((HOST, one)), here.ask((HOST, other)))
    assert [answer.server[1] for answer in answers] == [one, other]


async def test_a_silent_server_is_not_waited_for_long(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "ANSWER_S", 0.05)
    async with StunSocket.bound(HOST) as here:
        with pytest.raises(PeerUnreachable, match="no answer"):
            await here.ask((HOST, silent))


async def test_what_is_not_stun_is_heard_apart() -> None:
    async with StunSocket.bound(HOST) as one, StunSocket.bound(HOST) as other:
        one.send(b"hello", other.transport.get_extra_info("sockname"))
        data, source = await other.heard.get()
    assert data == b"hello"
    assert source == one.transport.get_extra_info("sockname")


async def test_a_relay_is_given_back() -> None:
    async with TurnServer.running("user", "secret") as relay:
        async with allocated(server(relay.url)) as allocation:
            assert allocation.relayed[0] == HOST
            assert allocation.server[0] == HOST
            assert relay.released == 0
        assert relay.released == 1


async def test_what_comes_to_the_relay_tells_its_sender() -> None:
    async with (
        TurnServer.running("user", "secret") as relay,
        StunSocket.bound(HOST) as here,
        allocated(server(relay.url)) as allocation,
    ):
        own = here.transport.get_extra_info("sockname")
        await allocation.send(b"out of the relay", own)
        assert await here.heard.get() == (b"out of the relay", allocation.relayed)
        here.send(b"into the relay", allocation.relayed)
        assert await allocation.heard.get() == (b"into the relay", own)


async def test_a_credential_that_is_refused_is_named() -> None:
    async with TurnServer.running("user", "secret") as relay:
        with pytest.raises(PeerUnreachable, match="refuses the credential"):
            async with allocated(server(relay.url, "wrong")):
                pass


async def test_a_silent_relay_is_not_waited_for_long(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "ALLOCATE_S", 0.05)
    with pytest.raises(PeerUnreachable, match="no answer"):
        async with allocated(server(f"turn:{HOST}:{silent}")):
            pass


async def test_a_relay_that_vanishes_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "RELEASE_S", 0.05)
    async with TurnServer.running("user", "secret") as relay:
        async with asyncio.timeout(5):  # aioice would ask for 63 s
            async with allocated(server(relay.url)):
                relay.is_silent = True
    assert relay.released == 0


async def test_a_port_where_nobody_listens() -> None:
    async with listening() as port:
        pass
    with pytest.raises(PeerUnreachable, match="nothing listens there"):
        async with allocated(server(f"turn:{HOST}:{port}?transport=tcp")):
            pass


async def test_a_certificate_that_nobody_signed_is_named(tmp_path: Path) -> None:
    certify(tmp_path, [HOST])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    async with listening(tls) as port:
        with pytest.raises(PeerUnreachable, match=r"not valid \(.*certificate"):
            async with allocated(server(f"turns:{HOST}:{port}?transport=tcp")):
                pass


async def test_a_port_without_tls_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, HOST, 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        with pytest.raises(PeerUnreachable, match="does not speak TLS"):
            async with allocated(server(f"turns:{HOST}:{port}?transport=tcp")):
                pass


async def test_a_name_that_cannot_be_is_no_host() -> None:
    assert await resolve(HOST, 3478) == [(HOST, 3478)]
    with pytest.raises(PeerUnreachable, match="no such host"):
        await resolve(f"{'x' * 64}.invalid", 3478)
