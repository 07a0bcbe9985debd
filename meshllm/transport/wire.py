"""A wire: one path on the carrier that moves its messages.

Turns the carrier's callbacks and the clock into calls of the pure `Path`, and sends
what the path builds. Messages are built only while the carrier's buffer is empty, so
that what piles up meanwhile leaves as one message, not many (adaptive batching).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from meshllm.errors import MeshError, PeerUnreachable
from meshllm.protocol.frames import ACK_SIZE, MESSAGE_MAX, Frame
from meshllm.protocol.path import HELLO_S, Path, PathState

log = logging.getLogger(__name__)

LOW_BYTES = 0  # above it the carrier is busy: hold frames back and batch them
PACKET_BYTES = 1_024  # about what a packet of the data channel holds
LAZY_S = 0.02
EARLY_FRAMES = 16
FLUSH_S = 0.25  # a last CLOSE or RESET may take this long to leave


class Carrier(Protocol):
    """Moves messages of up to 16,384 bytes, in order: a data channel, a memory pair."""

    on_message: Callable[[bytes], None]
    on_low: Callable[[], None]
    on_closed: Callable[[str], None]
    on_stall: Callable[[], None]

    @property
    def is_stalled(self) -> bool:
        """A stream broke off, and nothing has been heard since: told to `on_stall`."""
        ...

    @property
    def buffered(self) -> int: ...
    @property
    def kind(self) -> str:
        """`host`, `srflx`, `prflx`, `relay` or `lan`."""
        ...

    @property
    def candidates(self) -> dict[str, str]:
        """`local` and `remote`: kind and address of the pair in use."""
        ...

    @property
    def rtt_s(self) -> float | None:
        """A round trip, if the carrier knows; who sends no PING has no other."""
        ...

    def send(self, message: bytes) -> None: ...
    async def close(self) -> None: ...


class Wire:
    """`on_frames` gets frames for the session; `on_closed` is called once, with why.

    After `silent_s` seconds without a message the path is given up.
    """

    def __init__(self, carrier: Carrier, path: Path, *, silent_s: float) -> None:
        self.carrier = carrier
        self.path = path
        self._on_frames: Callable[[Wire, list[Frame]], None] | None = None
        self._early: list[Frame] = []
        self.on_closed: Callable[[Wire, str], None] = lambda wire, reason: None
        self.on_sent: Callable[[], None] = lambda: None
        self.on_stall: Callable[[], None] = lambda: None
        self.is_closed = False
        self._silent_s = silent_s
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._low = asyncio.Event()
        self._pump_due = False
        self._fresh = 0  # bytes to send that came since the last pump
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # of the timer
        self._lazy: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        carrier.on_message = self._on_message
        carrier.on_low = self._on_low
        carrier.on_closed = self.close
        carrier.on_stall = lambda: self.on_stall()
        self.wake()

    @property
    def on_frames(self) -> Callable[[Wire, list[Frame]], None] | None:
        """Who takes the frames of the session. OPEN may come with HELLO, before
        anybody could be told that the peer is proven: until this is set, they wait."""
        return self._on_frames

    @on_frames.setter
    def on_frames(self, callback: Callable[[Wire, list[Frame]], None]) -> None:
        self._on_frames = callback
        early, self._early = self._early, []
        if early:
            self._pass(early)
            self.wake_if_due()

    async def said_hello(self) -> None:
        """Until the peer proved who it is. PeerUnreachable, or what `verify` raised."""
        try:
            async with asyncio.timeout(HELLO_S):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self.close("the peer did not say HELLO in time")
            raise PeerUnreachable("The peer did not prove who it is in time.") from None

    def wake(self, count: int = 0) -> None:
        """Something may be there to send, `count` bytes of it new.

        What comes in one turn of the loop leaves together at its end; before that only
        when it fills a packet, so that the peer can begin with it meanwhile.
        """
        self._fresh += count
        if self._fresh >= PACKET_BYTES:
            self._pump()
        elif not self._pump_due and not self.is_closed:
            self._pump_due = True
            self._loop.call_soon(self._pump_soon)

    def wake_if_due(self) -> None:
        if self.path.is_due:
            self.wake()

    def wake_later(self) -> None:
        """What is there to send is in no hurry: with the next message, or in 20 ms."""
        if self._lazy is None and not self.is_closed:
            self._lazy = self._loop.call_later(LAZY_S, self.wake)

    def close(self, reason: str, error: MeshError | None = None) -> None:
        """End the path and its carrier. Safe to call again."""
        if self.is_closed:
            return
        self.is_closed = True
        self.path.state = PathState.CLOSED
        for timer in (self._timer, self._lazy):
            if timer is not None:
                timer.cancel()
        if not self._ready.done():
            self._ready.set_exception(error or PeerUnreachable(f"Path lost: {reason}."))
            self._ready.exception()  # seen by whoever waits in said_hello, if anyone
        self._closing = self._loop.create_task(self.carrier.close())
        self.on_closed(self, reason)

    async def flush(self) -> None:
        """Until all that can be sent has left, or 0.25 s have gone."""
        self._pump()
        try:
            async with asyncio.timeout(FLUSH_S):
                while self.carrier.buffered and not self.is_closed:
                    self._low.clear()
                    await self._low.wait()
        except TimeoutError:
            pass

    def end(self, reason: str) -> None:
        """Close once what is queued has left."""

        async def flush_and_close() -> None:
            await self.flush()
            self.close(reason)

        self._ending = self._loop.create_task(flush_and_close())

    async def closed(self) -> None:
        """Until the carrier has let go of its sockets."""
        if self._closing is not None:
            await self._closing

    def _on_low(self) -> None:
        self._low.set()
        self.wake()

    def _on_message(self, message: bytes) -> None:
        if self.is_closed:
            return
        in_hello = self.path.state is PathState.HELLO
        try:
            frames = self.path.receive(message, self._loop.time())
        except MeshError as error:
            self._fail(error)
            return
        if frames:
            self._pass(frames)
        if in_hello and not self._ready.done():
            self._ready.set_result(None)
        self.wake_if_due()

    def _pass(self, frames: list[Frame]) -> None:
        if self._on_frames is None:
            self._early += frames
            if len(self._early) > EARLY_FRAMES:
                self.close("frames before the session began")
            return
        try:
            self._on_frames(self, frames)
        except MeshError as error:
            self._fail(error)

    def _fail(self, error: MeshError) -> None:
        log.warning("path closed: %s", error)
        self.close(str(error), error)

    def _pump_soon(self) -> None:
        self._pump_due = False
        self._pump()

    def _pump(self) -> None:
        self._fresh = 0
        if self.is_closed:
            return
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        now = self._loop.time()
        sent = False
        while self.carrier.buffered <= LOW_BYTES:
            message = self.path.next_message(now)
            if message is None:
                break
            self.carrier.send(message)
            sent = True
            has_room = len(message) <= MESSAGE_MAX - ACK_SIZE  # ACKs that were due left
            if has_room and not self.path.is_due:
                break
        if sent:
            self.on_sent()
        self._arm(now)

    def _arm(self, now: float) -> None:
        """Wake for the path's own timers, and to judge silence.

        A timer that is early finds nothing to do and is set anew: cheaper than to move
        it with each message.
        """
        due = self.path.next_time()
        if self._timer is not None and (due is None or due >= self._due):
            return
        quiet = now - self.path.silence_s(now) + self._silent_s
        if due is None or self.carrier.buffered > LOW_BYTES:  # on_low comes first
            due = quiet
        due = max(min(due, quiet), now + 0.001)
        if self._timer is not None:
            if due >= self._due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self.path.silence_s(now) >= self._silent_s:
            self.close(f"nothing heard for {self._silent_s:.0f} s")
            return
        self.path.on_time(now)
        if self.path.is_due or (self.path.next_time() or now) <= now:
            self._pump()
        else:
            self._arm(now)
