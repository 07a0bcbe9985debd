"""Makes pairing.json; make_trust.py runs it, and explains the form."""

from __future__ import annotations

from typing import Any

from nacl.public import PrivateKey

from meshllm.errors import Code
from meshllm.protocol.pairing import LIFE_S, NewcomerSide, OwnerSide
from meshllm.protocol.pairing_messages import Answer, Grant, Offer, commit
from tests.fakes.hubs import Mesh
from tests.fakes.pairs import MAILBOX, Pair, chance, grant, newcomer, owner
from tests.fakes.people import NOW, id_of, key
from tests.vectors.outcome import outcome

BOB, ANN = chance("box", "bob", "newcomer", 0), chance("box", "ann", "owner", 0)
NAMES = ("offer", "answer", "reveal", "ready", "grant", "accepted")


def letters() -> dict[str, bytes]:
    pair = Pair().met().typed().ready().granted().accepted()
    return dict(zip(NAMES, pair.letters, strict=True))


LETTERS = letters()


def side(who: str, heard: list[str]) -> OwnerSide | NewcomerSide:
    """One side after these; `code` and `receipt` are the right digits, typed."""
    met = Pair().met()
    code = met.newcomer.code
    receipt = met.typed().owner.receipt
    if who == "owner":
        ann = owner()
        for step in heard:
            if step == "code":
                ann.type_code(code, NOW)
            else:
                ann.receive(LETTERS[step], NOW)
        return ann
    bob = newcomer()
    bob.offer()
    for step in heard:
        if step == "receipt":
            bob.type_receipt(receipt, NOW)
        else:
            bob.receive(LETTERS[step], NOW)
    return bob


def hearing(who: str, heard: list[str], letter: str, now: int) -> dict[str, Any]:
    """What a side in this stage sends back; raises when it refuses the letter."""
    back = side(who, heard).receive(bytes.fromhex(letter), now)
    return {"back": None if back is None else back.hex()}


def offer(**change: Any) -> bytes:
    box = bytes(PrivateKey(BOB).public_key)
    nonce = chance("nonce", "bob", "newcomer", 0)
    fields: dict[str, Any] = {"mailbox": MAILBOX, "sender": id_of("bob")}
    fields |= {"box": box, "commit": commit(nonce)}
    return Offer(**fields | change).sign(key("bob"))


def answer(**change: Any) -> bytes:
    read = Answer.read(LETTERS["answer"])
    fields = {name: getattr(read, name) for name in Answer.__slots__}
    return Answer(**fields | change).sign(key("ann"))


def changed(letter: str) -> bytes:
    return LETTERS[letter][:-1] + bytes([LETTERS[letter][-1] ^ 1])


def told(code: Code) -> bytes:
    """The owner stops while it waits for the code."""
    last = Pair().met().owner.stop(code)
    assert last is not None
    return last


def granting(given: Grant) -> bytes:
    return Pair().met().typed().ready().owner.grant(given)


HEARD: dict[str, tuple[str, list[str]]] = {
    "offer": ("owner", []),
    "answer": ("newcomer", []),
    "reveal": ("owner", ["offer"]),
    "code": ("owner", ["offer", "reveal"]),
    "ready": ("owner", ["offer", "reveal", "code"]),
    "receipt": ("newcomer", ["answer"]),
    "grant": ("newcomer", ["answer", "receipt"]),
}


def heard() -> list[dict[str, Any]]:
    other = Pair(owner(draw=1), newcomer(draw=1)).met().letters
    cases: list[tuple[str, str, bytes, int]] = [
        (f"the {name}", name, LETTERS[name], NOW) for name in ("offer", "answer")
    ]
    cases += [
        ("an offer of another mailbox", "offer", offer(mailbox=413), NOW),
        ("an offer of no mailbox", "offer", offer(mailbox=None), NOW),
        ("an offer from oneself", "offer", owner_offers(), NOW),
        ("an offer by another than it says", "offer", offer(sender=id_of("eve")), NOW),
        ("an offer whose key boxes nothing", "offer", offer(box=bytes(32)), NOW),
        ("an offer of mailbox 99", "offer", offer(mailbox=99), NOW),
        ("an offer after ten minutes", "offer", LETTERS["offer"], NOW + LIFE_S),
        ("an answer for an offer", "offer", LETTERS["answer"], NOW),
        ("an answer of another mailbox", "answer", answer(mailbox=413), NOW),
        ("an answer to somebody else", "answer", answer(to=id_of("eve")), NOW),
        ("an answer to another offer", "answer", answer(prev=bytes(32)), NOW),
        ("our own offer, sent back", "answer", LETTERS["offer"], NOW),
        ("the reveal", "reveal", LETTERS["reveal"], NOW),
        ("the reveal of another pairing", "reveal", other[2], NOW),
        ("a changed reveal", "reveal", changed("reveal"), NOW),
        ("the offer, again", "reveal", LETTERS["offer"], NOW),
        ("ready, before the reveal", "reveal", LETTERS["ready"], NOW),
        ("our own grant, sent back", "reveal", LETTERS["grant"], NOW),
        ("the reveal, again", "code", LETTERS["reveal"], NOW),
        ("ready, before the code was typed", "code", LETTERS["ready"], NOW),
        ("ready", "ready", LETTERS["ready"], NOW),
        ("ready, too late", "ready", LETTERS["ready"], NOW + LIFE_S),
        ("a grant before the receipt was typed", "receipt", LETTERS["grant"], NOW),
        ("the end: another code was typed", "receipt", told(Code.AUTH), NOW),
        ("the end: it was stopped", "receipt", told(Code.CANCELLED), NOW),
        ("the grant", "grant", LETTERS["grant"], NOW),
        ("a grant for another", "grant", granting(grant("eve")), NOW),
        ("a grant by another owner", "grant", granting(by_another()), NOW),
    ]
    made = []
    for name, stage, letter, now in cases:
        who, before = HEARD[stage]
        case: dict[str, Any] = {"name": name, "side": who, "heard": before}
        case |= {"letter": letter.hex(), "now": now}
        made.append(case | outcome(hearing, who, before, letter.hex(), now))
    return made


def by_another() -> Grant:
    return grant(mesh=Mesh(owners=("ann", "carol")), by="carol")


def owner_offers() -> bytes:
    nonce = chance("nonce")
    return Offer(
        MAILBOX, id_of("ann"), bytes(PrivateKey(BOB).public_key), commit(nonce)
    ).sign(key("ann"))


def pairings() -> dict[str, Any]:
    pair = Pair().met()
    code = pair.newcomer.code
    given = grant()
    return {
        "about": "docs/protocol.md §3.3. Made by make_trust.py; bytes are hexadecimal.",
        "mailbox": MAILBOX,
        "now": NOW,
        "newcomer": {
            "id": id_of("bob"),
            "box": BOB.hex(),
            "nonce": chance("nonce", "bob", "newcomer", 0).hex(),
        },
        "owner": {
            "id": id_of("ann"),
            "box": ANN.hex(),
            "nonce": chance("nonce", "ann", "owner", 0).hex(),
        },
        "code": code,
        "receipt": pair.typed().owner.receipt,
        "grant": {name: getattr(given, name) for name in Grant.__slots__},
        "letters": {name: letter.hex() for name, letter in LETTERS.items()},
        "heard": heard(),
    }
