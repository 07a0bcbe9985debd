"""A mailbox of a signaling server, as one of the two who meet there (§3.2, §3.3)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from meshllm.errors import Code, MeshError, NotAllowed, PeerGone, PeerUnreachable
from meshllm.identity import Identity
from meshllm.protocol.pairing import AGAIN, LATE
from meshllm.transport.signaling import SignalingClient, SignalingHandlers
from meshllm.trust.keys import PeerId

LEFT: Final = f"The other machine has gone away. {AGAIN}"


class Mailbox:
    """Letters to the other machine, and from it. `hub` and `server` are the signaling
    server's address and key."""

    def __init__(self, hub: str) -> None:
        self.hub = hub
        self.number = 0
        self._client: SignalingClient | None = None
        self._news: asyncio.Queue[bytes | MeshError] = asyncio.Queue()

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, hub: str, server: PeerId | None, owner: Identity, chain: Sequence[str]
    ) -> AsyncIterator[Mailbox]:
        """A new one. It is closed when the block ends."""
        async with cls(hub)._logged_in(server, owner, chain) as mailbox:
            mailbox.number = await mailbox._live.open_mailbox()
            yield mailbox

    @classmethod
    @contextlib.asynccontextmanager
    async def joined(
        cls, hub: str, number: int, newcomer: Identity
    ) -> AsyncIterator[Mailbox]:
        """PeerUnreachable when there is none by that number, NotAllowed when two are in
        it already."""
        async with cls(hub)._logged_in(None, newcomer, ()) as mailbox:
            mailbox.number = number
            await mailbox._live.join_mailbox(number)
            yield mailbox

    @property
    def server(self) -> PeerId | None:
        return self._live.server

    async def send(self, letter: bytes) -> None:
        try:
            await self._live.post(letter)
        except PeerGone as error:
            raise PeerUnreachable(LEFT) from error

    async def receive(self) -> bytes:
        """The next letter. PeerUnreachable when the other one, or the server, is gone;
        NotAllowed after ten minutes."""
        news = await self._news.get()
        if isinstance(news, MeshError):
            raise news
        return news

    @property
    def _live(self) -> SignalingClient:
        assert self._client is not None
        return self._client

    @contextlib.asynccontextmanager
    async def _logged_in(
        self, server: PeerId | None, identity: Identity, chain: Sequence[str]
    ) -> AsyncIterator[Mailbox]:
        handlers = SignalingHandlers(
            on_letter=self._news.put_nowait,
            on_mailbox_closed=self._closed,
            on_state=self._state,
        )
        async with SignalingClient.once(
            self.hub, server, identity, chain=chain, handlers=handlers
        ) as self._client:
            yield self

    def _closed(self, code: Code) -> None:
        is_late = code is Code.TIMEOUT
        self._news.put_nowait(
            NotAllowed(LATE, code) if is_late else PeerUnreachable(LEFT)
        )

    def _state(self, is_up: bool, why: str | None) -> None:
        if not is_up:
            self._news.put_nowait(PeerUnreachable(f"{why} {AGAIN}"))
