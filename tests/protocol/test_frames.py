"""Frames: the bytes of docs/protocol.md §6, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshllm.errors import Code, LocalProtocolError, RemoteProtocolError
from meshllm.protocol import frames as f
from tests.fakes.frames import frames
from tests.vectors import make_frames

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    make_frames.FILE.read_text(encoding="utf-8")
)
FRAMING = ("an unknown type", "the highest unknown type", "type 0", "a cut", "a whole")
any_frame = frames(session=st.binary(min_size=16, max_size=16))


def message_of(vector: dict[str, Any]) -> bytes:
    message: bytes = bytes.fromhex(vector["hex"]) * vector.get("repeat", 1)
    return message


def names(section: str) -> list[Any]:
    return [pytest.param(v, id=v["name"]) for v in VECTORS[section]]


def test_the_vectors_are_those_that_the_script_makes() -> None:
    assert make_frames.FILE.read_text(encoding="utf-8") == make_frames.text()


def test_the_vectors_hold_every_type_of_frame() -> None:
    assert {v["frame"]["type"] for v in VECTORS["frames"]} == {
        kind.__name__.upper() for kind in f.Frame.__args__
    }


@pytest.mark.parametrize(
    ("frame", "hex"),
    [
        (f.Hello(2, b"\x01" * 32, b"\x02" * 64), "01006102" + "01" * 32 + "02" * 64),
        (f.Open(b"\x07" * 16, 1), "020014" + "07" * 16 + "00000001"),
        (
            f.Resume(b"\x07" * 16, 2, (f.StreamState(1, 2, 3, 1),)),
            "03002a" + "07" * 16 + "00000002"
            "01"
            "00000001"
            "0000000000000002"
            "0000000000000003"
            "01",
        ),
        (
            f.Ready(2, (f.StreamState(1, 2, 3, 0),)),
            "04001a0000000201000000010000000000000002000000000000000300",
        ),
        (f.Data(1, 2, True, b"hi"), "10000f000000010000000000000002016869"),
        (f.Ack(1, 2, 3), "1100140000000100000000000000020000000000000003"),
        (f.Reset(1, Code.CANCELLED, True, "no"), "12000900000001000b016e6f"),
        (f.PathAck(32_768), "1300080000000000008000"),
        (f.Ping(1), "20000400000001"),
        (f.Pong(1), "21000400000001"),
        (f.Pad(), "220000"),
        (f.GoAway(1, Code.DRAINING, "x"), "23000700000001000f78"),
        (f.Signal(b"\xee"), "240001ee"),
        (f.Close(Code.INTERNAL, ""), "2500020012"),
        (f.Info(1, b"{}"), "800006000000017b7d"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_frame_has_the_bytes_of_the_table(frame: f.Frame, hex: str) -> None:
    assert f.encode(frame).hex() == hex
    assert f.decode(bytes.fromhex(hex)) == [frame]


@pytest.mark.parametrize("vector", names("frames"))
def test_a_frame_decodes_as_its_vector_says(vector: dict[str, Any]) -> None:
    (frame,) = f.decode(message_of(vector))
    said = {"type": make_frames.type_name(frame), **make_frames.as_json(frame)}
    assert said == vector["frame"]
    assert f.encode(frame) == message_of(vector)


@pytest.mark.parametrize("vector", names("messages"))
def test_a_message_decodes_as_its_vector_says(vector: dict[str, Any]) -> None:
    found = [make_frames.type_name(frame) for frame in f.decode(message_of(vector))]
    assert found == vector["types"]


@pytest.mark.parametrize("vector", names("malformed"))
def test_a_malformed_message_is_refused_whole(vector: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        f.decode(message_of(vector))


@pytest.mark.parametrize("vector", names("malformed"))
def test_a_malformed_vector_is_wrong_in_one_place_only(vector: dict[str, Any]) -> None:
    """A slip in a length would let the vector be refused for another reason."""
    if vector["name"].startswith(FRAMING) or vector["repeat"] > 1:
        return
    message = message_of(vector)
    assert int.from_bytes(message[1:3], "big") == len(message) - f.HEADER


@given(st.lists(any_frame, max_size=6))
def test_frames_come_out_of_a_message_as_they_went_in(said: list[f.Frame]) -> None:
    message = b"".join(map(f.encode, said))
    assert f.decode(message) == said


@settings(max_examples=150)
@given(
    st.lists(any_frame, max_size=4).map(lambda said: b"".join(map(f.encode, said))),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
)
def test_damaged_bytes_are_frames_or_an_error(
    message: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(message)
    for at, value in damage:
        if at < len(damaged):
            damaged[at] = value
    try:
        found = f.decode(bytes(damaged[:cut]))
    except RemoteProtocolError:
        return
    for frame in found:
        assert f.decode(f.encode(frame)) == [frame]


@given(st.binary(max_size=200))
def test_random_bytes_are_frames_or_an_error(message: bytes) -> None:
    try:
        found = f.decode(message)
    except RemoteProtocolError:
        return
    for frame in found:
        assert f.decode(f.encode(frame)) == [frame]


@pytest.mark.parametrize(
    "frame",
    [
        f.Data(1, 0, False, bytes(f.DATA_MAX + 1)),
        f.Hello(1, bytes(31), bytes(64)),
        f.Signal(b""),
        f.Signal(bytes(f.ENVELOPE_MAX + 1)),
        f.Info(1, bytes(f.INFO_MAX - 3)),
        f.Ready(1, tuple(f.StreamState(n, 0, 0, 0) for n in range(129))),
    ],
    ids=["DATA", "HELLO", "SIGNAL, empty", "SIGNAL", "INFO", "READY"],
)
def test_a_frame_that_no_peer_takes_is_not_made(frame: f.Frame) -> None:
    with pytest.raises(LocalProtocolError):
        f.encode(frame)


def test_the_largest_data_frame_fills_a_message() -> None:
    assert len(f.encode(f.Data(1, 0, False, bytes(f.DATA_MAX)))) == f.MESSAGE_MAX


def test_a_long_text_is_cut_between_characters() -> None:
    (frame,) = f.decode(f.encode(f.Close(Code.BUSY, "ä" * 300)))
    assert frame == f.Close(Code.BUSY, "ä" * 256)
    (frame,) = f.decode(f.encode(f.Close(Code.BUSY, "x" + "ä" * 300)))
    assert frame == f.Close(Code.BUSY, "x" + "ä" * 255)


def test_a_text_that_is_no_unicode_does_not_stop_its_frame() -> None:
    (frame,) = f.decode(f.encode(f.Close(Code.BUSY, "a\ud800b")))
    assert frame == f.Close(Code.BUSY, "a?b")
