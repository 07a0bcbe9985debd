"""Many peers at once: connect times, gaps between tokens, what a session costs.

The peers are nodes of one process, as an asker each: a process each would measure this
machine's memory. A node may log in 16 times, hence the homes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import orjson

from bench.load import percentile
from bench.rig import Rig, rss_kib, udp_dropped
from meshllm.joining import invite, join
from meshllm.node import Node, NodeOptions
from meshllm.routing.seam import Ask

PER_HOME = 16  # the hub's limit for one key
SECONDS = 10


async def crowd(rig: Rig, peers: int, rate: int) -> dict[str, float]:
    """`peers` sessions with the rig's provider, each reading `rate` tokens a second."""
    homes = [rig.homes / f"crowd{n}" for n in range(-(-peers // PER_HOME))]
    for home in homes:
        invited = await invite(rig.homes / "home", role="member", offline=True)
        await join(home, invited.link)
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(_node(homes[n // PER_HOME]))
            for n in range(peers)
        ]
        for node in nodes:
            await node.joined(120)
        share_kib = rss_kib(rig.share_pid)
        connect_ms = [await _connect(node) for node in nodes]
        session_kib = (rss_kib(rig.share_pid) - share_kib) / peers
        gaps = await asyncio.gather(*(_read(node, rate) for node in nodes))
        dropped = udp_dropped([rig.share_pid, os.getpid()])
        every = sorted(gap for each in gaps for gap in each)
    return {
        "connect p50 ms": statistics.median(connect_ms),
        "connect p99 ms": percentile(connect_ms, 99),
        "gap p50 ms": percentile(every, 50),
        "gap p99 ms": percentile(every, 99),
        "UDP packets dropped": dropped,
        "provider KiB per session": session_kib,
    }


def _node(home: Path) -> Node:
    return Node(NodeOptions(home, lan=False))


async def _connect(node: Node) -> float:
    (provider,) = node.roster.providers
    begun = time.monotonic()
    await node.links.get(provider)
    return (time.monotonic() - begun) * 1000


async def _read(node: Node, rate: int) -> list[float]:
    """Milliseconds between one arrival and the next."""
    wish = {"tokens": rate * SECONDS, "rate": rate}
    body = orjson.dumps({"model": "bench:1b", "messages": [], "bench": wish})
    id, kind = secrets.token_hex(8), "application/json"
    answer = await node.mesh.ask(
        Ask(id, "POST", "/api/chat", "bench:1b", None, kind, body)
    )
    gaps, before, tokens = [], 0.0, 0
    async for data in answer:
        now = time.monotonic() * 1000
        tokens += data.count(b'"t":')
        if before:
            gaps.append(now - before)
        before = now
    if tokens != wish["tokens"]:
        raise RuntimeError(f"{tokens} of {wish['tokens']} tokens came")
    return gaps
