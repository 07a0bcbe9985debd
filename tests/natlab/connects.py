"""`python -m tests.natlab.connects HOME COUNT`: how long first questions wait on a LAN.

Each dials its provider anew, from the request for a session to the first frame that can
be sent in it. Prints a JSON list of milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from meshllm.errors import Code
from meshllm.node import Node, NodeOptions


async def main(home: Path, count: int) -> list[float]:
    took_ms = []
    async with Node(NodeOptions(home)) as node:
        await node.joined()
        (provider,) = node.roster.providers
        for _ in range(count):
            begun = time.monotonic()
            link = await node.links.get(provider)
            took_ms.append((time.monotonic() - begun) * 1000)
            assert link.wire is not None and link.wire.carrier.kind == "lan"
            await link.close(Code.CANCELLED, "measured")
    return took_ms


if __name__ == "__main__":
    took_ms = asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
    sys.stdout.write(json.dumps({"took_ms": took_ms}) + "\n")
