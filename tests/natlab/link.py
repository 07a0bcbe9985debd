"""Lines between namespaces, with a scripted delay and loss: no netem is needed.

A line is a pair of TUN devices. One process of its own carries the packets of all lines
(so that no other Python makes them wait), and the devices live and die with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import heapq
import itertools
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from tests.natlab.net import inside, ip

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65_536
BATCH = 64  # packets read from a device before the others have their turn
QUEUE = 5_000  # packets that may wait for us
ALL_PASS = "."
LOST = "x"
Flow = tuple[int, int, float, str]  # from, to, delay in ms, loss


@dataclass(frozen=True, slots=True)
class End:
    """A device that the line makes in a namespace."""

    namespace: str
    device: str


@dataclass(frozen=True, slots=True)
class Line:
    """`loss` is played over and over, on its own for either way: `.` passes, `x` is
    lost."""

    a: End
    b: End
    delay_ms: float
    loss: str = ALL_PASS


def percent(lost: float, number: int = 0) -> str:
    """The `number`th script of 1,000 packets that loses so many: in bursts as if by
    chance (what is regular would beat with what is sent regularly), always the same."""
    order = sorted(
        range(1000), key=lambda n: hashlib.sha256(f"{number} {n}".encode()).digest()
    )
    gone = frozenset(order[: round(lost * 10)])
    return "".join(LOST if n in gone else ALL_PASS for n in range(1000))


@contextmanager
def lines(*wanted: Line) -> Iterator[subprocess.Popen[str]]:
    """The devices, up and without addresses, while this lasts."""
    flows: list[Flow] = []
    with ExitStack() as stack:
        for line in wanted:
            a, b = (stack.enter_context(_device(end)) for end in (line.a, line.b))
            flows += [
                (a, b, line.delay_ms, line.loss),
                (b, a, line.delay_ms, line.loss),
            ]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.natlab.link"],
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=[flow[0] for flow in flows],
        )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(flows) + "\n")
        process.stdin.flush()
        yield process
    finally:
        process.stdin.close()
        process.wait()


@contextmanager
def _device(end: End) -> Iterator[int]:
    """A TUN device that is up, until every process has closed it."""
    with inside(end.namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        request = struct.pack("16sH22x", end.device.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(device, TUNSETIFF, request)
        ip(end.namespace, f"link set {end.device} up txqueuelen {QUEUE}")
        yield device
    finally:
        os.close(device)


def carry(flows: Iterable[Flow], until: int) -> None:
    """Passes packets on until the file `until` has something to read, or ends."""
    ways = {
        source: (to, round(delay_ms * 1e6), itertools.cycle(loss))
        for source, to, delay_ms, loss in flows
    }
    under_way: list[tuple[int, int, int, bytes]] = []
    numbers = itertools.count()  # packets that are due together stay in order
    watched = [until, *ways]
    while True:
        wait_s = None
        if under_way:
            wait_s = max(0, under_way[0][0] - time.monotonic_ns()) / 1e9
        # epoll and poll count in milliseconds, select in microseconds.
        ready, _, _ = select.select(watched, (), (), wait_s)
        if until in ready:
            return
        now = time.monotonic_ns()
        for source in ready:
            to, delay_ns, script = ways[source]
            for packet in _packets(source):
                if not _is_chatter(packet) and next(script) != LOST:
                    arrival = (now + delay_ns, next(numbers), to, packet)
                    heapq.heappush(under_way, arrival)
        now = time.monotonic_ns()
        while under_way and under_way[0][0] <= now:
            _, _, to, packet = heapq.heappop(under_way)
            with suppress(OSError):  # a device that is down loses what comes
                os.write(to, packet)


def _is_chatter(packet: bytes) -> bool:
    """Sent by the kernel to IPv6's multicast groups: it would upset the script, and
    there is nobody but the other end."""
    return packet[0] >> 4 == 6 and packet[24] == 0xFF


def _packets(source: int) -> Iterator[bytes]:
    for _ in range(BATCH):
        try:
            yield os.read(source, PACKET)
        except BlockingIOError:
            return


if __name__ == "__main__":
    carry(json.loads(sys.stdin.readline()), sys.stdin.fileno())
