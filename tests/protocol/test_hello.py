"""HELLO: only two peers that saw the same connection get past it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import Code, NotAllowed
from meshllm.protocol.frames import Hello
from meshllm.protocol.hello import (
    ANSWERER,
    OFFERER,
    commit,
    prove,
    transcript,
    verify,
)
from tests.fakes.people import id_of, key

NONCE_A, NONCE_B = bytes(range(32)), bytes(range(32, 64))
SEEN: dict[str, Any] = {
    "path": bytes(16),
    "offerer": id_of("ann"),
    "answerer": id_of("bob"),
    "commit": commit(NONCE_A),
    "answer_nonce": NONCE_B,
    "offerer_fingerprint": b"a" * 32,
    "answerer_fingerprint": b"b" * 32,
    "offer_digest": b"c" * 32,
    "answer_digest": b"d" * 32,
}
TRANSCRIPT = transcript(**SEEN)
ANN, BOB = bytes(key("ann").verify_key), bytes(key("bob").verify_key)
OFFERERS = Hello(OFFERER, NONCE_A, prove(OFFERER, TRANSCRIPT, key("ann")))
ANSWERERS = Hello(ANSWERER, bytes(32), prove(ANSWERER, TRANSCRIPT, key("bob")))


def check_offerer(hello: Hello, seen: bytes = TRANSCRIPT, public: bytes = ANN) -> None:
    verify(hello, role=OFFERER, transcript=seen, public=public, commit=commit(NONCE_A))


def check_answerer(hello: Hello, seen: bytes = TRANSCRIPT, public: bytes = BOB) -> None:
    verify(hello, role=ANSWERER, transcript=seen, public=public, commit=None)


def test_both_prove_what_they_saw() -> None:
    check_offerer(OFFERERS)
    check_answerer(ANSWERERS)


@pytest.mark.parametrize("field", SEEN)
def test_whoever_saw_anything_else_is_refused(field: str) -> None:
    value = SEEN[field]
    other = id_of("eve") if isinstance(value, str) else bytes(len(value) - 1) + b"\7"
    seen = transcript(**SEEN | {field: other})

    assert seen != TRANSCRIPT
    for check, hello in ((check_offerer, OFFERERS), (check_answerer, ANSWERERS)):
        with pytest.raises(NotAllowed) as refused:
            check(hello, seen)
        assert refused.value.code is Code.AUTH


def test_the_parts_of_a_transcript_do_not_run_together() -> None:
    left = transcript(**SEEN | {"offer_digest": b"ab", "answer_digest": b"c"})
    right = transcript(**SEEN | {"offer_digest": b"a", "answer_digest": b"bc"})

    assert left != right


def test_our_own_hello_sent_back_is_refused() -> None:
    """Both peers may be the same node: only the role tells the two signatures apart."""
    echoed = Hello(ANSWERER, bytes(32), OFFERERS.sig)

    for hello in (OFFERERS, echoed):
        with pytest.raises(NotAllowed):
            check_answerer(hello, public=ANN)


def test_the_role_is_signed() -> None:
    swapped = Hello(OFFERER, NONCE_A, prove(ANSWERER, TRANSCRIPT, key("ann")))

    with pytest.raises(NotAllowed):
        check_offerer(swapped)


def test_a_role_that_is_only_claimed_is_refused() -> None:
    claimed = Hello(ANSWERER, NONCE_A, OFFERERS.sig)

    with pytest.raises(NotAllowed):
        check_offerer(claimed)


def test_the_offerer_reveals_the_nonce_it_committed_to() -> None:
    with pytest.raises(NotAllowed):
        check_offerer(Hello(OFFERER, NONCE_B, OFFERERS.sig))


def test_the_answerer_reveals_nothing() -> None:
    with pytest.raises(NotAllowed):
        check_answerer(Hello(ANSWERER, NONCE_B, ANSWERERS.sig))


@pytest.mark.parametrize("public", [BOB, b"", bytes(31), bytes(32)])
def test_another_key_is_another_peer(public: bytes) -> None:
    with pytest.raises(NotAllowed, match="another connection than we did"):
        check_offerer(OFFERERS, public=public)


@given(st.integers(0, 95), st.integers(1, 255))
def test_a_changed_byte_is_refused(at: int, change: int) -> None:
    raw = bytearray(OFFERERS.nonce_reveal + OFFERERS.sig)
    raw[at] ^= change

    with pytest.raises(NotAllowed):
        check_offerer(Hello(OFFERER, bytes(raw[:32]), bytes(raw[32:])))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(NotAllowed):
        check_offerer(Hello(OFFERER, NONCE_A, bytes(size)))
