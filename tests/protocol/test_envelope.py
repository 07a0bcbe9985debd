"""Envelopes: opened only by whom they are for, unchanged, once, and in time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey, PublicKey

from meshllm.errors import (
    Code,
    LocalProtocolError,
    MeshError,
    NotAllowed,
    RemoteProtocolError,
    TrustError,
)
from meshllm.protocol.description import Candidate, Description
from meshllm.protocol.envelope import (
    ENVELOPE_MAX,
    SEEN_PER_PEER,
    SEEN_S,
    Answer,
    Candidates,
    Offer,
    Refusal,
    SeenPaths,
    Signal,
    open_envelope,
    seal,
)
from meshllm.protocol.sealing import OVERHEAD, STEP
from meshllm.trust import signed
from meshllm.trust.keys import PeerId, b64encode
from tests.fakes.people import NOW, id_of, key

ANN, BOB, EVE = id_of("ann"), id_of("bob"), id_of("eve")
BOBS_BOX, EPHEMERAL, NONCE = PrivateKey(b"b" * 32), PrivateKey(b"e" * 32), b"n" * 24
DESCRIPTION = Description(
    fingerprint=b"f" * 32,
    ufrag="user",
    pwd="p" * 22,
    setup="actpass",
    candidates=(
        Candidate("1", "udp", 2_130_706_431, "192.0.2.7", 50_000, "host"),
        Candidate("2", "udp", 1, "2001:db8::7", 50_001, "relay", "192.0.2.8", 3_478),
    ),
)
OFFER = Offer(
    path=b"p" * 16,
    sender=ANN,
    to=BOB,
    ts=NOW,
    conn=b"c" * 16,
    box=b"x" * 32,
    commit=b"m" * 32,
    versions=(1, 1),
    description=DESCRIPTION,
    chain=("statement", "membership"),
)
ANSWER = Answer(
    path=b"p" * 16,
    sender=ANN,
    to=BOB,
    ts=NOW,
    prev=b"v" * 32,
    nonce=b"o" * 32,
    version=1,
    description=replace(DESCRIPTION, setup="active"),
    chain=("statement",),
)
CANDIDATES = Candidates(b"p" * 16, ANN, BOB, NOW, b"v" * 32, (), False)
REFUSAL = Refusal(b"p" * 16, ANN, BOB, NOW, b"v" * 32, Code.BUSY, "Too many at once.")


def sealed(signal: Signal, by: str = "ann", to: PrivateKey = BOBS_BOX) -> bytes:
    envelope, _ = seal(signal, key(by), bytes(to.public_key), EPHEMERAL, NONCE)
    return envelope


def opened(
    envelope: bytes, *, outer: PeerId | None = ANN, now: int = NOW
) -> tuple[Signal, bytes]:
    return open_envelope(envelope, BOBS_BOX, me=BOB, outer_sender=outer, now=now)


def box_up(inside: bytes) -> bytes:
    """Any inside, well sealed to Bob."""
    ciphertext = Box(EPHEMERAL, BOBS_BOX.public_key).encrypt(inside, NONCE).ciphertext
    return bytes(EPHEMERAL.public_key) + NONCE + ciphertext


def body_of(signal: Signal) -> dict[str, Any]:
    """What is signed of it."""
    inside = Box(BOBS_BOX, EPHEMERAL.public_key).decrypt(sealed(signal)[56:], NONCE)
    form = inside[2 : 2 + int.from_bytes(inside[:2])].decode()
    kind = signed.peek_type(form, ("offer", "answer", "candidates", "refusal"))
    return signed.read_naming(kind, form, "from")


def resealed(kind: str, body: dict[str, Any]) -> bytes:
    form = signed.sign(kind, body, key("ann")).encode()
    inside = len(form).to_bytes(2) + form
    return box_up(
        inside.ljust(-(-(len(inside) + OVERHEAD) // STEP) * STEP - OVERHEAD, b"\0")
    )


@pytest.mark.parametrize("signal", [OFFER, ANSWER, CANDIDATES, REFUSAL])
def test_what_was_sealed_is_opened(signal: Signal) -> None:
    envelope, digest = seal(
        signal, key("ann"), bytes(BOBS_BOX.public_key), EPHEMERAL, NONCE
    )

    assert opened(envelope) == (signal, digest)
    assert opened(envelope, outer=None) == (signal, digest)


def test_the_digest_is_of_the_signed_form() -> None:
    body = body_of(OFFER)
    form = signed.sign("offer", body, key("ann"))

    _, digest = seal(OFFER, key("ann"), bytes(BOBS_BOX.public_key), EPHEMERAL, NONCE)
    assert digest == hashlib.sha256(form.encode()).digest()


@pytest.mark.parametrize("characters", [10, 2_000, 4_000, 6_000])
def test_the_size_tells_only_how_many_steps_it_takes(characters: int) -> None:
    envelope = sealed(replace(OFFER, chain=("x" * characters,)))

    assert len(envelope) % STEP == 0
    assert 0 < len(envelope) <= ENVELOPE_MAX


def test_what_does_not_fit_is_not_sealed() -> None:
    def refusal(characters: int) -> str:
        try:
            sealed(replace(OFFER, chain=("x" * characters,)))
        except LocalProtocolError as error:
            return str(error)
        return ""

    said = [refusal(characters) for characters in range(7_500, 9_000, 20)]

    fits = said.index(next(filter(None, said)))
    assert fits > 0
    assert all("too large" in each for each in said[fits:])
    assert said[fits] == "an envelope of 16384 bytes is too large"


@pytest.mark.parametrize("box", [b"", bytes(31), bytes(32)])
def test_nothing_is_sealed_to_what_is_no_key(box: bytes) -> None:
    with pytest.raises(TrustError, match="box key"):
        seal(OFFER, key("ann"), box, EPHEMERAL, NONCE)


def test_only_whom_it_is_sealed_to_opens_it() -> None:
    with pytest.raises(TrustError, match="not sealed to this node"):
        opened(sealed(OFFER, to=PrivateKey(b"q" * 32)))


@given(st.integers(0, STEP - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(at: int, change: int) -> None:
    envelope = bytearray(sealed(OFFER))
    envelope[at] ^= change

    with pytest.raises(MeshError):
        opened(bytes(envelope))


@pytest.mark.parametrize("at", range(72))
def test_each_bit_in_front_of_the_box_is_bound(at: int) -> None:
    envelope = sealed(REFUSAL)
    for bit in range(8):
        changed = bytearray(envelope)
        changed[at] ^= 1 << bit
        with pytest.raises(TrustError):
            opened(bytes(changed))


@pytest.mark.parametrize("size", [0, 1, 71, STEP - 1, STEP + 1, ENVELOPE_MAX + STEP])
def test_an_envelope_has_one_of_three_sizes(size: int) -> None:
    with pytest.raises(TrustError, match=f"an envelope of {size} bytes"):
        opened(bytes(size))


@given(st.binary(min_size=1, max_size=120))
def test_rubbish_is_refused(data: bytes) -> None:
    for envelope in (data, data.ljust(STEP, b"\0"), box_up(data.ljust(4_024, b"\0"))):
        with pytest.raises(MeshError):
            opened(envelope)


def test_a_key_of_zeros_opens_nothing() -> None:
    with pytest.raises(TrustError, match="not sealed"):
        opened(bytes(STEP))


@pytest.mark.parametrize(
    "inside",
    [
        b"\xff\xff".ljust(4_024, b"x"),  # longer than it is
        b"\0\1x".ljust(4_024, b"p"),  # padding that says something
        b"\0\2\xc3\xa9".ljust(4_024, b"\0"),  # no signed form
    ],
)
def test_length_and_padding_have_one_reading(inside: bytes) -> None:
    with pytest.raises(TrustError, match="length or padding"):
        opened(box_up(inside))


def test_the_inner_sender_is_who_delivered_it() -> None:
    with pytest.raises(TrustError, match="not who delivered it"):
        opened(sealed(OFFER), outer=EVE)


def test_nobody_signs_for_another() -> None:
    with pytest.raises(TrustError, match="does not hold"):
        opened(sealed(OFFER, by="eve"))


def test_an_envelope_for_somebody_else_is_refused() -> None:
    with pytest.raises(TrustError, match="somebody else"):
        opened(sealed(replace(OFFER, to=EVE)))


@pytest.mark.parametrize("off", [-301, 301, 86_400])
def test_clocks_that_differ_are_named(off: int) -> None:
    with pytest.raises(NotAllowed, match=f"differ by {abs(off)} s") as refused:
        opened(sealed(OFFER), now=NOW + off)

    assert refused.value.code is Code.CLOCK_SKEW


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_five_minutes_are_allowed(off: int) -> None:
    assert opened(sealed(OFFER), now=NOW + off)[0] == OFFER


@pytest.mark.parametrize(
    ("claimed", "signed_as"),
    [("offer", "answer"), ("answer", "offer"), ("card", "card")],
)
def test_the_type_is_the_kind_it_was_signed_as(claimed: str, signed_as: str) -> None:
    with pytest.raises(TrustError):
        opened(resealed(signed_as, body_of(OFFER) | {"type": claimed}))


@pytest.mark.parametrize("signal", [OFFER, ANSWER, CANDIDATES, REFUSAL])
def test_every_field_is_needed_and_no_other_is_taken(signal: Signal) -> None:
    body = body_of(signal)
    kind = body["type"]

    assert opened(resealed(kind, body))[0] == signal
    for name in body:
        with pytest.raises(MeshError):
            opened(resealed(kind, {k: v for k, v in body.items() if k != name}))
    with pytest.raises(RemoteProtocolError, match="unknown"):
        opened(resealed(kind, body | {"more": 1}))


@pytest.mark.parametrize("signal", [OFFER, ANSWER, CANDIDATES, REFUSAL])
@pytest.mark.parametrize("value", [None, True, -1, 1.5, "", "x\n", [], {}, "x" * 300])
def test_no_field_takes_rubbish(signal: Signal, value: object) -> None:
    body = body_of(signal)
    for name in body:
        if (name, value) in (("text", ""), ("complete", True), ("candidates", [])):
            continue  # which is none
        with pytest.raises(MeshError):
            opened(resealed(body["type"], body | {name: value}))


def test_a_code_that_we_do_not_know_is_internal() -> None:
    for code, read in ((4_000, Code.INTERNAL), (0, Code.INTERNAL), (2, Code.VERSION)):
        refusal, _ = opened(resealed("refusal", body_of(REFUSAL) | {"code": code}))
        assert isinstance(refusal, Refusal)
        assert refusal.code is read


def test_the_receiver_of_a_fresh_key_only_knows_that_key() -> None:
    envelope = sealed(OFFER)

    assert PublicKey(envelope[:32]) == EPHEMERAL.public_key
    assert bytes(key("ann").verify_key) not in envelope
    assert b64encode(OFFER.path).encode() not in envelope


# Paths that were seen


def path(n: int) -> bytes:
    return n.to_bytes(16)


def test_an_offer_is_taken_once() -> None:
    seen = SeenPaths()

    assert seen.is_new(ANN, path(1), NOW)
    assert not seen.is_new(ANN, path(1), NOW)
    assert not seen.is_new(ANN, path(1), NOW + SEEN_S)
    assert seen.is_new(ANN, path(2), NOW)


def test_one_that_came_again_is_told_from_one_too_many() -> None:
    seen = SeenPaths()
    for n in range(SEEN_PER_PEER + 1):
        seen.is_new(ANN, path(n), NOW)

    assert seen.knows(ANN, path(0))
    assert not seen.knows(ANN, path(SEEN_PER_PEER))
    assert not seen.knows(EVE, path(0))


def test_nobody_uses_up_anothers_path() -> None:
    seen = SeenPaths()

    assert seen.is_new(EVE, path(1), NOW)
    assert seen.is_new(ANN, path(1), NOW)


def test_it_is_remembered_longer_than_an_envelope_is_valid() -> None:
    """Made 300 s ahead of us, it stays valid for 600 s."""
    seen = SeenPaths()
    envelope = sealed(replace(OFFER, ts=NOW + 300))

    for late in range(0, 601, 100):
        opened(envelope, now=NOW + late)
        assert seen.is_new(ANN, OFFER.path, NOW + late) == (late == 0)


def test_a_full_memory_refuses_and_forgets_nothing() -> None:
    seen = SeenPaths()
    for n in range(SEEN_PER_PEER):
        assert seen.is_new(EVE, path(n), NOW)

    assert not seen.is_new(EVE, path(SEEN_PER_PEER), NOW)
    assert not seen.is_new(EVE, path(0), NOW)
    assert seen.is_new(ANN, path(0), NOW)
    assert seen.is_new(EVE, path(SEEN_PER_PEER), NOW + SEEN_S + 1)


def test_what_is_old_is_forgotten_whoever_sent_it() -> None:
    seen = SeenPaths()
    for n in range(50):
        seen.is_new(id_of(f"guest {n}"), path(n), NOW)
    seen.is_new(ANN, path(1), NOW)
    seen.is_new(ANN, path(2), NOW + SEEN_S)

    assert seen.is_new(BOB, path(3), NOW + SEEN_S + 1)
    assert not seen.is_new(ANN, path(2), NOW + SEEN_S + 1)
    assert len(seen) == 2
