"""Everything that passes the machine of the relay, looked through for plaintext."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.certificates import Authority
from tests.fakes.commands import commands
from tests.fakes.scripted_ollama import chat_end, chat_line
from tests.natlab import net
from tests.natlab.nat import Kind
from tests.natlab.pair import MODEL, pair
from tests.natlab.sites import VPS, VPS_HOSTS, Site, internet

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ETH_P_ALL = 0x0003
HUB, RELAY = VPS_HOSTS
TOKENS = 200


@dataclass
class Capture:
    """Packets as they passed, whole, from the network layer or the one below on."""

    packets: list[bytes] = field(default_factory=list)

    def with_text(self, text: str) -> list[bytes]:
        return [packet for packet in self.packets if text.encode() in packet]

    def of(self, host: str) -> list[bytes]:
        """From it or to it, over IPv4."""
        return [p for p in self.packets if socket.inet_aton(host) in p[:40]]


@contextmanager
def capture(namespace: str) -> Iterator[Capture]:
    """On every device of the namespace."""
    with net.inside(namespace):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.setblocking(False)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    found = Capture()

    def take() -> None:
        while True:
            try:
                found.packets.append(tap.recv(65_535))
            except BlockingIOError:
                return

    loop = asyncio.get_running_loop()
    loop.add_reader(tap, take)
    try:
        yield found
        take()
    finally:
        loop.remove_reader(tap)
        tap.close()


async def test_no_word_of_a_relayed_answer_can_be_read_at_the_relay(
    tmp_path: Path,
) -> None:
    asker, provider = Site(Kind.SYMMETRIC, 1), Site(Kind.SYMMETRIC, 2)
    prompt, token, plain = (
        f"{n}-{secrets.token_hex(8)}" for n in ("ask", "say", "raw")
    )
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority = Authority()
    ca.write_bytes(authority.pem)
    authority.issue(cert, key, HUB, RELAY)
    with internet([asker, provider]):
        async with commands(tmp_path) as meshllm:
            meshllm.env |= {"MESHLLM_LOOPBACK": "", "SSL_CERT_FILE": str(ca)}
            hub = await meshllm.start(
                *("hub", "signal", "--host", HUB, "--port", "443"),
                *("--public-url", f"https://{HUB}"),
                *("--tls-cert", str(cert), "--tls-key", str(key)),
                *("--coturn", "--turn-host", RELAY, "--turn-ip", RELAY),
                *("--turn-tls-port", "443"),
                at=net.entered(VPS),
            )
            with capture(VPS) as seen:
                async with pair(
                    *(meshllm, hub.said["link"]),
                    asker=asker.host(),
                    provider=provider.host(),
                    hub=VPS,
                ) as made:
                    lines = [chat_line(MODEL, f"{token} ") for _ in range(TOKENS)]
                    made.ollama.script("/api/chat", [*lines, chat_end(MODEL)])
                    answer = await made.ask(prompt)
                assert answer.text == f"{token} " * TOKENS
                assert answer.path == "relay"
                assert any(prompt.encode() in one.raw for one in made.ollama.requests)
                # What is not encrypted would be seen.
                with net.inside(asker.host()):
                    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                with stranger:
                    stranger.sendto(plain.encode(), (RELAY, 9))
                while not seen.with_text(plain):
                    await asyncio.sleep(0.01)

    for site in (asker, provider):
        assert len(seen.of(site.address)) > 20
    for text in (prompt, token, "/api/chat", MODEL):
        assert seen.with_text(text) == []
