"""Makes envelope.json and hello.json; make_trust.py runs it, and explains the form."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from nacl.public import Box, PrivateKey

from meshllm.errors import Code
from meshllm.protocol import hello
from meshllm.protocol.description import Candidate, Description
from meshllm.protocol.envelope import (
    Answer,
    Candidates,
    Offer,
    Refusal,
    SeenPaths,
    Signal,
    open_envelope,
    seal,
)
from meshllm.protocol.frames import Hello
from meshllm.trust import signed
from tests.fakes.people import NOW, id_of, key
from tests.vectors.outcome import outcome

ANN, BOB, EVE = id_of("ann"), id_of("bob"), id_of("eve")
BOX = PrivateKey(hashlib.sha256(b"bob's box").digest())
EPHEMERAL = PrivateKey(hashlib.sha256(b"ephemeral").digest())
NONCE, NONCE_A, NONCE_B = bytes(range(24)), bytes(range(32)), bytes(range(32, 64))
DESCRIPTION = Description(
    fingerprint=hashlib.sha256(b"certificate").digest(),
    ufrag="aB3+",
    pwd="aB3/aB3/aB3/aB3/aB3/aB",
    setup="actpass",
    candidates=(
        Candidate("1", "udp", 2_130_706_431, "192.0.2.7", 50_000, "host"),
        Candidate("2", "udp", 2_130_706_175, "a1b2-c3.local", 50_001, "host"),
        Candidate("3", "udp", 99, "2001:db8::7", 50_002, "relay", "192.0.2.8", 3_478),
    ),
)
OFFER = Offer(
    path=bytes(range(16)),
    sender=ANN,
    to=BOB,
    ts=NOW,
    conn=bytes(range(16, 32)),
    box=bytes(PrivateKey(hashlib.sha256(b"ann's box").digest()).public_key),
    commit=hello.commit(NONCE_A),
    versions=(1, 1),
    description=DESCRIPTION,
    chain=("a statement", "a membership"),
)
ANSWER = Answer(
    path=OFFER.path,
    sender=ANN,
    to=BOB,
    ts=NOW,
    prev=bytes(range(32)),
    nonce=NONCE_B,
    version=1,
    description=replace(DESCRIPTION, setup="active"),
    chain=("a statement",),
)
CANDIDATES = Candidates(
    OFFER.path, ANN, BOB, NOW, bytes(32), DESCRIPTION.candidates[1:], True
)
REFUSAL = Refusal(
    OFFER.path, ANN, BOB, NOW, bytes(32), Code.BUSY, "Später noch einmal."
)


def sealed(signal: Signal, by: str = "ann", to: PrivateKey = BOX) -> bytes:
    return seal(signal, key(by), bytes(to.public_key), EPHEMERAL, NONCE)[0]


def box_up(inside: bytes) -> bytes:
    """Any inside, well sealed."""
    box = Box(EPHEMERAL, BOX.public_key).encrypt(inside, NONCE).ciphertext
    return bytes(EPHEMERAL.public_key) + NONCE + box


def inside_of(envelope: bytes) -> bytes:
    return Box(BOX, EPHEMERAL.public_key).decrypt(envelope[56:], NONCE)


def form_of(envelope: bytes) -> str:
    inside = inside_of(envelope)
    return inside[2 : 2 + int.from_bytes(inside[:2])].decode()


def reform(kind: str, **change: Any) -> bytes:
    """The refusal with other fields, signed as `kind`, sealed."""
    fields = signed.read_naming("refusal", form_of(sealed(REFUSAL)), "from") | change
    form = signed.sign(kind, fields, key("ann")).encode()
    return box_up((len(form).to_bytes(2) + form).ljust(4_024, b"\0"))


def changed(at: int, bit: int) -> bytes:
    envelope = bytearray(sealed(REFUSAL))
    envelope[at] ^= 1 << bit
    return bytes(envelope)


def opening(envelope: str, outer: str | None, now: int) -> dict[str, Any]:
    """The digest of what is inside; raises when it is refused."""
    _, digest = open_envelope(
        bytes.fromhex(envelope),
        BOX,
        me=BOB,
        outer_sender=None if outer is None else id_of(outer),
        now=now,
    )
    return {"digest": digest.hex()}


def refused() -> list[dict[str, Any]]:
    good, stranger = sealed(REFUSAL), PrivateKey(bytes(range(32)))
    padded = inside_of(good)
    cases: list[tuple[str, bytes, str | None, int]] = [
        ("from another than who delivered it", good, "eve", NOW),
        ("for somebody else", sealed(replace(REFUSAL, to=EVE)), "ann", NOW),
        ("signed by another", sealed(REFUSAL, by="eve"), "ann", NOW),
        ("sealed to another", sealed(REFUSAL, to=stranger), "ann", NOW),
        ("301 s old", good, "ann", NOW + 301),
        ("301 s ahead", good, "ann", NOW - 301),
        ("the masked bit of its key set", changed(31, 7), "ann", NOW),
        ("another nonce", changed(32, 0), "ann", NOW),
        ("a changed byte", changed(4_095, 0), "ann", NOW),
        ("nothing", b"", "ann", NOW),
        ("cut", good[:-1], "ann", NOW),
        ("a size of no whole step", good + bytes(1), "ann", NOW),
        ("more than 12,288 bytes", good.ljust(16_384, b"\0"), "ann", NOW),
        ("padding that is not zero", box_up(padded[:-1] + b"\1"), "ann", NOW),
        ("a length beyond its end", box_up(b"\xff\xff" + padded[2:]), "ann", NOW),
        ("signed as another kind", reform("answer"), "ann", NOW),
        ("an unknown type", reform("card", type="card"), "ann", NOW),
        ("an unknown field", reform("refusal", more=1), "ann", NOW),
        ("a text of 257 characters", reform("refusal", text="x" * 257), "ann", NOW),
    ]
    return [
        {"name": name, "envelope": envelope.hex(), "outer": outer, "now": now}
        | outcome(opening, envelope.hex(), outer, now)
        for name, envelope, outer, now in cases
    ]


def envelopes() -> dict[str, Any]:
    signals: dict[str, Signal] = {
        "offer": OFFER,
        "answer": ANSWER,
        "candidates": CANDIDATES,
        "refusal": REFUSAL,
    }
    opened = []
    for kind, signal in signals.items():
        envelope = sealed(signal)
        form = form_of(envelope)
        fields = signed.read_naming(kind, form, "from")
        case: dict[str, Any] = {"kind": kind, "by": "ann", "fields": fields}
        case |= {"form": form, "envelope": envelope.hex(), "outer": "ann", "now": NOW}
        opened.append(case | opening(envelope.hex(), "ann", NOW))
    return {
        "about": "docs/protocol.md §4. Made by make_trust.py; bytes are hexadecimal.",
        "receiver": {"id": BOB, "box": bytes(BOX).hex()},
        "ephemeral": bytes(EPHEMERAL).hex(),
        "nonce": NONCE.hex(),
        "opened": opened,
        "refused": refused(),
        "unknown_code": {"envelope": reform("refusal", code=4_000).hex(), "read": 18},
        "seen": seen(),
    }


def seen() -> list[dict[str, Any]]:
    """Asked one after the other, of one memory."""
    paths, asked = SeenPaths(), []
    for sender, path, now in (
        ("ann", 1, NOW),
        ("ann", 1, NOW),
        ("ann", 2, NOW),
        ("eve", 1, NOW),
        ("ann", 1, NOW + 900),
        ("ann", 1, NOW + 901),
    ):
        new = paths.is_new(id_of(sender), path.to_bytes(16), now)
        asked.append({"sender": sender, "path": path, "now": now, "new": new})
    return asked


PARTS: dict[str, Any] = {
    "path": OFFER.path,
    "offerer": ANN,
    "answerer": BOB,
    "commit": OFFER.commit,
    "answer_nonce": NONCE_B,
    "offerer_fingerprint": hashlib.sha256(b"ann's certificate").digest(),
    "answerer_fingerprint": hashlib.sha256(b"bob's certificate").digest(),
    "offer_digest": hashlib.sha256(b"offer").digest(),
    "answer_digest": hashlib.sha256(b"answer").digest(),
}


def hellos() -> dict[str, Any]:
    transcript = hello.transcript(**PARTS)
    other = hello.transcript(**PARTS | {"answerer_fingerprint": bytes(32)})
    anns, bobs = (
        hello.prove(hello.OFFERER, transcript, key("ann")),
        hello.prove(hello.ANSWERER, transcript, key("bob")),
    )
    elsewhere = hello.prove(hello.OFFERER, other, key("ann"))
    swapped = hello.prove(hello.ANSWERER, transcript, key("ann"))
    cases = [
        ("the offerer", 1, "ann", 1, NONCE_A, anns),
        ("the answerer", 2, "bob", 2, bytes(32), bobs),
        ("another fingerprint", 1, "ann", 1, NONCE_A, elsewhere),
        ("another key", 1, "eve", 1, NONCE_A, anns),
        ("another nonce than was committed to", 1, "ann", 1, NONCE_B, anns),
        ("the answerer's role, claimed", 1, "ann", 2, NONCE_A, anns),
        ("the answerer's role, signed", 1, "ann", 1, NONCE_A, swapped),
        ("our own, sent back", 2, "ann", 1, NONCE_A, anns),
        ("an answerer that reveals something", 2, "bob", 2, NONCE_A, bobs),
        ("a changed signature", 2, "bob", 2, bytes(32), bobs[:-1] + b"\0"),
    ]
    checked = []
    for name, expected, peer, role, nonce, sig in cases:
        case: dict[str, Any] = {"name": name, "expected_role": expected, "peer": peer}
        case |= {"hello": {"role": role, "nonce": nonce.hex(), "sig": sig.hex()}}
        checked.append(case | outcome(checking, case, transcript))
    return {
        "about": "docs/protocol.md §5. Made by make_trust.py; bytes are hexadecimal.",
        "nonce_a": NONCE_A.hex(),
        "parts": {
            name: part if isinstance(part, str) else part.hex()
            for name, part in PARTS.items()
        },
        "transcript": transcript.hex(),
        "checked": checked,
    }


def checking(case: dict[str, Any], transcript: bytes) -> dict[str, Any]:
    """Nothing; raises when this HELLO is refused."""
    said = case["hello"]
    shown = Hello(
        said["role"], bytes.fromhex(said["nonce"]), bytes.fromhex(said["sig"])
    )
    hello.verify(
        shown,
        role=case["expected_role"],
        transcript=transcript,
        public=bytes(key(case["peer"]).verify_key),
        commit=OFFER.commit if case["expected_role"] == hello.OFFERER else None,
    )
    return {}
