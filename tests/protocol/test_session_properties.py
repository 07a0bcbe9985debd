"""Sessions on a hostile network: whatever happens to paths, streams stay whole."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshllm.errors import Code, MeshError, RemoteProtocolError
from meshllm.protocol import frames as f
from meshllm.protocol.path import Path
from meshllm.protocol.session import Session, SessionState
from meshllm.protocol.streams import INITIAL_CREDIT, REPLAY_MAX, UNSENT_MAX
from tests.fakes.frames import frames
from tests.fakes.wire import (
    FAULTS,
    SESSION,
    Fault,
    FaultKind,
    Network,
    connected,
    greeted_paths,
    pattern,
)


@dataclass(frozen=True)
class Ask:
    """A stream: sizes of the chunks written by either side."""

    request: tuple[int, ...]
    response: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    turns: int


@dataclass(frozen=True)
class Lose:
    """Every path is gone; who does not notice keeps to it."""

    client: bool
    provider: bool


@dataclass(frozen=True)
class Connect:
    """Another path, faulty from some byte on; the client goes over to it."""

    up: Fault | None
    down: Fault | None


@dataclass(frozen=True)
class Cancel:
    """One of the streams so far is reset, by its client or its provider."""

    index: int
    by_client: bool


@dataclass(frozen=True)
class Stall:
    index: int
    by_client: bool


Step = Ask | Run | Lose | Connect | Cancel | Stall

sizes = st.lists(
    st.one_of(st.integers(0, 40), st.integers(1_000, 20_000)), max_size=6
).map(tuple)
long_sizes = st.just((16_000,) * 24)
byte = st.one_of(st.integers(0, 400), st.integers(0, 60_000))
fault = st.none() | st.builds(Fault, st.sampled_from(FAULTS), byte)
index = st.integers(0, 5)
step: st.SearchStrategy[Step] = st.one_of(
    st.builds(Ask, sizes, sizes | long_sizes),
    st.builds(Ask, sizes | long_sizes, sizes),
    st.builds(Run, st.integers(1, 12)),
    st.builds(Lose, st.booleans(), st.booleans()),
    st.builds(Connect, fault, fault),
    st.builds(Cancel, index, st.booleans()),
    st.builds(Stall, index, st.booleans()),
)
script = st.lists(step, min_size=3, max_size=14)


class Played:
    """A script that runs, and what was asked in it."""

    def __init__(self) -> None:
        self.network = connected()
        self.answered: set[int] = set()
        self.asked: dict[int, Ask] = {}
        self.cancelled: dict[int, Code] = {}

    def play(self, steps: list[Step]) -> None:
        for one in steps:
            self._play(one)
        self.network.heal()
        self._answer()
        self.network.settle()

    def _play(self, one: Step) -> None:
        net = self.network
        match one:
            case Ask():
                if net.client.session.can_open:
                    stream = net.client.session.mux.open()
                    self.asked[stream] = one
                    net.client.write(stream, chunks(stream, "client", one.request))
            case Run(turns):
                for _ in range(turns):
                    net.turn()
                    self._answer()
            case Lose(client, provider):
                net.lose(client=client, provider=provider)
            case Connect(up, down):
                net.connect(up, down)
            case Cancel(index, by_client):
                self._cancel(index, by_client)
            case Stall(index, by_client) if index < len(self.asked):
                side = net.client if by_client else net.provider
                side.stall(list(self.asked)[index])

    def _cancel(self, index: int, by_client: bool) -> None:
        side = self.network.client if by_client else self.network.provider
        if index >= len(self.asked):
            return
        stream = list(self.asked)[index]
        if stream in side.session.mux and stream not in self.cancelled:
            self.cancelled[stream] = Code.CANCELLED if by_client else Code.BACKEND
            side.reset(stream, self.cancelled[stream])

    def _answer(self) -> None:
        """The provider's program: even streams before it has read the request."""
        provider = self.network.provider
        for stream in provider.opened:
            ready = stream % 2 == 0 or provider.fins[stream]
            if ready and stream not in self.answered and stream not in provider.ended:
                self.answered.add(stream)
                if stream in provider.session.mux:
                    sizes = self.asked[stream].response
                    provider.write(stream, chunks(stream, "provider", sizes))


def chunks(stream: int, side: str, sizes: tuple[int, ...]) -> list[bytes]:
    whole, at, out = pattern(stream, side, sum(sizes)), 0, []
    for size in sizes:
        out.append(whole[at : at + size])
        at += size
    return out


@settings(max_examples=200)
@given(script)
def test_streams_stay_whole_whatever_happens_to_paths(steps: list[Step]) -> None:
    played = Played()
    played.play(steps)
    every_byte_and_fin_arrived_once(played)
    every_cancel_reached_the_other_side(played)
    nothing_is_left(played)


def every_byte_and_fin_arrived_once(played: Played) -> None:
    client, provider = played.network.client, played.network.provider
    for stream, ask in played.asked.items():
        request = pattern(stream, "client", sum(ask.request))
        response = pattern(stream, "provider", sum(ask.response))
        if stream in played.cancelled:
            assert request.startswith(provider.read[stream])
            assert response.startswith(client.read[stream])
            continue
        assert provider.read[stream] == request
        assert client.read[stream] == response
        assert provider.fins[stream] == client.fins[stream] == 1
    assert len(set(provider.opened)) == len(provider.opened)


def every_cancel_reached_the_other_side(played: Played) -> None:
    client, provider = played.network.client, played.network.provider
    for stream, code in played.cancelled.items():
        other = provider if code is Code.CANCELLED else client
        if other is provider and stream not in provider.opened:
            continue
        is_done = other.fins[stream] and stream not in other.waiting
        assert is_done or other.ended[stream].code is code
    for side in (client, provider):
        assert set(side.ended) <= set(played.cancelled)


def nothing_is_left(played: Played) -> None:
    client, provider = played.network.client, played.network.provider
    for side in (client, provider):
        assert not side.waiting - set(played.cancelled)
        assert (len(side.session.mux), side.session.mux.held) == (0, 0)
        assert side.session.state is SessionState.ACTIVE
    assert client.session.epoch == provider.session.epoch


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_path_may_fail_at_any_place_of_a_conversation(
    kind: FaultKind, way: str
) -> None:
    """Also in HELLO, RESUME and READY, and the next path at the same place again."""
    for at in [*range(0, 2_400, 29), *range(2_400, 41_000, 701)]:
        fault = Fault(kind, at)
        faulty = Connect(fault, None) if way == "up" else Connect(None, fault)
        played = Played()
        played.play(
            [
                Lose(client=at % 2 == 0, provider=at % 3 == 0),
                faulty,
                Run(2),
                Ask((700, 700), (20_000, 20_000)),
                Ask((1,), ()),
                Run(2),
                Ask((), (5,)),
                Cancel(1, by_client=at % 2 == 0),
                Run(6),
                faulty,
                Run(6),
            ]
        )
        every_byte_and_fin_arrived_once(played)
        every_cancel_reached_the_other_side(played)
        nothing_is_left(played)


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            fault.map(lambda f: Connect(f, None)), fault.map(lambda f: Connect(None, f))
        ),
        max_size=3,
    )
)
def test_a_session_that_cannot_begin_ends_or_begins_later(
    connects: list[Connect],
) -> None:
    """OPEN or its READY may be lost: then a RESUME is answered, or refused for good."""
    net = Network()
    stream = net.ask([b"question"])
    for one in connects:
        net.connect(one.up, one.down)
        for _ in range(4):
            net.turn()
    net.heal()
    if net.client.session.state is SessionState.CLOSED:
        assert net.client.ended[stream].code is Code.UNKNOWN_SESSION
        assert net.provider.opened == []
    else:
        assert net.client.session.state is SessionState.ACTIVE
        assert net.provider.read[stream] == b"question"
    assert len(net.client.session.mux) <= 1


@settings(max_examples=25)
@given(
    st.integers(1, 21),
    st.lists(st.integers(0, 60_000), min_size=20, max_size=20),
    st.booleans(),
)
def test_a_stalled_reader_beside_twenty_live_ones_stops_only_itself(
    stalled: int, sizes: list[int], loses_path: bool
) -> None:
    net = connected()
    asked = [net.ask([b"question"]) for _ in range(21)]
    net.client.stall(stalled)
    net.settle()
    live = [stream for stream in asked if stream != stalled]
    net.provider.write(stalled, [bytes(16_000)] * 80)
    for stream, size in zip(live, sizes, strict=True):
        net.provider.write(stream, chunks(stream, "provider", (16_000, size) * 4))
    for _ in range(3):
        net.turn()
    if loses_path:  # meanwhile a writer may run on to 1 MiB
        net.lose()
        net.tick()
        net.connect()
    net.settle()
    for stream, size in zip(live, sizes, strict=True):
        whole = pattern(stream, "provider", (16_000 + size) * 4)
        assert net.client.read[stream] == whole
        assert net.client.fins[stream]
    assert len(net.client.read[stalled]) == INITIAL_CREDIT
    held = REPLAY_MAX if loses_path else INITIAL_CREDIT + UNSENT_MAX
    assert net.provider.session.mux.held <= held + 16_000
    assert net.provider.waiting == {stalled}
    net.client.go_on(stalled)
    net.settle()
    assert net.client.read[stalled] == bytes(16_000 * 80)
    assert net.errors == []


any_frame = frames(session=st.just(SESSION) | st.binary(min_size=16, max_size=16))


def fuzzed_session(is_client: bool, begin: str) -> tuple[Session, list[Path]]:
    session = Session(SESSION, is_client=is_client)
    paths = [greeted_paths()[not is_client] for _ in range(3)]
    if begin != "new":
        if is_client:
            session.open_on(paths[0])
            session.receive(paths[0], [f.Ready(1, ())])
        else:
            session.receive(paths[0], [f.Open(SESSION, 1)])
        for stream in range(1, 5):
            if is_client:
                session.mux.open()
            else:
                session.receive(paths[0], [f.Data(stream, 0, False, b"")])
            session.mux.write(stream, bytes(50))
        paths[0].next_message(0.0)
    if begin == "detached":
        session.detach(paths[0], 0.0)
    if begin == "resuming" and is_client:
        session.resume_on(paths[1])
    return session, paths


@settings(max_examples=150)
@given(
    st.booleans(),
    st.sampled_from(["new", "active", "detached", "resuming"]),
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(any_frame, min_size=1, max_size=4)),
        max_size=8,
    ),
)
def test_no_frames_raise_anything_but_errors_of_the_peer(
    is_client: bool, begin: str, said: list[tuple[int, list[f.Frame]]]
) -> None:
    session, paths = fuzzed_session(is_client, begin)
    epoch = session.epoch
    for now, (path, some) in enumerate(said):
        try:
            session.receive(paths[path], some)
        except MeshError as error:
            assert isinstance(error, RemoteProtocolError)
            session.detach(paths[path], float(now))
        session.on_time(float(now))
        for each in paths:
            each.next_message(float(now))
        assert session.epoch >= epoch
        epoch = session.epoch
        assert len(session.mux) <= 64
        assert session.mux.held == 50 * len(
            [n for n in range(1, 5) if n in session.mux]
        )


@settings(max_examples=60)
@given(st.lists(st.integers(0, 6), max_size=8))
def test_no_epoch_is_ever_taken_twice_or_taken_back(epochs: list[int]) -> None:
    session = Session(SESSION, is_client=False)
    session.receive(greeted_paths()[1], [f.Open(SESSION, 1)])
    newest, live = 1, session.path
    for epoch in epochs:
        path = greeted_paths()[1]
        try:
            session.receive(path, [f.Resume(SESSION, epoch, ())])
        except RemoteProtocolError:
            assert epoch <= newest
        else:
            assert epoch > newest
            newest, live = epoch, path
        assert (session.epoch, session.path) == (newest, live)
