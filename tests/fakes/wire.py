"""Two sessions on a network of our own: time is a number and every fault is scripted.

A lane carries whole messages in order, as a data channel does, until its fault strikes.
Programs at both ends write what they were told to and take whatever arrives; the edge
between them and the session is as thin as it can be, so that a lost event is a hang.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from meshllm.errors import Code, MeshError
from meshllm.protocol.events import (
    Activated,
    Event,
    Opened,
    Received,
    SessionClosed,
    StreamEnded,
    Writable,
)
from meshllm.protocol.frames import Close, Frame, Hello, Resume
from meshllm.protocol.path import Path, PathState
from meshllm.protocol.session import Session, SessionState

SESSION = bytes(range(16))
IN_FLIGHT = 4  # messages a lane holds before its sender has to wait
TURN_S = 0.01
TICK_S = 1.0
FaultKind = Literal["cut", "torn", "twice"]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
_COUNTING = b",".join(b"%d" % n for n in range(400_000))


def believe(hello: Hello) -> None:
    """Who the peer is, is another room's business."""


def new_path(*, is_client: bool) -> Path:
    hello = Hello(1 if is_client else 2, bytes(32), bytes(64))
    return Path(hello, believe, is_client=is_client)


def greeted_paths(now: float = 0.0) -> tuple[Path, Path]:
    """Client's and provider's, after HELLO."""
    client, provider = new_path(is_client=True), new_path(is_client=False)
    hello, answer = client.next_message(now), provider.next_message(now)
    assert hello is not None and answer is not None
    provider.receive(hello, now)
    client.receive(answer, now)
    return client, provider


def pattern(stream: int, side: str, size: int) -> bytes:
    """Bytes that are wrong wherever they are moved by a few places."""
    seed = f"{side}{stream}:".encode()
    return (seed + _COUNTING[:size])[:size]


@dataclass(frozen=True)
class Fault:
    """Strikes the message that holds byte `at` of its lane.

    cut: it and all after it are lost. torn: it ends before that byte. twice: it comes
    again.
    """

    kind: FaultKind
    at: int


class Lane:
    def __init__(self, fault: Fault | None) -> None:
        self.in_flight: deque[bytes] = deque()
        self._fault = fault
        self._sent = 0
        self._is_cut = False

    def put(self, message: bytes) -> None:
        start, self._sent = self._sent, self._sent + len(message)
        if self._is_cut:
            return
        fault = self._fault
        if fault is None or not start <= fault.at < self._sent:
            self.in_flight.append(message)
        elif fault.kind == "cut":
            self._is_cut = True
        elif fault.kind == "torn":
            self.in_flight.append(message[: fault.at - start])
        else:
            self.in_flight += [message, message]


@dataclass
class Side:
    """One peer: its session, its programs, and the path it uses."""

    session: Session
    read: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    fins: Counter[int] = field(default_factory=Counter)
    opened: list[int] = field(default_factory=list)
    ended: dict[int, StreamEnded] = field(default_factory=dict)
    stalled: set[int] = field(default_factory=set)
    unread: Counter[int] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    _unwritten: dict[int, deque[bytes]] = field(default_factory=dict)

    def write(self, stream: int, chunks: Iterable[bytes]) -> None:
        """Write these, as fast as the stream takes them, then FIN."""
        self._unwritten[stream] = deque(chunks)
        self._write_on(stream)

    @property
    def waiting(self) -> set[int]:
        """Streams whose program has still something to write."""
        return set(self._unwritten)

    def handle(self, events: list[Event]) -> None:
        self.events += events
        for event in events:
            match event:
                case Opened(stream):
                    self.opened.append(stream)
                case Received(stream, data, fin):
                    assert not self.fins[stream], "bytes after FIN"
                    assert stream not in self.ended, "bytes after the end"
                    self.read[stream] += data
                    self.fins[stream] += fin
                    self.unread[stream] += len(data)
                    self._read_on(stream)
                case Writable(stream):
                    self._write_on(stream)
                case StreamEnded(stream):
                    assert stream not in self.ended, "ended twice"
                    self.ended[stream] = event
                    self._unwritten.pop(stream, None)

    def stall(self, stream: int) -> None:
        self.stalled.add(stream)

    def go_on(self, stream: int) -> None:
        self.stalled.discard(stream)
        self._read_on(stream)

    def reset(self, stream: int, code: Code) -> None:
        self._unwritten.pop(stream, None)
        self.session.mux.reset(stream, code, "as scripted", retryable=False)

    def has(self, kind: type[Event]) -> bool:
        return any(isinstance(event, kind) for event in self.events)

    def _read_on(self, stream: int) -> None:
        if stream not in self.stalled and self.unread[stream]:
            self.session.mux.consume(stream, self.unread.pop(stream))

    def _write_on(self, stream: int) -> None:
        chunks = self._unwritten.get(stream)
        if chunks is None:
            return
        while chunks:
            if not self.session.mux.can_write(stream):
                return
            self.session.mux.write(stream, chunks.popleft())
        del self._unwritten[stream]
        self.session.mux.finish(stream)


@dataclass
class Wire:
    """A pair of paths and the two lanes between them."""

    client: Path
    provider: Path
    up: Lane
    down: Lane


class Network:
    """The client attaches its session to each new wire as soon as HELLO is done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.client = Side(Session(SESSION, is_client=True))
        self.provider = Side(Session(SESSION, is_client=False))
        self.wires: list[Wire] = []
        self.errors: list[MeshError] = []
        self._ticked_at = 0.0

    def connect(self, up: Fault | None = None, down: Fault | None = None) -> Wire:
        """A new wire. Those there are live on until they are lost or fenced."""
        wire = Wire(
            new_path(is_client=True), new_path(is_client=False), Lane(up), Lane(down)
        )
        self.wires.append(wire)
        return wire

    def lose(self, *, client: bool = True, provider: bool = True) -> None:
        """Every wire is gone; who does not notice stays attached to it."""
        for wire in self.wires:
            if client:
                self.client.session.detach(wire.client, self.now)
            if provider:
                self.provider.session.detach(wire.provider, self.now)
        self.wires.clear()

    def turn(self) -> bool:
        """Everyone sends what they may and one message arrives a lane. False: quiet."""
        self.now += TURN_S
        if self.now - self._ticked_at >= TICK_S:
            self.tick()
        moved = False
        for wire in list(self.wires):
            moved |= self._fill(self.client, wire.client, wire.up)
            moved |= self._fill(self.provider, wire.provider, wire.down)
            moved |= self._deliver(wire, wire.up, self.provider, wire.provider)
            moved |= self._deliver(wire, wire.down, self.client, wire.client)
            self._attach(wire)
        return moved

    def tick(self) -> None:
        self._ticked_at = self.now
        for side in (self.client, self.provider):
            side.handle(side.session.on_time(self.now))

    def settle(self) -> None:
        """Until nothing moves, also when a second has passed."""
        for _ in range(10_000):
            if not self.turn():
                self.now += TICK_S
                self.tick()
                if not self.turn():
                    return
        raise AssertionError("the network never came to rest")

    def heal(self) -> None:
        """A wire without faults, and all that was still to be said."""
        self.lose()
        self.connect()
        for side in (self.client, self.provider):
            for stream in list(side.stalled):
                side.go_on(stream)
        self.settle()

    def ask(self, request: list[bytes]) -> int:
        """A new stream of the client."""
        stream = self.client.session.mux.open()
        self.client.write(stream, request)
        return stream

    def _fill(self, side: Side, path: Path, lane: Lane) -> bool:
        sent = False
        while len(lane.in_flight) < IN_FLIGHT:
            message = path.next_message(self.now)
            if message is None:
                break
            assert 0 < len(message) <= 16_384
            lane.put(message)
            sent = True
        if sent:
            side.handle(side.session.mux.take_writable())
        return sent

    def _deliver(self, wire: Wire, lane: Lane, side: Side, path: Path) -> bool:
        if not lane.in_flight or wire not in self.wires:
            return False
        message = lane.in_flight.popleft()
        try:
            frames = path.receive(message, self.now)
            if self._is_unknown(side, frames):
                path.queue(Close(Code.UNKNOWN_SESSION, "This session is not known."))
            else:
                side.handle(side.session.receive(path, frames))
        except MeshError as error:
            self.errors.append(error)
            self._drop(wire)
        return True

    def _is_unknown(self, side: Side, frames: list[Frame]) -> bool:
        """RESUME of a session whose OPEN was lost: the provider's edge says so."""
        is_new = side is self.provider and side.session.state is SessionState.NEW
        return is_new and bool(frames) and isinstance(frames[0], Resume)

    def _drop(self, wire: Wire) -> None:
        self.wires.remove(wire)
        for side, path in (
            (self.client, wire.client),
            (self.provider, wire.provider),
        ):
            path.state = PathState.CLOSED
            side.session.detach(path, self.now)

    def _attach(self, wire: Wire) -> None:
        session = self.client.session
        if wire.client.state is not PathState.STANDBY:
            return
        if session.state is SessionState.NEW:
            session.open_on(wire.client)
        elif session.state is not SessionState.CLOSED:
            session.resume_on(wire.client)


def connected() -> Network:
    """Both sessions active on a wire without faults."""
    network = Network()
    network.connect()
    network.settle()
    assert network.client.has(Activated) and network.provider.has(Activated)
    assert not network.client.has(SessionClosed)
    return network
