"""Makes trust.json, envelope.json, hello.json: what is signed and sealed, what refused.

`python -m tests.vectors.make_trust` from the root of the repository. Every
implementation of docs/protocol.md §1, §2, §4 and §5 reads the files; a change here is a
change of the protocol. The key called NAME has the seed SHA-256(NAME). A case has what
comes of it, or a `code`: `protocol` is malformed, `auth` does not hold or is not
permitted, the others are as in §8.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from meshllm.trust import signed
from meshllm.trust.admission import admit, supersedes
from meshllm.trust.announcement import Announcement, ModelCard
from meshllm.trust.grants import (
    Caps,
    Card,
    Membership,
    Owner,
    Revocations,
    Revoked,
    Role,
    Statement,
    Ticket,
)
from meshllm.trust.keys import b64encode
from tests.fakes.people import NOW, id_of, key
from tests.vectors import make_envelope, make_pairing, make_spellings
from tests.vectors.outcome import outcome

FOLDER = Path(__file__).parent
MESH, ANN, BOB, EVE = (id_of(name) for name in ("root", "ann", "bob", "eve"))
UNTIL = NOW + 3_600
SEED = key("seed")
STATEMENT = Statement(MESH, 1, (Owner(ANN, "Ann"), Owner(id_of("carol"), "Käthe")), NOW)
NEWER = Statement(MESH, 2, (Owner(ANN, "Ann"),), NOW)
WITHOUT_ANN = Statement(MESH, 3, (Owner(id_of("carol"), "Käthe"),), NOW)
TICKET = Ticket(
    mesh=MESH,
    issuer=ANN,
    id=bytes(range(16)),
    seed=bytes(SEED.verify_key),
    name="Bob 🐝",
    role=Role.MEMBER,
    caps=Caps(("llama3.2:1b",), 2, 100_000),
    until=UNTIL,
    ts=NOW,
)
CARD = Card(MESH, TICKET.id, BOB, NOW)
MEMBERSHIP = Membership(
    mesh=MESH,
    issuer=ANN,
    id=BOB,
    name="Bob 🐝",
    role=Role.MEMBER,
    caps=Caps(),
    ticket=None,
    until=UNTIL,
    ts=NOW,
)
ANNOUNCEMENT = Announcement(
    mesh=MESH,
    id=BOB,
    conn=bytes(range(16)),
    box=bytes(range(32)),
    versions=(1, 1),
    backend="ollama",
    parallel=2,
    models=(
        ModelCard(
            name="llama3.2:1b",
            digest="baf6a787fdff",
            size=1_321_098_329,
            modified_at="2026-11-01T10:00:00Z",
            details={"family": "llama", "families": ["llama"], "rope": {"base": 0.5}},
            capabilities=("completion",),
            context_length=131_072,
        ),
    ),
    chain=(STATEMENT.sign(key("root")), MEMBERSHIP.sign(key("ann"))),
    ts=NOW,
)


def lists(*names: str, by: str = "ann", version: int = 1) -> str:
    out = tuple(Revoked(id_of(name), NOW) for name in names)
    return Revocations(MESH, id_of(by), version, out, NOW).sign(key(by))


TOKENS = {
    "statement": ("root", STATEMENT.sign(key("root"))),
    "ticket": ("ann", TICKET.sign(key("ann"))),
    "card": ("seed", CARD.sign(SEED)),
    "membership": ("ann", MEMBERSHIP.sign(key("ann"))),
    "revocations": ("ann", lists("eve")),
    "announcement": ("bob", ANNOUNCEMENT.sign(key("bob"))),
}


def forge(kind: str, text: str, by: str) -> str:
    """Any text, well signed."""
    data = text.encode()
    signature = key(by).sign(f"meshllm/{kind}/v1\0".encode() + data).signature
    return f"{b64encode(data)}.{b64encode(signature)}"


def body(kind: str) -> dict[str, Any]:
    by, token = TOKENS[kind]
    return signed.read(kind, token, bytes(key(by).verify_key))


def tokens() -> list[dict[str, Any]]:
    return [
        {"kind": kind, "by": by, "fields": body(kind), "token": token}
        for kind, (by, token) in TOKENS.items()
    ]


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("statement", "no owner", {"owners": []}),
    ("statement", "version 0", {"version": 0}),
    ("statement", "an owner twice", {"owners": [{"id": ANN, "name": "Ann"}] * 2}),
    (
        "statement",
        "a name of 65 characters",
        {"owners": [{"id": ANN, "name": "a" * 65}]},
    ),
    ("ticket", "an owner's role", {"role": "owner"}),
    ("ticket", "an unknown role", {"role": "admin"}),
    ("ticket", "a control character in its name", {"name": "Bob\n"}),
    ("ticket", "may-invite", {"caps": Caps().to_json() | {"invite": {}}}),
    ("ticket", "one limit too many", {"caps": Caps().to_json() | {"more": None}}),
    ("ticket", "a short id", {"id": "AAAA"}),
    ("card", "a number as id", {"id": 5}),
    ("membership", "an unknown field", {"more": 1}),
    ("membership", "time as a fraction", {"ts": 1.5}),
    ("membership", "time as text", {"ts": str(NOW)}),
    ("revocations", "401 entries", {"revoked": [{"id": EVE, "ts": NOW}] * 401}),
    ("announcement", "versions that fall", {"versions": [2, 1]}),
    ("announcement", "no chain", {"chain": []}),
    ("announcement", "no slot", {"parallel": 0}),
]


def refused_tokens() -> list[dict[str, Any]]:
    token, ticket = TOKENS["membership"][1], TOKENS["ticket"][1]
    text = json.dumps(body("membership"))
    head, _, signature = token.partition(".")
    changed = [
        (kind, name, signed.sign(kind, body(kind) | change, key(TOKENS[kind][0])))
        for kind, name, change in CHANGES
    ]
    forged = [
        ("a repeated key", text.replace("{", '{"ts":1,', 1)),
        ("an integer that ends in .0", text.replace(f"{NOW}", f"{NOW}.0")),
        ("an integer with an exponent", text.replace(f"{NOW}", "18e8")),
    ]
    spelled = [
        ("another signer", MEMBERSHIP.sign(key("eve"))),
        ("another kind", ticket),
        ("padding", f"{head}=.{signature}"),
        ("no signature", head),
        ("another signature", f"{head}.{'A' * 86}"),
        ("nothing", ""),
        ("three parts", f"{token}.AAAA"),
    ]
    bad = changed + [
        ("membership", n, forge("membership", t, "ann")) for n, t in forged
    ]
    return [
        {"kind": kind, "name": name, "token": token} | outcome(read, kind, token)
        for kind, name, token in bad + [("membership", n, t) for n, t in spelled]
    ]


READERS: dict[str, Callable[[str], object]] = {
    "statement": lambda token: Statement.read(token, MESH),
    "ticket": Ticket.read,
    "card": lambda token: Card.read(token, bytes(SEED.verify_key)),
    "membership": Membership.read,
    "revocations": Revocations.read,
    "announcement": Announcement.read,
}


def read(kind: str, token: str) -> dict[str, Any]:
    """Read by its kind; a refusal is what it is for."""
    READERS[kind](token)
    return {}


OWNER = (TOKENS["statement"][1],)
MEMBER = (*OWNER, TOKENS["membership"][1])
BEARER = (*OWNER, TOKENS["ticket"][1], TOKENS["card"][1])
OTHER = id_of("another root")


def member(by: str = "ann", **change: Any) -> tuple[str, ...]:
    return (*OWNER, replace(MEMBERSHIP, **change).sign(key(by)))


def bearer(card: Card = CARD, seed: str = "seed", **change: Any) -> tuple[str, ...]:
    ticket = replace(TICKET, **change)
    by = "eve" if ticket.issuer == EVE else "ann"
    return (*OWNER, ticket.sign(key(by)), card.sign(key(seed)))


# what it is called, who shows it, the chain, what the verifier keeps
CHAINS: list[tuple[str, str, tuple[str, ...], dict[str, str]]] = [
    ("an owner", "ann", OWNER, {}),
    ("a member", "bob", MEMBER, {}),
    ("a card is a guest's", "bob", BEARER, {}),
    ("nothing", "bob", (), {}),
    ("four links", "bob", (*BEARER, OWNER[0]), {}),
    ("a statement of another root", "ann", (STATEMENT.sign(key("eve")),), {}),
    ("no owner", "eve", OWNER, {}),
    ("a membership of another node", "eve", MEMBER, {}),
    ("a membership of another mesh", "bob", member(mesh=OTHER), {}),
    ("a membership by no owner", "bob", member("eve", issuer=EVE), {}),
    ("a membership that is another's forgery", "bob", member("eve"), {}),
    ("a membership with an owner's role", "bob", member(role=Role.OWNER), {}),
    ("a membership in its last second", "bob", member(until=NOW + 1), {}),
    ("a membership that has expired", "bob", member(until=NOW), {}),
    ("a ticket that has expired", "bob", bearer(until=NOW), {}),
    ("a ticket of another mesh", "bob", bearer(mesh=OTHER), {}),
    ("a ticket by no owner", "bob", bearer(issuer=EVE), {}),
    ("a card of another node", "eve", BEARER, {}),
    ("a card of another mesh", "bob", bearer(replace(CARD, mesh=OTHER)), {}),
    ("a card of another ticket", "bob", bearer(replace(CARD, ticket=bytes(16))), {}),
    ("a card by another seed", "bob", bearer(CARD, "eve"), {}),
    ("a card without its ticket", "bob", (OWNER[0], BEARER[2]), {}),
    ("links in another order", "bob", (OWNER[0], BEARER[2], BEARER[1]), {}),
    ("a newer statement is kept", "ann", OWNER, {"known": NEWER.sign(key("root"))}),
    (
        "an owner who was removed",
        "ann",
        OWNER,
        {"known": WITHOUT_ANN.sign(key("root"))},
    ),
    ("whom she let in", "bob", MEMBER, {"known": WITHOUT_ANN.sign(key("root"))}),
    ("revoked", "bob", MEMBER, {"revoked": lists("eve", "bob")}),
    ("revoked with a card", "bob", BEARER, {"revoked": lists("bob")}),
    ("another is revoked", "bob", MEMBER, {"revoked": lists("eve")}),
    ("an owner on a list", "ann", OWNER, {"revoked": lists("ann", by="carol")}),
    ("a list by no owner", "bob", MEMBER, {"revoked": lists("bob", by="eve")}),
    (
        "a list by an owner who was removed",
        "bob",
        MEMBER,
        {"revoked": lists("bob", by="carol"), "known": NEWER.sign(key("root"))},
    ),
]


def chains() -> list[dict[str, Any]]:
    made = []
    for name, who, chain, keeps in CHAINS:
        case: dict[str, Any] = {"name": name, "id": id_of(who), "mesh": MESH}
        case |= {"now": NOW, "chain": list(chain)}
        case |= {"known": keeps.get("known"), "revoked": keeps.get("revoked")}
        made.append(case | outcome(enter, case))
    return made


def enter(case: dict[str, Any]) -> dict[str, Any]:
    """What `admit` makes of a case of the file."""
    known, revoked = case["known"], case["revoked"]
    admitted = admit(
        case["chain"],
        id=case["id"],
        mesh=case["mesh"],
        now=case["now"],
        known=Statement.read(known) if known else None,
        revoked=Revocations.read(revoked) if revoked else None,
    )
    ticket = None if admitted.ticket is None else b64encode(admitted.ticket)
    plain = {"role": admitted.role.value, "caps": admitted.caps.to_json()}
    fields = {"name": admitted.name, "until": admitted.until, "issuer": admitted.issuer}
    return {"admission": fields | plain | {"ticket": ticket}}


LISTS = [
    ("the first", STATEMENT, None, lists("bob")),
    ("a newer one", STATEMENT, lists("bob"), lists("eve", version=2)),
    ("one as new", STATEMENT, lists("bob"), lists("eve")),
    ("an older one", STATEMENT, lists("bob", version=2), lists("eve")),
    ("a newer one by no owner", STATEMENT, lists("bob"), lists(by="eve", version=9)),
    ("any, for a removed owner's", NEWER, lists("bob", by="carol", version=9), lists()),
]


def replaced() -> list[dict[str, Any]]:
    return [
        {"name": name, "statement": by.sign(key("root")), "kept": kept, "new": new}
        | {
            "replaces": supersedes(
                Revocations.read(new), Revocations.read(kept) if kept else None, by
            )
        }
        for name, by, kept, new in LISTS
    ]


def trust() -> dict[str, Any]:
    names = ("root", "ann", "bob", "carol", "eve", "seed", "hub")
    return {
        "about": "docs/protocol.md §1, §2. Made by make_trust.py, which explains it.",
        "keys": {
            name: {"seed": bytes(key(name)).hex(), "id": id_of(name)} for name in names
        },
        "tokens": {"read": tokens(), "refused": refused_tokens()},
        "chains": chains(),
        "lists": replaced(),
    } | make_spellings.spellings()


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "trust.json": trust,
    "envelope.json": make_envelope.envelopes,
    "hello.json": make_envelope.hellos,
    "pairing.json": make_pairing.pairings,
}


def dump(name: str) -> str:
    return json.dumps(FILES[name](), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    for name in FILES:
        (FOLDER / name).write_text(dump(name), encoding="utf-8")
