"""The asker: opens streams, reads stamped tokens, and says how late each one was."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field

import aiohttp

STAMP = re.compile(rb'"t":(\d+)')
BEGIN_TOKENS = 50  # of a stream: while all of them begin at once


@dataclass(slots=True)
class Measured:
    """Milliseconds for each first token and each token; tokens and seconds in all."""

    first_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    steady_ms: list[float] = field(default_factory=list)  # without the beginning
    gap_ms: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


def percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) * percent // 100]


async def ask(
    http: aiohttp.ClientSession, url: str, wish: dict[str, int], into: Measured
) -> None:
    """One answer, read to its end. RuntimeError when it is cut."""
    body = {"model": "bench:1b", "messages": [], "bench": wish}
    begun = time.monotonic_ns()
    before = 0
    tail = b""
    count = 0
    async with http.post(f"{url}/api/chat", json=body) as response:
        async for data in response.content.iter_any():
            now = time.monotonic_ns()
            if not count:
                into.first_ms.append((now - begun) / 1e6)
            whole, newline, rest = (tail + data).rpartition(b"\n")
            tail = rest
            stamps = STAMP.findall(whole + newline)
            count += len(stamps)
            if wish["rate"]:
                late_ms = [(now - int(stamp)) / 1e6 for stamp in stamps]
                into.late_ms += late_ms
                if count > BEGIN_TOKENS:
                    into.steady_ms += late_ms
                if before:
                    into.gap_ms.append((now - before) / 1e6)
                before = now
    if count != wish["tokens"]:
        raise RuntimeError(f"{count} of {wish['tokens']} tokens came from {url}")
    into.tokens += count


async def load(url: str, streams: int, wish: dict[str, int]) -> Measured:
    """`streams` answers at once."""
    measured = Measured()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), read_bufsize=1 << 20
    ) as http:
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(streams):
                tasks.create_task(ask(http, url, wish, measured))
        measured.seconds = time.monotonic() - begun
    return measured


async def firsts(url: str, count: int) -> Measured:
    """`count` short answers, one after another on one kept connection."""
    measured = Measured()
    async with aiohttp.ClientSession() as http:
        for _ in range(count):
            await ask(http, url, {"tokens": 1, "rate": 0}, measured)
    return measured
