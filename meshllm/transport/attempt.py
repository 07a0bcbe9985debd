"""An attempt at a connection: it ends in time, with a proven wire or with why not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from meshllm.errors import PeerUnreachable
from meshllm.protocol.envelope import Offer
from meshllm.transport.peer import Peer
from meshllm.transport.wire import Wire
from meshllm.trust.admission import Admission
from meshllm.trust.keys import PeerId, short

CONNECT_S = 9.0  # with the session's beginning an attempt ends within 10 s


@dataclass(frozen=True, slots=True)
class Introduced:
    """A proven wire and who is at its other end. `offer`, with its digest, is what
    was answered; None on the side that dialled."""

    wire: Wire
    admission: Admission
    path: bytes
    offer: tuple[Offer, bytes] | None = None
    is_lan: bool = False
    """Found and asked on the LAN: the signaling server may know nothing of it."""


class Attempts:
    """Those of one node."""

    def __init__(self) -> None:
        self._closing: set[asyncio.Task[None]] = set()

    def until(self) -> float:
        """When one that begins now has to be over."""
        return asyncio.get_running_loop().time() + CONNECT_S

    async def in_time(
        self, until: float, peer: Peer, other: PeerId, work: Awaitable[Introduced]
    ) -> Introduced:
        """Lets go of the peer connection when it comes to nothing, and says why."""
        try:
            async with asyncio.timeout_at(until):
                return await work
        except TimeoutError:
            why = peer.verdict()
            self._let_go(peer)
            raise PeerUnreachable(
                f"No connection to {short(other)} within {CONNECT_S:g} s: {why}."
            ) from None
        except BaseException:
            self._let_go(peer)
            raise

    def _let_go(self, peer: Peer) -> None:
        """Relays are given back meanwhile: whoever waits has waited enough."""
        task = asyncio.create_task(peer.close(), name="let go of a peer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        await asyncio.gather(*self._closing)
