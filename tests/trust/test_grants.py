"""Statement, ticket, card, membership, revocations: read as they were signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshllm.errors import MeshError, RemoteProtocolError, TrustError
from meshllm.trust import signed
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
from tests.fakes.people import NOW, id_of, key

MESH, ANN, BOB = id_of("root"), id_of("ann"), id_of("bob")
SEED = key("seed")
CAPS = Caps(("llama3.2",), 2, 100_000)
STATEMENT = Statement(MESH, 1, (Owner(ANN, "Ann"),), NOW)
TICKET = Ticket(
    mesh=MESH,
    issuer=ANN,
    id=bytes(16),
    seed=bytes(SEED.verify_key),
    name="Bob",
    role=Role.MEMBER,
    caps=CAPS,
    until=NOW + 60,
    ts=NOW,
)
CARD = Card(MESH, bytes(16), BOB, NOW)
MEMBERSHIP = Membership(
    mesh=MESH,
    issuer=ANN,
    id=BOB,
    name="Bob",
    role=Role.GUEST,
    caps=Caps(),
    ticket=bytes(16),
    until=NOW + 60,
    ts=NOW,
)
REVOCATIONS = Revocations(MESH, ANN, 1, (Revoked(BOB, NOW),), NOW)


def read_card(token: str) -> Card:
    return Card.read(token, bytes(SEED.verify_key))


# kind: who signs, the token, its reader
KINDS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "statement": ("root", STATEMENT.sign(key("root")), Statement.read),
    "ticket": ("ann", TICKET.sign(key("ann")), Ticket.read),
    "card": ("seed", CARD.sign(SEED), read_card),
    "membership": ("ann", MEMBERSHIP.sign(key("ann")), Membership.read),
    "revocations": ("ann", REVOCATIONS.sign(key("ann")), Revocations.read),
}


def body(kind: str) -> dict[str, Any]:
    signer, token, _ = KINDS[kind]
    return signed.read(kind, token, bytes(key(signer).verify_key))


def read_signed(kind: str, fields: dict[str, Any]) -> object:
    """Well signed by whoever signs this kind; read."""
    signer, _, read = KINDS[kind]
    return read(signed.sign(kind, fields, key(signer)))


def test_what_was_signed_is_read() -> None:
    read = {kind: reader(token) for kind, (_, token, reader) in KINDS.items()}

    assert read == {
        "statement": STATEMENT,
        "ticket": TICKET,
        "card": CARD,
        "membership": MEMBERSHIP,
        "revocations": REVOCATIONS,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_needed_and_no_other_is_taken(kind: str) -> None:
    fields = body(kind)

    for name in fields:
        less = {other: value for other, value in fields.items() if other != name}
        with pytest.raises(MeshError):
            read_signed(kind, less)
    with pytest.raises(RemoteProtocolError, match="unknown"):
        read_signed(kind, fields | {"more": 1})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value", [None, True, -1, 1.5, "", "\n", [], [1], {}, {"a": 1}]
)
def test_no_field_takes_rubbish(kind: str, value: object) -> None:
    fields = body(kind)
    allowed = {("membership", "ticket", None), ("revocations", "revoked", "[]")}

    for name in fields:
        if {(kind, name, None if value is None else repr(value))} & allowed:
            continue
        with pytest.raises(MeshError):
            read_signed(kind, fields | {name: value})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_no_kind_passes_for_another(kind: str, other: str) -> None:
    if kind == other:
        return
    with pytest.raises(MeshError):
        KINDS[kind][2](KINDS[other][1])


def test_a_statement_of_another_root_does_not_hold() -> None:
    other = Statement(id_of("root 2"), 1, (Owner(ANN, "Ann"),), NOW)

    with pytest.raises(TrustError, match="does not hold"):
        Statement.read(other.sign(key("root 2")), MESH)


def test_a_root_cannot_speak_about_another_mesh() -> None:
    posing = Statement(id_of("root 2"), 1, (Owner(ANN, "Ann"),), NOW)
    token = posing.sign(key("root"))

    with pytest.raises(RemoteProtocolError, match="another mesh"):
        Statement.read(token, MESH)
    with pytest.raises(TrustError, match="does not hold"):
        Statement.read(token)


def test_a_statement_finds_its_owners() -> None:
    assert STATEMENT.owner(ANN) == Owner(ANN, "Ann")
    assert STATEMENT.owner(BOB) is None


def test_there_are_1_to_16_owners() -> None:
    fields = body("statement")

    def owners(count: int) -> dict[str, Any]:
        entries = [{"id": id_of(f"owner {n}"), "name": "x"} for n in range(count)]
        return fields | {"owners": entries}

    assert read_signed("statement", owners(16))
    for count in (0, 17):
        with pytest.raises(RemoteProtocolError, match="1 to 16"):
            read_signed("statement", owners(count))


def test_no_owner_is_listed_twice() -> None:
    twice = [{"id": ANN, "name": "Ann"}, {"id": ANN, "name": "Another name"}]

    with pytest.raises(RemoteProtocolError, match="twice"):
        read_signed("statement", body("statement") | {"owners": twice})


@pytest.mark.parametrize("kind", ["ticket", "membership"])
@pytest.mark.parametrize("role", ["admin", "Member", "", None, 1, ["member"]])
def test_a_role_is_one_of_three(kind: str, role: object) -> None:
    with pytest.raises(RemoteProtocolError, match="owner, member or guest"):
        read_signed(kind, body(kind) | {"role": role})


def test_a_ticket_makes_nobody_an_owner() -> None:
    with pytest.raises(RemoteProtocolError, match="nobody an owner"):
        read_signed("ticket", body("ticket") | {"role": "owner"})


def test_a_list_of_400_fits_and_more_is_refused() -> None:
    def fill(count: int) -> Revocations:
        out = tuple(Revoked(id_of(f"node {n}"), NOW) for n in range(count))
        return Revocations(MESH, ANN, 1, out, NOW)

    full = fill(400)

    assert Revocations.read(full.sign(key("ann"))) == full
    assert full.covers(id_of("node 399"))
    assert not full.covers(id_of("node 400"))
    with pytest.raises(RemoteProtocolError, match="0 to 400"):
        Revocations.read(fill(401).sign(key("ann")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": ["m"] * 65},
        {"models": ["m" * 257]},
        {"models": "m"},
        {"parallel": 0},
        {"parallel": 1_001},
        {"tokens_per_day": 0},
        {"invite": {}},
        {"invite": False},
        {"more": None},
    ],
)
def test_limits_have_limits(wrong: dict[str, Any]) -> None:
    fields = body("ticket")

    with pytest.raises(RemoteProtocolError):
        read_signed("ticket", fields | {"caps": fields["caps"] | wrong})


def test_no_limit_is_null_and_no_model_is_an_empty_list() -> None:
    for caps in (Caps(), Caps(models=()), CAPS):
        assert Caps.from_json(caps.to_json()) == caps
    assert Caps().to_json() == {
        "models": None,
        "parallel": None,
        "tokens_per_day": None,
        "invite": None,
    }


def test_a_membership_needs_no_ticket() -> None:
    fields = body("membership") | {"ticket": None}

    read = read_signed("membership", fields)

    assert isinstance(read, Membership)
    assert read.ticket is None


def test_a_card_is_signed_by_the_seed_of_its_ticket() -> None:
    with pytest.raises(TrustError, match="does not hold"):
        Card.read(CARD.sign(key("another seed")), bytes(SEED.verify_key))
