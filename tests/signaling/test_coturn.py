"""What is said of a coturn that will not run; the one that runs is in tests/natlab."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from meshllm.errors import ConfigError
from signaling import coturn as room
from signaling.coturn import CoturnProcess
from signaling.coturn_config import Coturn
from signaling.coturn_plan import RelayOptions
from tests.fakes.signaling import serve

LOOPBACK = ipaddress.ip_address("127.0.0.1")

# Answers every STUN request as coturn does, and ends when told by a packet of one byte.
ANSWERS = """#!{python}
import socket, struct, sys
port = int(next(line for line in open(sys.argv[2]) if "listening-port" in line)[15:])
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("127.0.0.1", port))
print("0: : serving", flush=True)
while True:
    data, sender = own.recvfrom(2048)
    if len(data) == 1:
        sys.exit(3)
    value = b"\\0\\1" + struct.pack("!HI", 1, 1)
    body = struct.pack("!HH", 0x20, len(value)) + value
    head = struct.pack("!HHI12s", 0x0101, len(body), 0x2112A442, data[8:20])
    own.sendto(head + body, sender)
"""


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs are found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.defpath}")
    return folder


def write(folder: Path, script: str) -> None:
    program = folder / "turnserver"
    program.write_text(script)
    program.chmod(0o755)


def free_port() -> int:
    """For UDP and TCP, and below those that the system hands out by itself: nobody who
    asks for any port takes it before the room looks at it."""
    kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with suppress(OSError), ExitStack() as bound:
            for kind in kinds:
                probe = bound.enter_context(socket.socket(socket.AF_INET, kind))
                probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def coturn_in(home: Path) -> Coturn:
    port = free_port()
    folder = home / "coturn"
    folder.mkdir(parents=True)
    return Coturn(folder, "s" * 8, "h", (LOOPBACK,), LOOPBACK, port=port)


@asynccontextmanager
async def running(coturn: Coturn) -> AsyncIterator[CoturnProcess]:
    process = CoturnProcess(coturn)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def refusal(coturn: Coturn) -> str:
    process = CoturnProcess(coturn)
    with pytest.raises(ConfigError) as refused:
        await process.start()
    assert not process.is_running
    process.reload_certificate()  # to nobody
    return str(refused.value)


async def test_without_coturn_it_says_how_to_get_it(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(path))
    assert "`apt install coturn`" in await refusal(coturn_in(tmp_path))


async def test_one_that_ends_at_once_says_why(tmp_path: Path, path: Path) -> None:
    write(path, "#!/bin/sh\necho '0: : ERROR: no such realm'\necho ====\nexit 4\n")
    assert await refusal(coturn_in(tmp_path)) == (
        "coturn ended at once. It says: 0: : ERROR: no such realm"
    )


async def test_one_that_says_nothing_is_not_blamed_for_more(
    tmp_path: Path, path: Path
) -> None:
    write(path, "#!/bin/sh\nexit 4\n")
    said = await refusal(coturn_in(tmp_path))
    assert said == "coturn ended at once. It says: It wrote no reason."


async def test_one_that_does_not_answer_is_stopped(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "READY_S", 0.3)
    write(path, "#!/bin/sh\necho waiting\nexec sleep 60\n")
    said = await refusal(coturn_in(tmp_path))
    assert said == "coturn does not answer. It says: waiting"


async def test_a_taken_port_stops_the_whole_server(tmp_path: Path, path: Path) -> None:
    write(path, "#!/bin/sh\nexec sleep 60\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        options = RelayOptions(
            ips=(LOOPBACK,), external=LOOPBACK, port=other.getsockname()[1]
        )
        with pytest.raises(ConfigError, match="is in use"):
            await serve(tmp_path / "home", relay=options).start()


async def test_one_that_ends_is_started_again_and_again(
    tmp_path: Path,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="signaling.coturn")
    monkeypatch.setattr(room, "BACKOFF_S", 0.05)
    write(path, ANSWERS.format(python=sys.executable))
    coturn = coturn_in(tmp_path)
    async with running(coturn) as process:
        for _ in range(2):
            assert process.is_running
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"x", ("127.0.0.1", coturn.port))
            async with asyncio.timeout(10):
                while process.is_running:
                    await asyncio.sleep(0.01)
                while not process.is_running:
                    await asyncio.sleep(0.01)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    ended = ("WARNING", "coturn ended with 3; starting it again")
    assert said.count(ended) == 2
    assert said.count(("DEBUG", "coturn: 0: : serving")) == 3


async def test_one_that_cannot_be_started_again_is_tried_on(
    tmp_path: Path,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(room, "BACKOFF_S", 0.02)
    write(path, ANSWERS.format(python=sys.executable))
    coturn = coturn_in(tmp_path)
    async with running(coturn) as process:
        write(path, "#!/bin/sh\nexit 1\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"x", ("127.0.0.1", coturn.port))
        async with asyncio.timeout(10):
            while "cannot be started again yet" not in caplog.text:
                await asyncio.sleep(0.01)
            assert not process.is_running
            write(path, ANSWERS.format(python=sys.executable))
            while not process.is_running:
                await asyncio.sleep(0.01)
