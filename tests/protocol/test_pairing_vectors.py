"""pairing.json: what is in the file is what both sides say, take and refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nacl.public import PrivateKey

from meshllm.protocol.pairing import LIFE_S, NewcomerSide, OwnerSide
from meshllm.protocol.pairing_messages import Grant
from tests.fakes.people import key
from tests.vectors import make_pairing, make_trust
from tests.vectors.outcome import outcome

VECTORS: dict[str, Any] = json.loads((make_trust.FOLDER / "pairing.json").read_bytes())


def test_the_file_is_what_the_script_makes() -> None:
    made = (make_trust.FOLDER / "pairing.json").read_text(encoding="utf-8")

    assert made == make_trust.dump("pairing.json")


def test_a_pairing_goes_letter_by_letter() -> None:
    """From the keys and nonces in the file alone, as another implementation would."""
    now, letters = VECTORS["now"], VECTORS["letters"]
    bob, ann = (
        of(
            key(name),
            PrivateKey(bytes.fromhex(VECTORS[side]["box"])),
            bytes.fromhex(VECTORS[side]["nonce"]),
            mailbox=VECTORS["mailbox"],
            until=now + LIFE_S,
        )
        for of, name, side in (
            (NewcomerSide, "bob", "newcomer"),
            (OwnerSide, "ann", "owner"),
        )
    )
    assert isinstance(bob, NewcomerSide)
    assert isinstance(ann, OwnerSide)
    said = [bob.offer()]
    for side in (ann, bob, ann):
        back = side.receive(said[-1], now)
        said += [back] if back else []
    ann.type_code(VECTORS["code"], now)
    said.append(bob.type_receipt(VECTORS["receipt"], now))
    ann.receive(said[-1], now)
    said.append(ann.grant(Grant(**VECTORS["grant"])))
    bob.receive(said[-1], now)
    said.append(bob.accept())
    ann.receive(said[-1], now)

    assert [letter.hex() for letter in said] == list(letters.values())
    assert (bob.id, ann.id) == (VECTORS["newcomer"]["id"], VECTORS["owner"]["id"])


@pytest.mark.parametrize("case", VECTORS["heard"], ids=lambda case: case["name"])
def test_a_letter_is_taken_or_refused(case: dict[str, Any]) -> None:
    found = outcome(
        make_pairing.hearing, case["side"], case["heard"], case["letter"], case["now"]
    )

    assert found == {name: case[name] for name in ("back", "code") if name in case}


def test_the_file_holds_both_ends_of_every_rule() -> None:
    codes = [case.get("code") for case in VECTORS["heard"]]

    assert set(codes) == {None, "auth", "protocol", "timeout", "cancelled"}
    assert codes.count(None) == 5
