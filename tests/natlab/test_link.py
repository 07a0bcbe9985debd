"""Lines between namespaces: what is scripted is what happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.natlab import net
from tests.natlab.link import ALL_PASS, End, Line, lines, percent

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
DELAY_MS = 20.0
LOSS = "..x.x....."
WAY = """
addr add {own}/32 dev wan0
route add {other}/32 dev wan0 src {own}
"""
HERE, THERE = "10.99.0.1", "10.99.0.2"


@contextmanager
def pair(loss: str = ALL_PASS) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two UDP sockets, a line of 20 ms between them."""
    line = Line(End("here", "wan0"), End("there", "wan0"), DELAY_MS, loss)
    with net.namespaces("here", "there"), lines(line):
        for name, own, other in (("here", HERE, THERE), ("there", THERE, HERE)):
            net.ip(name, WAY.format(own=own, other=other))
        made = [
            net.bound(name, socket.SOCK_DGRAM, host)
            for name, host in (("here", HERE), ("there", THERE))
        ]
        for one in made:
            one.settimeout(5)
        yield made[0], made[1]
        for one in made:
            one.close()


def test_exactly_the_scripted_packets_are_lost_and_the_others_stay_in_order() -> None:
    with pair(LOSS) as (here, there):
        for number in range(100):
            here.sendto(bytes([number]), there.getsockname())
        kept = [number for number in range(100) if LOSS[number % len(LOSS)] == "."]
        assert [there.recv(9)[0] for _ in kept] == kept


def test_a_packet_takes_the_delay_and_no_less() -> None:
    taken_ms = []
    with pair() as (here, there):
        for _ in range(10):
            begun = time.monotonic()
            here.sendto(b"", there.getsockname())
            there.recv(9)
            taken_ms.append((time.monotonic() - begun) * 1000)
    assert min(taken_ms) >= DELAY_MS
    assert min(taken_ms) < DELAY_MS + 10  # a loose guard: the machine is shared


@pytest.mark.parametrize("lost", [0, 0.5, 5, 20])
def test_a_percentage_is_kept_to_the_packet_and_each_line_has_its_own(
    lost: float,
) -> None:
    scripts = {percent(lost, number) for number in range(9)}
    assert {script.count("x") for script in scripts} == {lost * 10}
    assert len(scripts) == (9 if lost else 1)


def test_a_killed_laboratory_is_swept_away_and_a_living_one_is_not() -> None:
    script = """
import sys
from tests.natlab import net
from tests.natlab.link import End, Line, lines
with net.namespaces("a", "b"), lines(Line(End("a", "wan0"), End("b", "wan0"), 1.0)):
    print(net.PREFIX, flush=True)
    sys.stdin.read()
"""
    labs = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    try:
        killed, living = (_said(lab).strip() for lab in labs)
        os.kill(labs[0].pid, signal.SIGKILL)
        labs[0].wait()
        assert (net.NAMED / f"{killed}a").exists()
        net.sweep()
        assert not (net.NAMED / f"{killed}a").exists()
        assert not (net.NAMED / f"{killed}b").exists()
        assert (net.NAMED / f"{living}a").exists()
    finally:
        for lab in labs:
            lab.communicate()
    assert not (net.NAMED / f"{living}a").exists()


def _said(lab: subprocess.Popen[str]) -> str:
    assert lab.stdout is not None
    return lab.stdout.readline()
