"""Pairing without any socket: the way it goes, and every way somebody bends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey

from meshllm.errors import (
    Code,
    ConfigError,
    LocalProtocolError,
    MeshError,
    NotAllowed,
    RemoteProtocolError,
    TrustError,
)
from meshllm.protocol.pairing import LIFE_S, NewcomerSide, OwnerSide, Stage
from meshllm.protocol.pairing_messages import (
    LETTER_MAX,
    NEWCOMER,
    OWNER,
    Grant,
    Offer,
    Ready,
    Reveal,
    Seals,
    Stop,
    commit,
    digits,
    read_digits,
)
from meshllm.trust.grants import Role
from tests.fakes.hubs import Mesh
from tests.fakes.pairs import Pair, chance, grant, newcomer, owner
from tests.fakes.people import NOW, id_of, key


def is_over(side: OwnerSide | NewcomerSide) -> bool:
    """And stays so, whatever is tried."""
    with pytest.raises(NotAllowed, match="over"):
        side.receive(b"", NOW)
    return side.stage is Stage.OVER


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


# The way it goes


def test_two_machines_pair() -> None:
    pair = Pair().met()
    code = pair.newcomer.code
    assert (len(code), code.isdigit()) == (6, True)

    pair.typed()
    assert len(pair.owner.receipt) == 2
    pair.ready()
    assert pair.owner.other == id_of("bob")
    pair.granted()
    assert pair.newcomer.granted == grant()
    pair.accepted()

    assert pair.owner.stage is pair.newcomer.stage is Stage.PAIRED
    assert len(pair.letters) == 6


def test_each_attempt_has_a_code_of_its_own() -> None:
    codes = {
        Pair(owner(draw=draw), newcomer(draw=draw)).met().newcomer.code
        for draw in range(50)
    }

    assert len(codes) == 50


def test_no_letter_shows_the_grant_or_the_nonce_that_was_committed_to() -> None:
    pair = Pair().met().typed().ready().granted().accepted()

    shown = b"".join(pair.letters)

    assert grant().membership.encode() not in shown
    assert chance("nonce", "bob", "newcomer", 0) not in shown


def test_on_a_lan_there_is_no_mailbox() -> None:
    pair = Pair(owner(mailbox=None), newcomer(mailbox=None)).met().typed()

    assert pair.ready().granted().accepted().owner.stage is Stage.PAIRED


# One guess


def test_a_wrong_code_ends_it() -> None:
    pair = Pair().met()

    with pytest.raises(NotAllowed, match="again with `meshllm pair` on both") as caught:
        pair.owner.type_code(wrong(pair.newcomer.code), NOW)

    assert caught.value.code is Code.AUTH
    assert is_over(pair.owner)


def test_a_thousand_wrong_codes_are_one_guess() -> None:
    """Not even the right one is taken after a wrong one."""
    pair = Pair().met()
    right = pair.newcomer.code
    taken = 0
    for guess in [f"{number:06}" for number in range(1_000)] + [right]:
        try:
            pair.owner.type_code(guess, NOW)
            taken += 1
        except NotAllowed as error:
            assert error.code in (Code.AUTH, Code.GONE)

    assert taken == (1 if right == "000000" else 0)


def test_a_wrong_receipt_ends_it_for_the_newcomer() -> None:
    pair = Pair().met().typed()
    other = f"{(int(pair.owner.receipt) + 1) % 100:02}"

    with pytest.raises(NotAllowed, match="digits"):
        pair.newcomer.type_receipt(other, NOW)

    assert is_over(pair.newcomer)


def test_the_other_machine_is_told_why_it_ended() -> None:
    pair = Pair().met()
    with pytest.raises(NotAllowed):
        pair.owner.type_code(wrong(pair.newcomer.code), NOW)
    last = pair.owner.stop(Code.AUTH)
    assert last is not None

    with pytest.raises(NotAllowed, match="typed on the other machine are wrong"):
        pair.to_newcomer(last)

    assert is_over(pair.newcomer)
    assert pair.newcomer.stop(Code.AUTH) is None  # it knows
    assert pair.owner.stop(Code.AUTH) is None  # it was told


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (Code.CANCELLED, "was stopped on the other machine"),
        (Code.TIMEOUT, "ten minutes"),
        (Code.INTERNAL, "was stopped on the other machine"),
    ],
)
def test_every_end_is_told(code: Code, text: str) -> None:
    pair = Pair().met()
    last = pair.newcomer.stop(code)
    assert last is not None

    with pytest.raises(NotAllowed, match=text) as caught:
        pair.to_owner(last)

    assert caught.value.code is code


def test_before_they_met_there_is_nobody_to_tell() -> None:
    assert owner().stop(Code.CANCELLED) is None
    assert newcomer().stop(Code.CANCELLED) is None


def test_after_it_worked_there_is_nothing_to_tell() -> None:
    pair = Pair().met().typed().ready().granted().accepted()

    assert pair.owner.stop(Code.CANCELLED) is None


# Ten minutes


def test_ten_minutes_are_enough_and_no_more() -> None:
    pair = Pair().met()
    pair.now = NOW + LIFE_S - 1
    pair.typed()
    pair.now = NOW + LIFE_S

    with pytest.raises(NotAllowed, match="ten minutes") as caught:
        pair.newcomer.type_receipt(pair.owner.receipt, pair.now)

    assert caught.value.code is Code.TIMEOUT
    assert is_over(pair.newcomer)


@pytest.mark.parametrize(
    "late",
    [
        lambda pair: pair.owner.type_code(pair.newcomer.code, pair.now),
        lambda pair: pair.newcomer.receive(b"", pair.now),
        lambda pair: pair.owner.receive(b"", pair.now),
    ],
    ids=["code", "newcomer", "owner"],
)
def test_nothing_counts_that_comes_late(late: Callable[[Pair], object]) -> None:
    pair = Pair().met()
    pair.now = NOW + LIFE_S

    with pytest.raises(NotAllowed, match="ten minutes"):
        late(pair)


# Replayed, reordered, reflected, elsewhere


def whole() -> list[bytes]:
    """The letters of a pairing that worked: offer, answer, reveal, ready, grant, …"""
    return Pair().met().typed().ready().granted().accepted().letters


LETTERS = whole()
CODE, RECEIPT = Pair().met().newcomer.code, Pair().met().typed().owner.receipt


def owner_at(stage: Stage) -> OwnerSide:
    pair = Pair()
    if stage is not Stage.OFFER:
        pair.owner.receive(LETTERS[0], NOW)
    if stage in (Stage.CODE, Stage.READY, Stage.ADMIT, Stage.ACCEPTED):
        pair.owner.receive(LETTERS[2], NOW)
    if stage in (Stage.READY, Stage.ADMIT, Stage.ACCEPTED):
        pair.owner.type_code(CODE, NOW)
    if stage in (Stage.ADMIT, Stage.ACCEPTED):
        pair.owner.receive(LETTERS[3], NOW)
    if stage is Stage.ACCEPTED:
        pair.owner.grant(grant())
    assert pair.owner.stage is stage
    return pair.owner


def newcomer_at(stage: Stage) -> NewcomerSide:
    pair = Pair()
    pair.newcomer.offer()
    if stage is not Stage.ANSWER:
        pair.newcomer.receive(LETTERS[1], NOW)
    if stage in (Stage.GRANT, Stage.STORE, Stage.PAIRED):
        pair.newcomer.type_receipt(RECEIPT, NOW)
    if stage in (Stage.STORE, Stage.PAIRED):
        pair.newcomer.receive(LETTERS[4], NOW)
    if stage is Stage.PAIRED:
        pair.newcomer.accept()
    assert pair.newcomer.stage is stage
    return pair.newcomer


OWNER_STAGES = {
    Stage.OFFER: 0,
    Stage.REVEAL: 2,
    Stage.CODE: None,
    Stage.READY: 3,
    Stage.ADMIT: None,
    Stage.ACCEPTED: 5,
}
NEWCOMER_STAGES = {
    Stage.ANSWER: 1,
    Stage.RECEIPT: None,
    Stage.GRANT: 4,
    Stage.STORE: None,
    Stage.PAIRED: None,
}


@pytest.mark.parametrize("letter", range(6))
@pytest.mark.parametrize("stage", OWNER_STAGES, ids=lambda stage: stage.name)
def test_an_owner_takes_the_one_letter_that_is_next(stage: Stage, letter: int) -> None:
    """Of this very pairing: a replay, one out of turn, or its own sent back."""
    side = owner_at(stage)
    if letter == OWNER_STAGES[stage]:
        side.receive(LETTERS[letter], NOW)
        assert side.stage is not stage
        return
    with pytest.raises((TrustError, RemoteProtocolError)):
        side.receive(LETTERS[letter], NOW)
    assert is_over(side)


@pytest.mark.parametrize("letter", range(6))
@pytest.mark.parametrize("stage", NEWCOMER_STAGES, ids=lambda stage: stage.name)
def test_a_newcomer_takes_the_one_letter_that_is_next(
    stage: Stage, letter: int
) -> None:
    side = newcomer_at(stage)
    if letter == NEWCOMER_STAGES[stage]:
        side.receive(LETTERS[letter], NOW)
        assert side.stage is not stage
        return
    with pytest.raises((TrustError, RemoteProtocolError)):
        side.receive(LETTERS[letter], NOW)
    assert is_over(side)


@pytest.mark.parametrize("draw", [1, 2])
@pytest.mark.parametrize("letter", [2, 3, 5])
def test_letters_of_another_pairing_are_refused(draw: int, letter: int) -> None:
    """The same two people a minute ago: other keys, other nonces."""
    then = Pair(owner(draw=draw), newcomer(draw=draw)).met().typed().ready()
    then.granted().accepted()
    side = owner_at({2: Stage.REVEAL, 3: Stage.READY, 5: Stage.ACCEPTED}[letter])

    with pytest.raises(TrustError, match="not the other side's next"):
        side.receive(then.letters[letter], NOW)

    assert is_over(side)


def test_an_answer_to_an_earlier_offer_is_refused() -> None:
    side = newcomer(draw=1)
    side.offer()

    with pytest.raises(TrustError, match="another offer"):
        side.receive(LETTERS[1], NOW)


def test_an_answer_to_somebody_else_is_refused() -> None:
    side = newcomer("eve")
    side.offer()

    with pytest.raises(TrustError, match="another machine"):
        side.receive(LETTERS[1], NOW)


def test_an_offer_of_another_mailbox_is_refused() -> None:
    pair = Pair(newcomer=newcomer(mailbox=413))

    with pytest.raises(TrustError, match="another mailbox"):
        pair.met()

    assert is_over(pair.owner)


def test_an_answer_of_another_mailbox_is_refused() -> None:
    """A hub that carries letters from one mailbox to another."""
    side = newcomer()
    elsewhere = newcomer(mailbox=413)
    side.offer()
    answer = owner(mailbox=413).receive(elsewhere.offer(), NOW)
    assert answer is not None

    with pytest.raises(TrustError, match="mailbox"):
        side.receive(answer, NOW)


def test_an_offer_is_not_read_as_an_answer() -> None:
    side = newcomer()

    with pytest.raises(TrustError, match="signature"):
        side.receive(side.offer(), NOW)


def test_one_cannot_pair_with_oneself() -> None:
    with pytest.raises(TrustError, match="two homes with one key"):
        Pair(newcomer=newcomer("ann")).met()


def test_nobody_offers_in_anothers_name() -> None:
    forged = Offer(412, id_of("bob"), bytes(range(32)), bytes(32)).sign(key("eve"))

    with pytest.raises(TrustError, match="signature"):
        owner().receive(forged, NOW)


def test_a_box_key_that_boxes_nothing_is_refused() -> None:
    """Zero: whatever is boxed to it everybody can open."""
    offer = Offer(412, id_of("bob"), bytes(32), bytes(32)).sign(key("bob"))

    with pytest.raises(TrustError, match="nothing can be sealed"):
        owner().receive(offer, NOW)


@pytest.mark.parametrize("data", [b"", b"\xff", b"a.b", b"." * 9_000])
def test_what_is_no_letter_is_refused(data: bytes) -> None:
    for side in (owner(), owner_at(Stage.REVEAL), newcomer_at(Stage.ANSWER)):
        with pytest.raises(TrustError):
            side.receive(data, NOW)
        assert is_over(side)


@given(st.integers(0, 5), st.data())
def test_a_changed_letter_is_refused(number: int, data: st.DataObject) -> None:
    letter = bytearray(LETTERS[number])
    at = data.draw(st.integers(0, len(letter) - 1))
    letter[at] ^= data.draw(st.integers(1, 255))
    stages: list[OwnerSide | NewcomerSide] = [
        owner_at(Stage.OFFER),
        newcomer_at(Stage.ANSWER),
        owner_at(Stage.REVEAL),
        owner_at(Stage.READY),
        newcomer_at(Stage.GRANT),
        owner_at(Stage.ACCEPTED),
    ]
    side = stages[number]

    with pytest.raises((TrustError, RemoteProtocolError)):
        side.receive(bytes(letter), NOW)


def test_typing_before_there_is_a_code_ends_it() -> None:
    with pytest.raises(RemoteProtocolError, match="nonce was next"):
        owner_at(Stage.REVEAL).type_code("123456", NOW)


# Boxed messages of who has the keys, but not the manners


def boxed(pair: Pair) -> Seals:
    """The newcomer's seals, in the hands of somebody who does not follow the rules."""
    box = PrivateKey(chance("box", "bob", "newcomer", 0))
    theirs = bytes(PrivateKey(chance("box", "ann", "owner", 0)).public_key)
    pair.owner.receive(pair.newcomer.offer(), NOW)
    return Seals(box, theirs, NEWCOMER)


def test_a_nonce_that_was_not_committed_to_is_refused() -> None:
    pair = Pair()
    seals = boxed(pair)

    with pytest.raises(RemoteProtocolError, match="nonce was next"):
        pair.owner.receive(seals.seal(Reveal(chance("another"))), NOW)

    assert is_over(pair.owner)


def test_nobody_is_ready_before_the_code_was_typed() -> None:
    pair = Pair()
    seals = boxed(pair)
    pair.owner.receive(seals.seal(Reveal(chance("nonce", "bob", "newcomer", 0))), NOW)
    assert pair.owner.stage is Stage.CODE

    with pytest.raises(RemoteProtocolError, match="six digits"):
        pair.owner.receive(seals.seal(Ready()), NOW)

    assert is_over(pair.owner)


@pytest.mark.parametrize(
    "message",
    [Ready(), grant(), Reveal(bytes(32)), Stop(Code.AUTH)],
    ids=lambda message: type(message).__name__,
)
def test_the_reveal_comes_first(message: Ready | Grant | Reveal | Stop) -> None:
    pair = Pair()
    seals = boxed(pair)

    with pytest.raises(MeshError):
        pair.owner.receive(seals.seal(message), NOW)

    assert is_over(pair.owner)


@pytest.mark.parametrize(
    "inside",
    [
        b'{"type":"more"}',
        b"{}",
        b'{"type":"ready","more":1}',
        b'{"type":"reveal"}',
        b'{"type":"stop","code":"3"}',
        b"[]",
    ],
)
def test_strict_json_inside_a_box_too(inside: bytes) -> None:
    ours, theirs = PrivateKey(chance("a")), PrivateKey(chance("b"))
    here = Seals(ours, bytes(theirs.public_key), OWNER)
    there = Seals(theirs, bytes(ours.public_key), NEWCOMER)
    sealed = there._box.encrypt(inside, bytes([NEWCOMER, 1]).ljust(24, b"\0"))

    with pytest.raises(RemoteProtocolError):
        here.open(sealed.ciphertext)


def test_an_unknown_code_is_an_end_all_the_same() -> None:
    ours, theirs = PrivateKey(chance("a")), PrivateKey(chance("b"))
    here = Seals(ours, bytes(theirs.public_key), OWNER)
    there = Seals(theirs, bytes(ours.public_key), NEWCOMER)
    inside = b'{"type":"stop","code":4000}'
    sealed = there._box.encrypt(inside, bytes([NEWCOMER, 1]).ljust(24, b"\0"))

    assert here.open(sealed.ciphertext) == Stop(Code.INTERNAL)


def test_a_grant_that_no_mailbox_would_take_is_our_own_mistake() -> None:
    seals = Seals(
        PrivateKey(chance("a")), bytes(PrivateKey(chance("b")).public_key), OWNER
    )

    with pytest.raises(LocalProtocolError, match="too large"):
        seals.seal(replace(grant(), statement="x" * LETTER_MAX))


# What is granted


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (grant("eve"), "another node"),
        (grant(mesh=Mesh(owners=("ann", "carol")), by="carol"), "another owner's"),
        (grant(mesh=Mesh(owners=("carol",)), by="ann"), "no owner"),
        (replace(grant(), statement=Mesh(root="other").statement), "another"),
        (grant(role=Role.OWNER), "only the mesh's root|makes owners"),
        (replace(grant(), membership="a.b"), "base64url|signature"),
    ],
)
def test_a_newcomer_takes_only_what_the_owner_itself_issued_to_it(
    given: Grant, why: str
) -> None:
    pair = Pair().met().typed().ready()

    with pytest.raises(MeshError, match=f"(?i){why}"):
        pair.to_newcomer(pair.owner.grant(given))

    assert is_over(pair.newcomer)


# Somebody in between


def bridged(draw: object) -> tuple[Pair, Pair]:
    """Eve is an owner towards bob and a newcomer towards ann, as long as it goes.

    She has her own pairing on each side, and may choose everything of it: here the
    draws. What she cannot do is make one's nonce depend on the other's code.
    """
    near = Pair(owner("eve", draw), newcomer("bob", draw))
    far = Pair(owner("ann", draw), newcomer("eve", draw))
    return near.met(), far.met()


def test_nobody_in_between_has_the_same_code_on_both_sides() -> None:
    """Eve shows ann's machine what bob's screen shows: a guess in a million."""
    for draw in range(100):
        near, far = bridged(draw)

        with pytest.raises(NotAllowed):
            far.owner.type_code(near.newcomer.code, NOW)

        assert is_over(far.owner)


def test_who_could_choose_after_seeing_would_have_any_code() -> None:
    """Why there is a commitment: without one a nonce for a code is found at once. (Of
    two digits of it here; all six take a tenth of a second in a faster language.)"""
    found = [
        attempt
        for attempt in range(1_000)
        if digits(
            newcomer=id_of("eve"),
            owner=id_of("ann"),
            newcomer_box=bytes(32),
            owner_box=bytes(32),
            newcomer_nonce=chance("ground", attempt),
            owner_nonce=chance("ann's, already known"),
        )[0].endswith("42")
    ]

    assert found


def test_grinding_before_the_commitment_gains_nothing() -> None:
    """Eve looks for a nonce whose code would be bob's, if only ann's nonce were the one
    she supposes. Ann's is another each time, so she hits as often as by chance: of the
    one digit here, in 10 of 100."""
    hits = 0
    for draw in range(100):
        far = owner("ann", draw)
        wanted = Pair(owner("eve", draw), newcomer("bob", draw)).met().newcomer.code
        box = PrivateKey(chance("eve's box"))
        supposed = owner("ann", ("supposed", draw))
        nonce = next(
            candidate
            for candidate in (chance("ground", draw, n) for n in range(1_000))
            if digits(
                newcomer=id_of("eve"),
                owner=id_of("ann"),
                newcomer_box=bytes(box.public_key),
                owner_box=bytes(supposed._box.public_key),
                newcomer_nonce=candidate,
                owner_nonce=supposed._nonce,
            )[0].endswith(wanted[-1])
        )
        eve = NewcomerSide(key("eve"), box, nonce, mailbox=412, until=NOW + LIFE_S)
        Pair(far, eve).met()
        hits += eve.code.endswith(wanted[-1])

    assert 0 < hits <= 23  # more come once in 20,000, if she gains nothing


def test_a_nonce_found_after_the_commitment_cannot_be_revealed() -> None:
    """Eve commits to one and, knowing ann's, reveals another whose code is bob's."""
    far, nonce = owner("ann"), chance("committed")
    box = PrivateKey(chance("eve's box"))
    offer = Offer(412, id_of("eve"), bytes(box.public_key), commit(nonce))
    far.receive(offer.sign(key("eve")), NOW)
    seals = Seals(box, bytes(far._box.public_key), NEWCOMER)

    with pytest.raises(RemoteProtocolError):
        far.receive(seals.seal(Reveal(chance("found"))), NOW)

    assert is_over(far)


def test_who_went_away_does_not_get_a_second_try() -> None:
    """Else eve could come back until ann's code is by chance what bob's screen shows:
    she knows hers before she reveals anything."""
    far = owner("ann")
    far.receive(newcomer("eve", 1).offer(), NOW)

    with pytest.raises(TrustError):
        far.receive(newcomer("eve", 2).offer(), NOW)

    assert is_over(far)


def test_a_newcomer_is_in_no_mesh_of_somebody_in_between() -> None:
    """Eve can say that all is well, but no person has a receipt of hers to type: ann's
    machine shows none, as the code was wrong there."""
    near, far = bridged("draw")
    with pytest.raises(NotAllowed):
        far.owner.type_code(near.newcomer.code, NOW)
    near.typed()
    evil = Mesh(root="evil", owners=("eve",))
    token = evil.membership("bob", issuer="eve")
    seals = near.owner._seals
    assert seals is not None
    letter = seals.seal(Grant(None, None, evil.statement, token))

    with pytest.raises(RemoteProtocolError, match="two digits typed on the newcomer"):
        near.newcomer.receive(letter, NOW)


# Digits


@pytest.mark.parametrize("typed", ["123456", "123 456", " 12-34-56\n"])
def test_digits_are_read_as_people_type_them(typed: str) -> None:
    assert read_digits(typed, 6) == "123456"


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567", "12345x", "١٢٣٤٥٦", "²23456"]
)
def test_what_cannot_be_meant_is_no_guess(typed: str) -> None:
    with pytest.raises(ConfigError, match="not 6 digits"):
        read_digits(typed, 6)


def test_codes_are_spread_evenly() -> None:
    """2,000 codes over ten first digits."""
    counts = [0] * 10
    for draw in range(2_000):
        code, _ = digits(
            newcomer=id_of("bob"),
            owner=id_of("ann"),
            newcomer_box=bytes(32),
            owner_box=bytes(32),
            newcomer_nonce=chance(draw),
            owner_nonce=bytes(32),
        )
        counts[int(code[0])] += 1

    assert min(counts) > 150
    assert max(counts) < 250
