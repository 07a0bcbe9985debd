"""Chains: who gets in, and each way of not getting in, with its code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import Code, MeshError, NotAllowed, TrustError
from meshllm.trust.admission import (
    Admission,
    admit,
    binds,
    newest,
    recheck,
    supersedes,
)
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

MESH, ANN, BOB, EVE = id_of("root"), id_of("ann"), id_of("bob"), id_of("eve")
HOUR = 3_600
CAPS = Caps(("llama3.2",), 2, 100_000)


def owned_by(*names: str, version: int = 1, root: str = "root") -> Statement:
    owners = tuple(Owner(id_of(name), name.title()) for name in names)
    return Statement(id_of(root), version, owners, NOW)


STATEMENT = owned_by("ann")
TICKET = Ticket(
    mesh=MESH,
    issuer=ANN,
    id=bytes(16),
    seed=bytes(key("seed").verify_key),
    name="Bob",
    role=Role.MEMBER,
    caps=CAPS,
    until=NOW + HOUR,
    ts=NOW,
)
CARD = Card(MESH, TICKET.id, BOB, NOW)
MEMBERSHIP = Membership(
    mesh=MESH,
    issuer=ANN,
    id=BOB,
    name="Bob",
    role=Role.MEMBER,
    caps=CAPS,
    ticket=TICKET.id,
    until=NOW + HOUR,
    ts=NOW,
)


def said(statement: Statement = STATEMENT, root: str = "root") -> str:
    return statement.sign(key(root))


def member(
    membership: Membership = MEMBERSHIP,
    by: str = "ann",
    statement: Statement = STATEMENT,
) -> tuple[str, ...]:
    return said(statement), membership.sign(key(by))


def bearer(
    ticket: Ticket = TICKET, card: Card = CARD, by: str = "ann", seed: str = "seed"
) -> tuple[str, ...]:
    return said(), ticket.sign(key(by)), card.sign(key(seed))


def lists(*names: str, by: str = "ann", version: int = 1) -> Revocations:
    out = tuple(Revoked(id_of(name), NOW) for name in names)
    return Revocations(MESH, id_of(by), version, out, NOW)


def enter(
    chain: Sequence[str],
    name: str = "bob",
    *,
    now: int = NOW,
    known: Statement | None = None,
    revoked: Revocations | None = None,
) -> Admission:
    return admit(
        chain, id=id_of(name), mesh=MESH, now=now, known=known, revoked=revoked
    )


def code_of(chain: Sequence[str], name: str = "bob", **how: object) -> Code:
    with pytest.raises(NotAllowed) as refused:
        enter(chain, name, **how)  # type: ignore[arg-type]
    return refused.value.code


# Who gets in


def test_an_owner_is_whom_the_statement_lists() -> None:
    assert enter([said()], "ann") == Admission(
        mesh=MESH,
        id=ANN,
        name="Ann",
        role=Role.OWNER,
        caps=Caps(),
        until=None,
        ticket=None,
        issuer=ANN,
    )


@pytest.mark.parametrize("role", [Role.MEMBER, Role.GUEST])
def test_a_membership_gives_what_it_says(role: Role) -> None:
    assert enter(member(replace(MEMBERSHIP, role=role))) == Admission(
        mesh=MESH,
        id=BOB,
        name="Bob",
        role=role,
        caps=CAPS,
        until=NOW + HOUR,
        ticket=None,
        issuer=ANN,
    )


@pytest.mark.parametrize("promised", [Role.MEMBER, Role.GUEST])
def test_a_card_makes_a_guest_whatever_the_ticket_promises(promised: Role) -> None:
    admission = enter(bearer(replace(TICKET, role=promised)))

    assert admission.role is Role.GUEST
    assert admission.ticket == TICKET.id
    assert admission.until == TICKET.until
    assert admission.caps == CAPS


# Who does not


def test_nothing_shown_is_nothing_given() -> None:
    assert code_of([]) is Code.AUTH


def test_a_chain_has_at_most_three_links() -> None:
    assert code_of([*bearer(), said()]) is Code.AUTH


def test_another_meshs_statement_does_not_hold() -> None:
    with pytest.raises(TrustError, match="does not hold"):
        enter([said(owned_by("bob", root="root 2"), "root 2")])


def test_no_owner_is_who_only_says_so() -> None:
    assert code_of([said()], "eve") is Code.AUTH


@pytest.mark.parametrize("wrong", [{"mesh": id_of("root 2")}, {"id": EVE}])
def test_a_membership_of_another_mesh_or_node_is_refused(wrong: dict[str, str]) -> None:
    other = replace(MEMBERSHIP, **wrong)  # type: ignore[arg-type]

    assert code_of(member(other)) is Code.AUTH


def test_a_membership_by_no_owner_is_refused() -> None:
    assert code_of(member(replace(MEMBERSHIP, issuer=EVE), by="eve")) is Code.AUTH


def test_members_admit_nobody() -> None:
    by_bob = replace(MEMBERSHIP, issuer=BOB, id=EVE)

    assert code_of(member(by_bob, by="bob"), "eve") is Code.AUTH


def test_no_membership_makes_an_owner() -> None:
    assert code_of(member(replace(MEMBERSHIP, role=Role.OWNER))) is Code.AUTH


def test_a_forged_membership_does_not_hold() -> None:
    with pytest.raises(TrustError, match="does not hold"):
        enter(member(by="eve"))


def test_a_ticket_by_no_owner_is_refused() -> None:
    assert code_of(bearer(replace(TICKET, issuer=EVE), by="eve")) is Code.AUTH


@pytest.mark.parametrize(
    "card",
    [
        replace(CARD, id=EVE),
        replace(CARD, mesh=id_of("root 2")),
        replace(CARD, ticket=bytes(range(16))),
    ],
)
def test_a_card_of_another_node_mesh_or_ticket_is_refused(card: Card) -> None:
    assert code_of(bearer(card=card)) is Code.AUTH


def test_a_ticket_of_another_mesh_is_refused() -> None:
    assert code_of(bearer(replace(TICKET, mesh=id_of("root 2")))) is Code.AUTH


def test_a_card_without_the_tickets_seed_does_not_hold() -> None:
    with pytest.raises(TrustError, match="does not hold"):
        enter(bearer(seed="another seed"))


def test_links_in_another_order_do_not_hold() -> None:
    statement, ticket, card = bearer()
    for chain in ([ticket, statement, card], [statement, card, ticket], [ticket]):
        with pytest.raises(TrustError):
            enter(chain)


@pytest.mark.parametrize("late", [0, 1, HOUR])
def test_what_has_expired_is_over(late: int) -> None:
    for chain in (member(), bearer()):
        assert enter(chain, now=NOW + HOUR - 1)
        assert code_of(chain, now=NOW + HOUR + late) is Code.AUTH


def test_the_refusal_names_what_expired() -> None:
    with pytest.raises(NotAllowed, match="This membership has expired"):
        enter(member(), now=NOW + HOUR)
    with pytest.raises(NotAllowed, match="This invitation has expired"):
        enter(bearer(), now=NOW + HOUR)


# Who is an owner changes


def test_a_removed_owner_is_out_and_so_is_whom_he_let_in() -> None:
    known = owned_by("carol", version=2)

    assert code_of([said()], "ann", known=known) is Code.AUTH
    assert code_of(member(), known=known) is Code.AUTH
    assert code_of(bearer(), known=known) is Code.AUTH


def test_an_older_statement_still_introduces_but_the_newer_counts() -> None:
    known = owned_by("ann", "carol", version=2)

    assert enter(member(), known=known).role is Role.MEMBER
    assert enter([said()], "carol", known=known).role is Role.OWNER


def test_a_newer_statement_counts_at_once() -> None:
    newer = owned_by("carol", version=2)

    assert code_of(member(statement=newer), known=STATEMENT) is Code.AUTH
    assert enter([said(newer)], "carol", known=STATEMENT).role is Role.OWNER


def test_the_statement_that_is_kept_is_never_lowered() -> None:
    older, newer = STATEMENT, owned_by("carol", version=2)

    assert newest(older, None) is older
    assert newest(newer, older) is newer
    assert newest(older, newer) is newer
    assert newest(owned_by("eve"), older) is older  # of two that are as new, the first


# Revocation


def test_a_revoked_node_is_refused() -> None:
    assert code_of(member(), revoked=lists("bob")) is Code.REVOKED
    assert code_of(bearer(), revoked=lists("bob")) is Code.REVOKED
    assert enter(member(), revoked=lists("eve")).id == BOB


def test_a_list_by_a_removed_owner_does_not_bind() -> None:
    known = owned_by("ann", version=2)

    assert enter(member(), known=known, revoked=lists("bob", by="carol")).id == BOB


def test_no_list_locks_an_owner_out() -> None:
    both = owned_by("ann", "carol")

    for name in ("ann", "carol"):
        assert enter([said(both)], name, revoked=lists("ann", "carol", by="carol"))


def test_a_list_of_another_mesh_does_not_bind() -> None:
    other = replace(lists("bob"), mesh=id_of("root 2"))

    assert enter(member(), revoked=other).id == BOB
    assert not binds(other, enter(member()), STATEMENT)


def test_an_admission_ends_while_it_is_used() -> None:
    admission = enter(member())

    assert recheck(admission, now=NOW, statement=STATEMENT, revoked=None) is admission
    with pytest.raises(NotAllowed) as revoked:
        recheck(admission, now=NOW, statement=STATEMENT, revoked=lists("bob"))
    with pytest.raises(NotAllowed) as orphaned:
        recheck(admission, now=NOW, statement=owned_by("carol"), revoked=None)
    with pytest.raises(NotAllowed) as expired:
        recheck(admission, now=NOW + HOUR, statement=STATEMENT, revoked=None)
    assert revoked.value.code is Code.REVOKED
    assert orphaned.value.code is Code.AUTH
    assert expired.value.code is Code.AUTH


def test_a_list_is_replaced_by_a_newer_one_only() -> None:
    kept = lists("bob", version=2)

    assert supersedes(kept, None, STATEMENT)
    assert supersedes(lists(version=3), kept, STATEMENT)
    for version in (1, 2):
        assert not supersedes(lists("eve", version=version), kept, STATEMENT)


def test_a_list_by_no_owner_or_of_another_mesh_replaces_nothing() -> None:
    assert not supersedes(lists(by="eve", version=9), None, STATEMENT)
    other = replace(lists(version=9), mesh=id_of("root 2"))
    assert not supersedes(other, None, STATEMENT)


def test_a_removed_owners_list_yields_to_any_owners() -> None:
    highest = lists("bob", by="carol", version=2**53 - 1)

    assert not supersedes(lists("eve"), highest, owned_by("ann", "carol"))
    assert supersedes(lists("eve"), highest, STATEMENT)


# Whatever strangers send


@given(
    st.lists(st.text(max_size=30) | st.sampled_from([*bearer(), *member()]), max_size=4)
)
def test_no_chain_crashes_the_door(chain: list[str]) -> None:
    try:
        admission = enter(chain, "eve")
    except MeshError:
        return
    raise AssertionError(f"let in: {admission}")


@given(st.data())
def test_a_changed_chain_admits_nobody(data: st.DataObject) -> None:
    chain = list(data.draw(st.sampled_from([member(), bearer()])))
    which = data.draw(st.integers(0, len(chain) - 1))
    at = data.draw(st.integers(0, len(chain[which]) - 1))
    put = data.draw(st.sampled_from("ABCXYZabcxyz019-_.=\n"))
    changed = chain[which][:at] + put + chain[which][at + 1 :]
    if changed == chain[which]:
        return
    chain[which] = changed
    with pytest.raises(MeshError):
        enter(chain)
