"""`python -m tests.natlab.settle FOLDER LINK NAME…`: a mesh and its members.

A process, because a test can enter a namespace only with a new one; and one for all of
them, because each command takes a second to start.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from meshllm.founding import init
from meshllm.joining import invite, join
from meshllm.node import Node, NodeOptions


async def main(root: Path, link: str, names: list[str]) -> None:
    owner = root / "owner"
    await init(owner, link, name="owner")
    async with Node(NodeOptions(owner, lan=False)) as node:
        await node.joined()
        for name in names:
            invited = await invite(owner, name=name, role="member", offline=True)
            joined = await join(root / name, invited.link)
            if joined.is_provisional:
                raise RuntimeError(f"{name} got no membership: {joined.problem}")


if __name__ == "__main__":
    folder, link, *names = sys.argv[1:]
    asyncio.run(main(Path(folder), link, names))
