"""The provider's sessions: who is connected, and which session a new path belongs to.

A path is proven (HELLO) when it comes here; its first frame must be OPEN or RESUME. A
session whose path is lost is kept for a while (docs/protocol.md §7), unless its caller
is known to be gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from meshllm.errors import Code, RemoteProtocolError
from meshllm.protocol.frames import Close, Frame, Open, Ping, Resume
from meshllm.protocol.session import Session
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link, Stream
from meshllm.transport.wire import Wire
from meshllm.trust.admission import Admission
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

OPEN_S = 3.0
SESSIONS_PER_PEER = 16
TICK_S = 1.0
QUEUED_S = 10.0  # a request that has not begun is soon asked again elsewhere
REPLAY_MAX = 64 << 20  # bytes that all sessions without a path may hold together
# A client pings every 2 s. When three are missing we ask the signaling server whether
# the client's connection is there: a process that was killed closed it, a machine that
# lost its network did not. After ASK_UNTIL_S the server itself begins to notice that
# nobody answers, so its word no longer tells one from the other.
ASK_FROM_S = 6.0
ASK_EVERY_S = 4.0
ASK_UNTIL_S = 18.0
# When the server says by itself that the client's connection ended, the path has 0.75 s
# to be heard: a killed client's slot shall be free within 1 s. Three more PINGs repair
# the loss of the first at once, as PAD does.
PROBES_S = (0.05, 0.05, 0.05, 0.6)


@dataclass(slots=True)
class Guest:
    """A session of somebody who may ask. The admission is that of the latest path."""

    link: Link
    path: Introduced
    detached_at: float | None = None
    asked_at: float = -ASK_EVERY_S

    @property
    def admission(self) -> Admission:
        return self.path.admission

    @property
    def conn(self) -> bytes | None:
        """Where its offer came from."""
        return self.path.offer[0].conn if self.path.offer is not None else None

    def unheard_s(self, now: float) -> float:
        """How long nothing came from it, with a path or without."""
        return self.path.wire.path.silence_s(now)


async def nobody_knows(path: Introduced, unheard_s: float) -> bool:
    return False


class Sessions:
    """`on_stream` gets every new exchange with the rights it runs under.

    `is_waiting` knows which exchanges have not begun. `has_left` says whether the
    client behind a path, unheard for so many seconds, is certainly gone.
    """

    def __init__(
        self,
        on_stream: Callable[[Stream, Admission], None],
        *,
        is_waiting: Callable[[Stream], bool] = lambda stream: False,
    ) -> None:
        self._on_stream = on_stream
        self._is_waiting = is_waiting
        self.has_left: Callable[[Introduced, float], Awaitable[bool]] = nobody_knows
        self._guests: dict[tuple[PeerId, bytes], Guest] = {}
        self._unattached: set[Wire] = set()
        self._draining = False

    @property
    def guests(self) -> list[Guest]:
        return list(self._guests.values())

    def on_path(self, introduced: Introduced) -> None:
        """A proven wire; it has 3 s to say OPEN or RESUME."""
        wire = introduced.wire
        late = asyncio.get_running_loop().call_later(OPEN_S, wire.close, "no OPEN")
        self._unattached.add(wire)

        def first(wire: Wire, frames: list[Frame]) -> None:
            late.cancel()
            self._unattached.discard(wire)
            self._attach(introduced, frames)

        def closed(wire: Wire, reason: str) -> None:
            late.cancel()
            self._unattached.discard(wire)

        wire.on_frames, wire.on_closed = first, closed

    def recheck(self, check: Callable[[Admission], None]) -> None:
        """Something was revoked: close the sessions that `check` now refuses."""
        for guest in self.guests:
            try:
                check(guest.admission)
            except Exception as error:
                guest.link.end(Code.REVOKED, str(error))

    async def judge(self) -> None:
        """For as long as the node runs: end what nobody waits for any more."""
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as asking:
            while True:
                await asyncio.sleep(TICK_S)
                for guest in self.tick(clock()):
                    asking.create_task(self._ask_after(guest))

    def tick(self, now: float) -> list[Guest]:
        """Ends what has waited too long for a path; returns whom to ask after."""
        self._end_unwanted(now)
        doubtful = [guest for guest in self.guests if _is_doubtful(guest, now)]
        for guest in doubtful:
            guest.asked_at = now
        return doubtful

    async def look_after(self, conn: bytes) -> None:
        """The signaling server saw this connection end. A process that was killed is
        silent at once; one that only lost the server answers a PING."""
        now = asyncio.get_running_loop().time()
        doubtful = [
            guest
            for guest in self.guests
            if guest.conn == conn and guest.unheard_s(now) < ASK_FROM_S
        ]
        await asyncio.gather(*(self._probe(guest) for guest in doubtful))

    async def drain(self) -> None:
        """Take nothing new and wait until what runs has ended."""
        self._draining = True
        for guest in self.guests:
            guest.link.go_away(Code.DRAINING, "The provider is shutting down.")
        await asyncio.gather(*(guest.link.idle() for guest in self.guests))

    async def close(self) -> None:
        for wire in list(self._unattached):
            wire.close("shutting down")
            await wire.closed()
        text = "The provider has shut down."
        await asyncio.gather(*(g.link.close(Code.DRAINING, text) for g in self.guests))

    def _end_unwanted(self, now: float) -> None:
        """The limits of sessions without a path, but for the 60 s of `Session`."""
        detached = [g for g in self.guests if g.detached_at is not None]
        detached.sort(key=lambda guest: guest.detached_at or 0.0)
        held = sum(guest.link.session.mux.held for guest in detached)
        for guest in detached:
            if held > REPLAY_MAX:
                held -= guest.link.session.mux.held
                guest.link.end(
                    Code.GONE, "Too much is held for clients without a path."
                )
            elif guest.unheard_s(now) >= QUEUED_S:
                for stream in guest.link.streams:
                    if self._is_waiting(stream):
                        text = "The path was lost while this request waited in line."
                        stream.reset(Code.GONE, text, retryable=True)

    async def _probe(self, guest: Guest) -> None:
        clock = asyncio.get_running_loop().time
        path, began = guest.path, clock()
        for pause_s in PROBES_S:
            path.wire.path.queue(Ping(0))
            path.wire.wake()
            await asyncio.sleep(pause_s)
            if guest.path is not path or guest.unheard_s(clock()) < clock() - began:
                return
        await self._ask_after(guest)

    async def _ask_after(self, guest: Guest) -> None:
        clock = asyncio.get_running_loop().time
        path, unheard_s = guest.path, guest.unheard_s(clock())
        if not await self.has_left(path, unheard_s):
            return
        if guest.path is path and guest.unheard_s(clock()) >= unheard_s:
            guest.link.end(Code.GONE, "The client has ended without a word.")

    def _attach(self, introduced: Introduced, frames: list[Frame]) -> None:
        wire, id = introduced.wire, introduced.admission.id
        match frames[0]:
            case Open(session=session):
                guest = self._open(session, introduced)
            case Resume(session=session, epoch=epoch):
                guest = self._guests.get((id, session))
                if guest is not None and epoch <= guest.link.session.epoch:
                    raise RemoteProtocolError("a RESUME that came too late")
            case _:
                raise RemoteProtocolError("the first frame is not OPEN or RESUME")
        if guest is None:
            wire.path.queue(self._refusal(frames[0]))
            wire.end("an unknown session")
            return
        guest.path, guest.detached_at = introduced, None
        guest.link.take(wire)
        guest.link.on_frames(wire, frames)

    def _refusal(self, frame: Frame) -> Close:
        if self._draining and isinstance(frame, Open):
            return Close(Code.DRAINING, "The provider is shutting down.")
        return Close(Code.UNKNOWN_SESSION, "This session is not known.")

    def _open(self, id: bytes, introduced: Introduced) -> Guest | None:
        admission = introduced.admission
        key = (admission.id, id)
        held = sum(peer == admission.id for peer, _ in self._guests)
        if self._draining or key in self._guests or held >= SESSIONS_PER_PEER:
            return None
        link = Link(Session(id, is_client=False))
        guest = self._guests[key] = Guest(link, introduced)
        link.on_stream = lambda stream: self._on_stream(stream, guest.admission)
        who = f"{admission.name} ({short(admission.id)})"

        def detached(reason: str) -> None:
            guest.detached_at = asyncio.get_running_loop().time()
            log.info("%s is detached: %s", who, reason)

        def closed(code: Code, text: str) -> None:
            self._guests.pop(key, None)
            log.info("%s has left: %s", who, text)

        link.on_detached, link.on_closed = detached, closed
        log.info("%s is connected", who)
        return guest


def _is_doubtful(guest: Guest, now: float) -> bool:
    unheard_s = guest.unheard_s(now)
    from_s = ASK_FROM_S if guest.detached_at is None else ASK_FROM_S / 2
    is_time = from_s <= unheard_s < ASK_UNTIL_S
    return is_time and now - guest.asked_at >= ASK_EVERY_S
