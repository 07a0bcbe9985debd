"""Frames as hypothesis draws them: all that can be written, wise or not."""

from __future__ import annotations

from hypothesis import strategies as st

from meshllm.errors import Code
from meshllm.protocol import frames as f

codes = st.sampled_from(Code)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
u32 = st.integers(0, 2**32 - 1)
offsets = st.integers(0, 2**48)
stream_ids = st.integers(0, 5) | u32
near = st.integers(0, 300) | offsets


def states() -> st.SearchStrategy[tuple[f.StreamState, ...]]:
    one = st.builds(f.StreamState, stream_ids, near, near, st.integers(0, 2))
    return st.lists(one, max_size=5, unique_by=lambda state: state.stream).map(tuple)


def frames(*, session: st.SearchStrategy[bytes]) -> st.SearchStrategy[f.Frame]:
    hello = st.builds(
        f.Hello,
        st.integers(0, 255),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=64, max_size=64),
    )
    epoch = st.integers(0, 4) | u32
    payload = st.binary(max_size=40)
    off = st.integers(0, 60) | st.integers(0, 2**48 - 100)
    return st.one_of(
        hello,
        st.builds(f.Open, session, epoch),
        st.builds(f.Resume, session, epoch, states()),
        st.builds(f.Ready, epoch, states()),
        st.builds(f.Data, stream_ids, off, st.booleans(), payload),
        st.builds(f.Ack, stream_ids, near, near),
        st.builds(f.Reset, stream_ids, codes, st.booleans(), texts),
        st.builds(f.PathAck, near),
        st.builds(f.Ping, u32),
        st.builds(f.Pong, u32),
        st.just(f.Pad()),
        st.builds(f.GoAway, stream_ids, codes, texts),
        st.builds(f.Signal, st.binary(min_size=1, max_size=40)),
        st.builds(f.Close, codes, texts),
        st.builds(f.Info, stream_ids, payload),
    )
