"""The edge: HTTP, WebSockets on loopback, the store, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from meshllm.errors import Code, ConfigError, MeshError, NotAllowed, PeerUnreachable
from meshllm.protocol import login, signals
from meshllm.protocol.signal_codec import decode_hub, encode
from meshllm.transport.signaling import SignalingClient
from signaling import server as edge
from signaling import sockets
from signaling.kept import Admit
from signaling.limits import DEFAULT_LIMITS, Rate
from signaling.server import SignalingServer
from tests.fakes.hubs import Mesh, conn_of, envelope, id_of, key
from tests.fakes.scraped import scraped
from tests.fakes.signaling import identity, register, serve

MESH = Mesh()


async def get(
    server: SignalingServer, path: str, **headers: str
) -> tuple[aiohttp.ClientResponse, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.url + path, headers=headers) as response,
    ):
        return response, await response.text()


# HTTP


@pytest.mark.parametrize(
    "path", ["/", "/health", "/ready", "/metrics", "/v1/signal", "/nowhere"]
)
async def test_every_answer_names_us(tmp_path: Path, path: str) -> None:
    async with serve(tmp_path) as server:
        response, _ = await get(server, path)

        assert response.headers["Server"] == "meshllm"


async def test_the_front_door_says_how_to_join(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        response, text = await get(server, "/")

        assert response.content_type == "text/plain"
        assert "meshllm join LINK" in text


async def test_health_says_how_many(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        await register(server, MESH)

        response, _ = await get(server, "/health")
        _, text = await get(server, "/health", Accept="text/plain")

        body = await response.json()
        assert body["status"] == "healthy"
        assert (body["meshes"], body["providers"]) == (1, 0)
        assert body.keys() >= {"version", "uptime_s", "connections"}
        assert text == "OK"


async def test_metrics_count_and_name_nobody(tmp_path: Path) -> None:
    async with serve(tmp_path) as server, aiohttp.ClientSession() as session:
        await register(server, MESH)
        async with connected(server, "ann"), logged_in(server, "bob") as bob:
            stranger = await dial(server, session)
            await stranger.send_str("{}")
            await last_word(stranger)
            await bob.send(id_of("ann"), conn_of("ann"), bytes(4096))
            with pytest.raises(PeerUnreachable):
                await bob.send(id_of("eve"), None, bytes(4096))
            response, text = await get(server, "/metrics")

    assert response.content_type == "text/plain"
    found = scraped(text)
    hub = {name.removeprefix("meshllm_hub_"): n for name, n in found.items()}
    assert hub["connections"] == hub["members"] == 2
    assert (hub["meshes"], hub["providers"]) == (1, 0)
    assert hub["logins_total"] == 3  # the mesh's registration was one
    assert hub["introductions_total"] == 1
    assert hub["refusals_total{reason=gone}"] == 1
    assert hub["refusals_total{reason=protocol}"] == 1
    assert hub["refusals_total{reason=quota}"] == 0
    for name in ("ann", "bob", "eve", "owner"):
        assert id_of(name) not in text
    assert MESH.id not in text


def logged_in(
    server: SignalingServer, name: str
) -> contextlib.AbstractAsyncContextManager[SignalingClient]:
    return SignalingClient.once(
        server.url, server.id, identity(name), chain=MESH.chain(name)
    )


async def test_ready_is_a_status(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        response, _ = await get(server, "/ready")
        _, text = await get(server, "/ready", Accept="text/plain")

        assert (response.status, await response.json()) == (200, {"ready": True})
        assert text == "OK"


# Options


def test_a_taken_port_is_said_with_a_way_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(tmp_path / "first") as first:
            port = int(first.url.rpartition(":")[2])
            with pytest.raises(ConfigError) as refusal:
                await serve(tmp_path / "second", port=port).start()
            assert str(refusal.value) == (
                f"Port {port} is in use. Try `meshllm signal --port {port + 1}`."
            )

    asyncio.run(main())


async def test_a_second_server_of_one_home_is_refused_and_names_the_first(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path):
        with pytest.raises(ConfigError, match=f"process {os.getpid()}") as refused:
            await serve(tmp_path).start()
        assert "--home DIR" in str(refused.value)
    async with serve(tmp_path):  # the first has let go
        pass


async def test_an_address_that_is_not_ours_is_said(tmp_path: Path) -> None:
    server = serve(tmp_path, host="192.0.2.1", public_url="https://hub.example.org")

    with pytest.raises(ConfigError, match=r"Cannot listen on 192\.0\.2\.1"):
        await server.start()


def test_off_loopback_the_public_address_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--public-url"):
        serve(tmp_path, host="0.0.0.0")
    serve(tmp_path, host="0.0.0.0", public_url="https://hub.example.org")
    for loopback in ("localhost", "127.0.0.2", "::1"):
        serve(tmp_path, host=loopback)


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="go together"):
        serve(tmp_path, tls_cert=tmp_path / "cert.pem")
    with pytest.raises(ConfigError, match=r"--tls-cert .* cannot be read"):
        serve(tmp_path, tls_cert=tmp_path / "c.pem", tls_key=tmp_path / "k.pem")


def test_a_public_address_is_an_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not an address"):
        serve(tmp_path, public_url="hub.example.org")


# The hub's own things


async def test_the_hubs_key_is_its_own_file_and_stays(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        first = server.id
    assert (tmp_path / "hub.key").stat().st_mode & 0o777 == 0o600

    async with serve(tmp_path) as server:
        assert server.id == first

    (tmp_path / "hub.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        await serve(tmp_path).start()


async def test_the_setup_link_is_shown_until_it_was_used(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        first = server.setup_link
        assert first is not None
        assert first.startswith(f"{server.url}/#s1.")
        assert first.endswith(f".{server.id}")

    async with serve(tmp_path) as server:
        token = first.split("#s1.")[1]
        assert server.setup_link == f"{server.url}/#s1.{token}"
        await register(server, MESH)
        assert server.setup_link is None

    async with serve(tmp_path) as server:
        assert server.setup_link is None


async def test_a_hub_that_is_open_or_closed_has_no_setup_link(tmp_path: Path) -> None:
    for policy in (Admit.OPEN, Admit.CLOSED):
        async with serve(tmp_path, admit=policy) as server:
            assert server.setup_link is None


async def test_a_public_address_is_in_the_link(tmp_path: Path) -> None:
    async with serve(tmp_path, public_url="https://hub.example.org/") as server:
        assert server.url == "https://hub.example.org"
        link = server.setup_link
        assert link is not None
        assert link.startswith("https://hub.example.org/#s1.")


# Sockets


async def dial(
    server: SignalingServer, session: aiohttp.ClientSession, **headers: str
) -> aiohttp.ClientWebSocketResponse:
    return await session.ws_connect(server.url + "/v1/signal", headers=headers)


async def last_word(
    socket: aiohttp.ClientWebSocketResponse,
) -> tuple[signals.HubMessage | signals.Unknown | None, int | None]:
    """The last message before the close, and the close's code."""
    said = None
    async for frame in socket:
        said = decode_hub(frame.data)
    return said, socket.close_code


async def test_a_host_that_is_not_this_machine_is_refused(tmp_path: Path) -> None:
    async with serve(tmp_path) as server, aiohttp.ClientSession() as session:
        for host, status in (("evil.example.org", 403), ("[", 400)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                await dial(server, session, Host=host)
            assert refusal.value.status == status
        socket = await dial(server, session, Host="localhost:1234")
        await socket.close()


async def test_with_a_public_address_a_login_is_bound_to_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
    public = "http://hub.example.org"

    async with serve(tmp_path, port=port, public_url=public):
        with pytest.raises(NotAllowed) as refusal:
            url = f"http://127.0.0.1:{port}"
            async with SignalingClient.once(url, None, identity("ann")):
                pass

    assert refusal.value.code is Code.AUTH


async def test_a_message_beyond_the_limit_closes_the_socket(tmp_path: Path) -> None:
    async with serve(tmp_path) as server, aiohttp.ClientSession() as session:
        socket = await dial(server, session)
        await socket.send_str("x" * 65_537)

        _, code = await last_word(socket)

        assert code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_the_hubs_refusal_is_told_and_is_the_close_code(tmp_path: Path) -> None:
    async with serve(tmp_path) as server, aiohttp.ClientSession() as session:
        for say in ("send_str", "send_bytes"):
            socket = await dial(server, session)
            await getattr(socket, say)("{}" if say == "send_str" else b"\xff")

            said, code = await last_word(socket)

            assert isinstance(said, signals.Refused)
            assert said.code is Code.PROTOCOL
            assert code == 4000 + Code.PROTOCOL


async def test_a_silent_stranger_is_closed(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, login_s=0)
    async with (
        serve(tmp_path, limits=limits) as server,
        aiohttp.ClientSession() as session,
    ):
        socket = await dial(server, session)

        said, code = await last_word(socket)

        assert isinstance(said, signals.Refused)
        assert code == 4000 + Code.TIMEOUT


async def test_addresses_come_from_trusted_proxies_only(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, strangers_per_address=1)
    loopback = ipaddress.ip_network("127.0.0.0/8")

    async def codes(*forwarded: str, trusted: bool) -> list[bool]:
        """Whether each of these callers, at the same time, was let in."""
        proxies = (loopback,) if trusted else ()
        async with (
            serve(tmp_path, limits=limits, trusted_proxies=proxies) as server,
            aiohttp.ClientSession() as session,
        ):
            let_in = []
            for hops in forwarded:
                socket = await dial(server, session, **{"X-Forwarded-For": hops})
                first = decode_hub((await socket.receive()).data)
                let_in.append(isinstance(first, signals.Challenge))
            return let_in

    assert await codes("192.0.2.1", "192.0.2.2", trusted=False) == [True, False]
    assert await codes("192.0.2.1", "192.0.2.2", trusted=True) == [True, True]
    # What the caller wrote itself comes first, what our proxy saw comes last.
    assert await codes("9.9.9.9, 192.0.2.1", "8.8.8.8,192.0.2.1", trusted=True) == [
        True,
        False,
    ]
    assert await codes("rubbish", "192.0.2.2", trusted=True) == [True, True]
    assert await codes("", "", trusted=True) == [True, False]


async def test_who_does_not_read_is_cut_off_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "UNREAD_BYTES", 64 * 1024)
    fast = Rate(1e9, 10**9)
    limits = replace(DEFAULT_LIMITS, sends=fast, signals=fast, messages=fast)
    async with serve(tmp_path, limits=limits) as server:
        await register(server, MESH)
        async with (
            connected(server, "ann") as slow,
            SignalingClient.once(
                server.url, server.id, identity("bob"), chain=MESH.chain("bob")
            ) as hub,
        ):
            big = envelope(size=12_288)
            with pytest.raises(PeerUnreachable, match="is not connected"):
                while True:
                    await hub.request(
                        signals.Send(0, id_of("ann"), conn_of("ann"), big)
                    )
            del slow


async def test_all_slow_readers_together_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = Rate(1e9, 10**9)
    limits = replace(DEFAULT_LIMITS, sends=fast, signals=fast, messages=fast)
    monkeypatch.setattr(sockets, "UNREAD_ALL_BYTES", 64 * 1024)
    monkeypatch.setattr(edge, "TICK_S", 0)
    async with serve(tmp_path, limits=limits) as server:
        await register(server, MESH)
        async with (
            connected(server, "ann"),
            SignalingClient.once(
                server.url, server.id, identity("bob"), chain=MESH.chain("bob")
            ) as hub,
        ):
            big = envelope(size=12_288)
            with pytest.raises(PeerUnreachable, match="is not connected"):
                while True:
                    await hub.request(
                        signals.Send(0, id_of("ann"), conn_of("ann"), big)
                    )


async def test_a_connection_that_asks_nothing_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "TICK_S", 0)
    async with serve(tmp_path) as server, aiohttp.ClientSession() as session:
        hub = await dial(server, session)
        monkeypatch.setattr(edge, "IDLE_S", 0)
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost:")

        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""

        writer.close()
        await hub.send_str("{}")  # the WebSocket is still there
        assert isinstance((await last_word(hub))[0], signals.Refused)


async def test_when_the_store_fails_nobody_is_told_it_worked(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        server._table._db.execute("DROP TABLE kept")

        with pytest.raises(MeshError):
            await register(server, MESH)


async def test_stopping_says_goodbye(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        server = serve(tmp_path)
        await server.start()
        socket = await dial(server, session)

        (_, code), _ = await asyncio.gather(last_word(socket), server.stop())

    assert code == aiohttp.WSCloseCode.GOING_AWAY


async def test_stopping_while_the_hub_closes_a_socket_is_no_trouble(
    tmp_path: Path,
) -> None:
    async with aiohttp.ClientSession() as session:
        server = serve(tmp_path)
        await server.start()
        socket = await dial(server, session)
        await socket.receive()
        server._sockets.close_all(4000 + Code.AUTH, "Refused.")

        (_, code), _ = await asyncio.gather(last_word(socket), server.stop())

    assert code == 4000 + Code.AUTH


def test_the_server_never_loads_webrtc() -> None:
    """PyAV alone would cost it 50 MB."""
    script = (
        "import sys, signaling.server\n"
        "print(sorted({'aiortc', 'aioice', 'av', 'zeroconf'} & sys.modules.keys()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout.strip() == "[]"


# Memory


class connected:
    """A member's raw socket: logged in, and reading nothing more. Small on our side of
    the test, so that what is measured is the server's."""

    def __init__(self, server: SignalingServer, name: str) -> None:
        self._server = server
        self._name = name
        self._socket = socket.socket()

    async def __aenter__(self) -> socket.socket:
        loop, raw = asyncio.get_running_loop(), self._socket
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        port = int(self._server.url.rpartition(":")[2])
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(
            raw,
            f"GET /v1/signal HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode(),
        )
        data = b""
        while not data.endswith(b"}"):
            data += await loop.sock_recv(raw, 4096)
        challenge = decode_hub(data[data.index(b'{"t"') :])
        assert isinstance(challenge, signals.Challenge)
        await loop.sock_sendall(raw, frame(self._login(challenge)))
        data = b""
        while not data.endswith(b"}"):
            data += await loop.sock_recv(raw, 65_536)
        assert b'"t":"welcome"' in data
        return raw

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    def _login(self, challenge: signals.Challenge) -> signals.Login:
        transcript = login.transcript(
            origin=login.origin(self._server.url),
            server=challenge.server,
            server_nonce=challenge.nonce,
            client=id_of(self._name),
            client_nonce=bytes(32),
            ts=challenge.ts,
        )
        sig = login.sign_login("client", transcript, key(self._name))
        chain = MESH.chain(self._name)
        return signals.Login(
            id_of(self._name), bytes(32), conn_of(self._name), sig, chain
        )


def frame(message: signals.ClientMessage) -> bytes:
    """A masked WebSocket text frame (RFC 6455 §5.2); the mask is zeros."""
    data = encode(message).encode()
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


async def test_a_connection_keeps_nothing_of_what_it_said(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        await register(server, MESH)
        async with connected(server, "ann") as raw:
            loop = asyncio.get_running_loop()
            ping = encode(signals.Ping(1)).encode().ljust(60_000)
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                size = len(ping).to_bytes(2, "big")
                await loop.sock_sendall(raw, b"\x81\xfe" + size + bytes(4) + ping)
                answer = await loop.sock_recv(raw, 4096)
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

    assert b"pong" in answer
    assert after - before < len(ping) / 2


async def test_an_idle_connection_costs_little(tmp_path: Path) -> None:
    many = 100
    limits = replace(DEFAULT_LIMITS, connects=Rate(1, 10_000))
    async with serve(tmp_path, limits=limits) as server:
        await register(server, MESH)
        async with contextlib.AsyncExitStack() as stack:
            for n in range(10):  # what is made once is not counted
                await stack.enter_async_context(connected(server, f"first {n}"))
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                for n in range(many):
                    await stack.enter_async_context(connected(server, f"node {n}"))
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

    # What Python allocated, with the small part of this side. `make bench` has what a
    # process of its own grows by; the goal is 20 KiB.
    assert (after - before) / many < 12 * 1024
