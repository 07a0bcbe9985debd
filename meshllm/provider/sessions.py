"""The provider's sessions: who is connected, and which session a new path belongs to.

A path is proven (HELLO) when it comes here; its first frame must be OPEN or RESUME.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from meshllm.errors import Code, RemoteProtocolError
from meshllm.protocol.frames import Close, Frame, Open, Resume
from meshllm.protocol.session import Session
from meshllm.transport.introduce import Introduced
from meshllm.transport.link import Link, Stream
from meshllm.transport.wire import Wire
from meshllm.trust.admission import Admission
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

OPEN_S = 3.0
SESSIONS_PER_PEER = 16


@dataclass(slots=True)
class Guest:
    """A session of somebody who may ask. The admission is that of the latest path."""

    link: Link
    admission: Admission


class Sessions:
    """`on_stream` gets every new exchange with the rights it runs under."""

    def __init__(self, on_stream: Callable[[Stream, Admission], None]) -> None:
        self._on_stream = on_stream
        self._guests: dict[tuple[PeerId, bytes], Guest] = {}
        self._unattached: set[Wire] = set()
        self._draining = False

    @property
    def guests(self) -> list[Guest]:
        return list(self._guests.values())

    def on_path(self, introduced: Introduced) -> None:
        """A proven wire; it has 3 s to say OPEN or RESUME."""
        wire, admission = introduced.wire, introduced.admission
        late = asyncio.get_running_loop().call_later(OPEN_S, wire.close, "no OPEN")
        self._unattached.add(wire)

        def first(wire: Wire, frames: list[Frame]) -> None:
            late.cancel()
            self._unattached.discard(wire)
            self._attach(wire, admission, frames)

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

    def _attach(self, wire: Wire, admission: Admission, frames: list[Frame]) -> None:
        match frames[0]:
            case Open(session=id):
                guest = self._open(id, admission)
            case Resume(session=id, epoch=epoch):
                guest = self._guests.get((admission.id, id))
                if guest is not None and epoch <= guest.link.session.epoch:
                    raise RemoteProtocolError("a RESUME that came too late")
            case _:
                raise RemoteProtocolError("the first frame is not OPEN or RESUME")
        if guest is None:
            wire.path.queue(Close(Code.UNKNOWN_SESSION, "This session is not known."))
            wire.end("an unknown session")
            return
        guest.admission = admission
        guest.link.take(wire)
        guest.link.on_frames(wire, frames)

    def _open(self, id: bytes, admission: Admission) -> Guest | None:
        key = (admission.id, id)
        held = sum(peer == admission.id for peer, _ in self._guests)
        if self._draining or key in self._guests or held >= SESSIONS_PER_PEER:
            return None
        link = Link(Session(id, is_client=False))
        guest = self._guests[key] = Guest(link, admission)
        link.on_stream = lambda stream: self._on_stream(stream, guest.admission)
        link.on_detached = lambda reason: log.info(
            "%s (%s) is detached: %s", admission.name, short(admission.id), reason
        )

        def closed(code: Code, text: str) -> None:
            self._guests.pop(key, None)
            log.info("%s (%s) has left", admission.name, short(admission.id))

        link.on_closed = closed
        log.info("%s (%s) is connected", admission.name, short(admission.id))
        return guest
