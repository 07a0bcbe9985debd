"""From how many places can our socket be seen? As many as the servers offer.

A relay serves as one more: a packet to a relayed address of our own comes back with the
address that the relay saw (RFC 8656 §11.4).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Collection, Sequence
from typing import Final

from meshllm.doctor.nat import Nat, Seen, classify
from meshllm.errors import PeerUnreachable
from meshllm.transport.probe import Address, Reflected, StunSocket, allocated
from meshllm.transport.servers import Server

PASS_S: Final = 0.6  # through a relay and back
TRIES: Final = 3
NO_STUN: Final = b"\x80"  # the first byte of what is neither STUN nor channel data


async def observe(
    here: StunSocket,
    reflected: Sequence[Reflected],
    relays: Sequence[Server],
    own: Collection[str],
) -> Nat:
    """`reflected`: what was asked through `here`; `relays`: servers that give one."""
    seen = [Seen(one.server, one.mapped) for one in reflected]
    if not seen:
        return classify(seen, own)
    seen += await _other_port(here, reflected[0])
    if not relays:
        return classify(seen, own)
    more, is_open = await _through(relays[0], here, seen[0].mapped)
    return classify(seen + more, own, is_open=is_open)


async def _other_port(here: StunSocket, one: Reflected) -> list[Seen]:
    """The same server's other port, if it has one (RFC 5780 §7.4)."""
    if one.other_port in (None, 0, one.server[1]):
        return []
    try:
        answer = await here.ask((one.server[0], int(one.other_port)))
    except PeerUnreachable:
        return []
    return [Seen(answer.server, answer.mapped)]


async def _through(
    server: Server, here: StunSocket, mapped: Address
) -> tuple[list[Seen], bool | None]:
    """How a relay of ours sees the socket, and whether its packets come in unasked."""
    unasked, asked = (b"\x80" + secrets.token_bytes(7) for _ in range(2))
    try:
        async with allocated(server) as relay:
            await relay.send(unasked, mapped)
            is_open = await _heard(here.heard, unasked) is not None
            for _ in range(TRIES):
                here.send(asked, relay.relayed)
                if (source := await _heard(relay.heard, asked)) is not None:
                    return [Seen(relay.relayed, source)], is_open
    except PeerUnreachable:
        pass  # it is one more way to know, not the only one
    return [], None


async def _heard(
    queue: asyncio.Queue[tuple[bytes, Address]], what: bytes
) -> Address | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PASS_S):
            while True:
                data, source = await queue.get()
                if data == what:
                    return source
    return None
