"""`python -m tests.natlab.browser …` is `meshllm …`, whose offers Chromium makes.

The node is ours: identity, signaling, sealing, HELLO, session, API. The peer connection
is the browser's own, with what only browsers do: `.local` names for their addresses,
and behind a UDP block a gathering that takes longer than anybody waits.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from meshllm.cli import main
from meshllm.errors import PeerUnreachable
from meshllm.protocol.description import Candidate, Description, from_sdp, to_sdp
from meshllm.transport import introduce
from meshllm.transport.health import Health
from meshllm.transport.inbox import Inbox
from meshllm.transport.pair import kind_of
from meshllm.transport.peer import Peer
from meshllm.transport.policy import Policy
from meshllm.transport.servers import IceServer
from tests.natlab.devtools import Page, chromium_page

PAGE = Path(__file__).with_name("page.html")


class Paths:
    """The peer connections of one page, by number."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.open: dict[int, BrowserPeer] = {}
        self.numbers = itertools.count(1)
        page.on_told = self._on_told
        page.listen()

    def _on_told(self, text: str) -> None:
        said = json.loads(text)
        if (peer := self.open.get(said.pop("id"))) is not None:
            ((what, value),) = said.items()
            peer.on_told(what, value)


class BrowserPeer:
    """What `meshllm.transport.peer.Peer` is to those who dial."""

    page: ClassVar[Page]
    paths: ClassVar[Paths | None] = None
    answer = Peer.answer
    is_stalled = False
    is_lan = False
    rtt_s = None

    def __init__(self, paths: Paths) -> None:
        self.on_low: Callable[[], None] = lambda: None
        self.on_closed: Callable[[str], None] = lambda reason: None
        self.on_stall: Callable[[], None] = lambda: None
        self.local: Description
        self.observed_fingerprint = b""
        self._page, self._open = paths.page, paths.open
        self._number = next(paths.numbers)
        self._open[self._number] = self
        self._inbox = Inbox()
        self._described, self._opened = asyncio.Event(), asyncio.Event()
        self._found: asyncio.Queue[Candidate | None] = asyncio.Queue()
        self._answer: Description
        self._pair: list[tuple[str, str, int]] = []
        self._given = self._taken = 0  # bytes
        self._lost_why: str | None = None

    @classmethod
    async def offer(
        cls,
        servers: Sequence[IceServer],
        *,
        policy: Policy = "all",
        health: Health | None = None,
        is_lan: bool = False,
    ) -> Self:
        """Before any candidate: the peer may begin to gather its own."""
        cls.paths = cls.paths or Paths(cls.page)
        peer = cls(cls.paths)
        peer._call("offer", _config(servers, policy))
        await peer._described.wait()
        return peer

    async def accept(self, remote: Description) -> None:
        self._answer = remote
        self._call("accept", to_sdp(remote, kind="answer"))

    def add(self, candidates: Sequence[Candidate], *, is_complete: bool) -> None:
        some = replace(self._answer, candidates=tuple(candidates))
        lines = to_sdp(some, kind="answer").splitlines()
        found = [line[2:] for line in lines if line.startswith("a=candidate:")]
        self._call("add", found)

    async def trickle(self) -> AsyncIterator[tuple[tuple[Candidate, ...], bool]]:
        """As the page finds them, also after the path is open."""
        is_complete = False
        while not is_complete:
            found = [await self._found.get()]
            while not self._found.empty():
                found.append(self._found.get_nowait())
            is_complete = None in found
            yield tuple(one for one in found if one is not None), is_complete

    async def opened(self, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            await self._opened.wait()
        if self._lost_why is not None:
            raise PeerUnreachable(f"No connection: {self._lost_why}.")

    def verdict(self) -> str:
        return self._lost_why or "the browser's connection is not open yet"

    @property
    def own_fingerprint(self) -> bytes:
        return self.local.fingerprint

    @property
    def kind(self) -> str:
        (local, *_), (remote, *_) = self._pair
        return kind_of(local, remote)

    @property
    def candidates(self) -> dict[str, str]:
        sides = zip(("local", "remote"), self._pair, strict=True)
        return {side: f"{kind} {host}:{port}" for side, (kind, host, port) in sides}

    @property
    def buffered(self) -> int:
        return self._given - self._taken

    @property
    def on_message(self) -> Callable[[bytes], None]:
        return self._inbox.listener

    @on_message.setter
    def on_message(self, callback: Callable[[bytes], None]) -> None:
        self._inbox.listen(callback)

    def send(self, message: bytes) -> None:
        if self._lost_why is None:
            self._given += len(message)
            self._call("send", base64.b64encode(message).decode())

    async def close(self) -> None:
        if self._open.pop(self._number, None) is not None:
            self._lost_why = self._lost_why or "it was closed"
            self._found.put_nowait(None)
            self._call("close")

    def on_told(self, what: str, value: Any) -> None:
        match what:
            case "sdp":
                self.local = from_sdp(value)
                self._described.set()
            case "candidate":
                self._on_candidate(value)
            case "pair":
                self._pair = value
            case "opened":
                self.observed_fingerprint = base64.b64decode(value)
                self._opened.set()
            case "message":
                if not self._inbox.take(base64.b64decode(value)):
                    self._lost("too much came before it was heard")
            case "low":
                self._taken = value
                self.on_low()
            case "closed":
                self._lost(value)

    def _on_candidate(self, line: str | None) -> None:
        if line is None:
            self._found.put_nowait(None)
            return
        # It is read as part of an offer, as strictly as all of it.
        offer = to_sdp(replace(self.local, is_complete=False), kind="offer")
        for candidate in from_sdp(f"{offer}a={line}\r\n").candidates:
            self._found.put_nowait(candidate)

    def _lost(self, reason: str) -> None:
        if self._lost_why is not None:
            return
        self._lost_why = reason
        if self._opened.is_set():
            self.on_closed(reason)
        self._opened.set()

    def _call(self, function: str, *args: Any) -> None:
        self._page.call(function, self._number, *args)


def _config(servers: Sequence[IceServer], policy: Policy) -> dict[str, Any]:
    ice = [
        {
            "urls": server.urls,
            "username": server.username or "",
            "credential": server.credential or "",
        }
        for server in servers
    ]
    return {
        "iceServers": ice,
        "iceTransportPolicy": "relay" if policy == "relay" else "all",
    }


if __name__ == "__main__":
    with chromium_page(PAGE) as page:
        BrowserPeer.page = page
        setattr(introduce, "Peer", BrowserPeer)  # noqa: B010 - of another class
        main()
