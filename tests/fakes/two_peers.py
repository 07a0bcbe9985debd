"""Two peers in one process, as a program: prints how they reached each other as JSON.

Run as `python -m tests.fakes.two_peers`, in a network namespace for instance.
"""

from __future__ import annotations

import asyncio
import json
import sys

from meshllm.transport.peer import Peer


async def connect() -> tuple[Peer, Peer]:
    """The offerer and the answerer, with an open channel between them."""
    one = await Peer.offer([])
    other = await Peer.answer(one.local, [])
    await one.accept(other.local)
    await asyncio.gather(one.opened(10), other.opened(10))
    return one, other


async def main() -> None:
    one, other = await connect()
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    other.on_message = heard.set_result
    one.send(b"hello")
    found = {"heard": (await heard).decode(), "kind": one.kind, **one.candidates}
    await asyncio.gather(one.close(), other.close())
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
