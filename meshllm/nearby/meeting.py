"""A node that has just joined looks on the LAN for one that makes it a member."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time

from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.nearby.nearby import Nearby
from meshllm.nearby.ties import Ties
from meshllm.transport.introduce import Introducer


async def meet_owner(identity: Identity, membership: Membership, wait_s: float) -> None:
    """Returns when the membership has come, or after the time."""
    came = asyncio.Event()

    def on_news() -> None:
        if not membership.is_provisional:
            came.set()

    introducer = Introducer(
        identity,
        secrets.token_bytes(16),
        chain=lambda: membership.chain,
        servers=lambda: (),
        decide=lambda chain, id: membership.decide(chain, id, int(time.time())),
    )
    ties = Ties(
        identity,
        membership,
        introducer,
        card=lambda: None,
        on_card=lambda token: None,
        on_left=lambda id: None,
        on_news=on_news,
        names=lambda: {},
    )
    nearby = Nearby(ties, serves=False)
    await nearby.open()
    looking = asyncio.create_task(nearby.run(), name="look for an owner")
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await came.wait()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await nearby.close()
        await introducer.close()
