"""The hub's WebSockets on the wire: handshake, frames, silence, strangers' bytes."""

from __future__ import annotations

import asyncio
import random
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from meshllm.errors import Code
from meshllm.protocol.signal_codec import decode_hub
from meshllm.protocol.signals import Challenge, Refused
from signaling import server as edge
from signaling import sockets
from signaling.server import SignalingServer
from tests.fakes.signaling import WAIT_S, serve
from tests.fakes.websocket import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frames,
    frame,
    upgrade,
)


class Raw:
    """A socket whose every byte the test decides: `async with Raw(server)`."""

    def __init__(self, server: SignalingServer) -> None:
        self._to = urlsplit(server.url)
        self._frames = Frames()
        self._heard: list[tuple[int, bytes]] = []

    async def __aenter__(self) -> Self:
        port = self._to.port
        self.reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer.write(upgrade(self._to.netloc))
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        assert isinstance(decode_hub((await self.hear())[1]), Challenge)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def say(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def hear(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload."""
        async with asyncio.timeout(WAIT_S):
            while not self._heard:
                data = await self.reader.read(65_536)
                assert data, "the hub has cut the connection"
                self._heard += self._frames.feed(data)
        return self._heard.pop(0)

    async def is_cut(self) -> bool:
        """At once, without a goodbye."""
        try:
            async with asyncio.timeout(WAIT_S):
                rest = [*self._heard, *self._frames.feed(await self.reader.read())]
                return all(opcode != CLOSE for opcode, _ in rest)
        except ConnectionResetError:
            return True


def close_code(heard: tuple[int, bytes]) -> int:
    opcode, payload = heard
    assert opcode == CLOSE
    return int.from_bytes(payload[:2], "big")


# The handshake


async def answered(server: SignalingServer, request: bytes) -> bytes:
    port = urlsplit(server.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


async def test_the_key_is_answered_as_the_rfc_says(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        head = await answered(server, upgrade("localhost", Sec_WebSocket_Key=key))

    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
    assert "Server: meshllm" in lines
    assert "Extensions" not in head.decode()  # no compression


@pytest.mark.parametrize(
    "changed",
    [
        {"Upgrade": ""},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Version": ""},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "c2hvcnQ="},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ"},
        {"Sec_WebSocket_Key": "?????????????????????=="},
    ],
)
async def test_what_is_no_handshake_is_refused(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    async with serve(tmp_path) as server:
        head = await answered(server, upgrade("localhost", **changed))

    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Server: meshllm" in head


async def test_a_server_that_stops_lets_nobody_in(tmp_path: Path) -> None:
    async with serve(tmp_path) as server:
        server._draining = True

        assert b" 503 " in await answered(server, upgrade("localhost"))


def certified(home: Path) -> tuple[Path, Path]:
    """A certificate of localhost for itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    cert, key = home / "cert.pem", home / "key.pem"
    cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return cert, key


async def test_sockets_work_through_tls(tmp_path: Path) -> None:
    cert, key = certified(tmp_path)
    trusting = ssl.create_default_context(cafile=cert)
    trusting.check_hostname = False

    async with (
        serve(tmp_path, tls_cert=cert, tls_key=key) as server,
        aiohttp.ClientSession() as session,
    ):
        url = f"{server.url}/v1/signal"
        socket = await session.ws_connect(url, ssl=trusting)
        assert isinstance(decode_hub(await socket.receive_str()), Challenge)
        await socket.send_str("x" * 40_000)
        assert isinstance(decode_hub(await socket.receive_str()), Refused)
        await socket.receive()

    assert socket.close_code == 4000 + Code.PROTOCOL


# Frames


async def test_pieces_are_one_message_and_a_ping_may_come_between(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path) as server, Raw(server) as raw:
        raw.say(frame(TEXT, b'{"t":', fin=False), frame(PING, b"still there?"))
        assert await raw.hear() == (PONG, b"still there?")

        raw.say(frame(CONTINUATION, fin=False), frame(CONTINUATION, b'"hallo"}'))

        opcode, payload = await raw.hear()
        said = decode_hub(payload)
        assert opcode == TEXT
        assert isinstance(said, Refused)
        assert said.text == "A login comes first."


async def test_a_message_is_limited_whole_and_in_pieces(tmp_path: Path) -> None:
    piece = b" " * 40_000
    async with serve(tmp_path) as server:
        async with Raw(server) as raw:
            raw.say(frame(TEXT, piece, fin=False), frame(CONTINUATION, piece))
            assert close_code(await raw.hear()) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        async with Raw(server) as raw:  # said before it is sent
            raw.say(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
            assert close_code(await raw.hear()) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02{}",  # no mask
        frame(3, b"{}"),
        frame(CONTINUATION, b"{}"),
        frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
        frame(PING, bytes(126)),
        frame(PING, b"x", fin=False),
        b"\xc1" + frame(TEXT, b"{}")[1:],  # compressed, which was not agreed upon
        frame(CLOSE, b"\x00"),
    ],
)
async def test_a_broken_frame_ends_the_socket(tmp_path: Path, data: bytes) -> None:
    async with serve(tmp_path) as server, Raw(server) as raw:
        raw.say(data)

        assert close_code(await raw.hear()) == aiohttp.WSCloseCode.PROTOCOL_ERROR
        assert await raw.reader.read() == b""


@pytest.mark.parametrize(
    "flood",
    [
        [frame(PING)],
        [frame(PONG)],
        [frame(TEXT, b" ", fin=False), frame(CONTINUATION, b" ", fin=False)],
    ],
    ids=["pings", "pongs", "pieces"],
)
async def test_a_flood_of_small_frames_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flood: list[bytes]
) -> None:
    monkeypatch.setattr(edge, "TICK_S", 60)
    async with serve(tmp_path) as server, Raw(server) as raw:
        raw.say(*flood, *(flood[-1:] * sockets.PIECES))

        assert await raw.is_cut()


@pytest.mark.parametrize("seed", range(8))
async def test_no_bytes_stop_the_server(tmp_path: Path, seed: int) -> None:
    bytes_of = random.Random(seed)  # the same bytes for the same seed
    async with serve(tmp_path) as server:
        async with Raw(server) as raw:
            raw.say(bytes_of.randbytes(3_000))
            raw.say(*(frame(TEXT, bytes_of.randbytes(n)) for n in range(40)))
            await raw.is_cut()

        async with Raw(server) as raw:
            raw.say(frame(PING))
            assert await raw.hear() == (PONG, b"")


# Silence


async def test_who_is_silent_is_asked_and_stays_by_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "TICK_S", 0)
    async with serve(tmp_path) as server, Raw(server) as raw:
        monkeypatch.setattr(sockets, "HEARTBEAT_S", 0)
        for _ in range(3):
            assert await raw.hear() == (PING, b"")
            raw.say(frame(PONG))
        monkeypatch.setattr(sockets, "PONG_S", 0)

        assert await raw.is_cut()


async def test_who_does_not_agree_to_a_close_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "TICK_S", 0)
    monkeypatch.setattr(sockets, "CLOSE_S", 0)
    async with serve(tmp_path) as server, Raw(server) as raw:
        raw.say(frame(TEXT, b"{}"))
        assert isinstance(decode_hub((await raw.hear())[1]), Refused)
        assert close_code(await raw.hear()) == 4000 + Code.PROTOCOL

        assert await raw.is_cut()


async def test_who_closes_is_closed_and_forgotten(tmp_path: Path) -> None:
    async with serve(tmp_path) as server, Raw(server) as raw:
        assert server._hub.counts()["connections"] == 1
        raw.say(frame(CLOSE, b"\x03\xe8bye"))

        assert close_code(await raw.hear()) == aiohttp.WSCloseCode.OK
        assert server._hub.counts()["connections"] == 0
        assert await raw.reader.read() == b""


async def test_stopping_does_not_wait_for_who_never_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "CLOSE_S", 0)
    server = serve(tmp_path)
    await server.start()
    async with Raw(server) as raw:
        await server.stop()

        assert close_code(await raw.hear()) == aiohttp.WSCloseCode.GOING_AWAY
        assert await raw.is_cut()
