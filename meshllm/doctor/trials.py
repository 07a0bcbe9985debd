"""A trial connection to a provider: the same that a question would make."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from meshllm.doctor.check import Check, error, ok
from meshllm.errors import MeshError
from meshllm.node import Node
from meshllm.routing.roster import Provider
from meshllm.transport.link import Link

SETTLE_S: Final = 2.0  # ICE goes on looking for a direct path after a relay has opened
LOOK_S: Final = 0.05
TRY_THERE: Final = (
    "the other lines say what is wrong here; `meshllm doctor` on that machine says what"
    " is wrong there"
)
SIDES: Final = ("local", "remote")


async def try_provider(node: Node, provider: Provider) -> Check:
    """Ends within 10 s, and 2 s more to see whether a relay is left for a direct path.

    The session stays in `node.links`, which closes it.
    """
    clock = asyncio.get_running_loop().time
    name = provider.name
    if provider.id == node.identity.id:
        name += " (this node)"
    began = clock()
    try:
        link = await node.links.get(provider)
    except MeshError as exc:
        return _failed(provider, name, str(exc))
    ms = (clock() - began) * 1000
    first = link.describe()
    await _settle(link)
    now = link.describe()
    if now["path"] is None:
        return _failed(provider, name, "The path was lost as soon as it was there.")
    text = f"{name}: {_way(now)}, connected in {ms:.0f} ms"
    if first["relay"] and not now["relay"]:
        text += ", at first through a relay"
    facts = {
        "name": provider.name,
        "path": now["path"],
        "first_path": first["path"],
        "relay": now["relay"],
        "candidates": now["candidates"],
        "rtt_ms": now["rtt_ms"],
        "connect_ms": round(ms, 1),
        "problem": None,
    }
    return ok("peer", text, facts, about=provider.id)


def _failed(provider: Provider, name: str, problem: str) -> Check:
    facts = {"name": provider.name, "path": None, "problem": problem}
    return error("peer", f"{name}: {problem}", TRY_THERE, facts, about=provider.id)


async def _settle(link: Link) -> None:
    """Until a round trip is known and a relay had its time to be left: nothing tells
    of a better pair, so we look."""
    try:
        async with asyncio.timeout(SETTLE_S):
            while (now := link.describe())["path"] is not None:
                if now["rtt_ms"] is not None and not now["relay"]:
                    return
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        pass


def _way(now: dict[str, Any]) -> str:
    kinds = [str(now["candidates"][side]).partition(" ")[0] for side in SIDES]
    text = f"{'through a relay' if now['relay'] else 'direct'} ({'-'.join(kinds)})"
    if now["rtt_ms"] is not None:
        text += f", {now['rtt_ms']:.0f} ms there and back"
    return text
