"""Registering, tickets, cards, memberships and revocations, also across restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshllm.errors import Code
from meshllm.protocol import signals
from meshllm.trust.grants import Role
from signaling.kept import Admit
from signaling.limits import DEFAULT_LIMITS, Rate
from tests.fakes.hubs import Mesh, World, conn_of, id_of, restated

SETUP = b"sixteen bytes ok"


@pytest.fixture
def world() -> World:
    return World().registered()


def refused(answer: signals.HubMessage) -> Code:
    assert isinstance(answer, signals.Refused), answer
    return answer.code


# Register


def test_the_one_time_link_registers_one_mesh() -> None:
    world = World()
    world.apply(world.hub.kept.offer_setup(SETUP))
    other = Mesh(root="other root")
    link = world.stranger("owner")

    first = world.ask(link, signals.Register(1, SETUP, world.mesh.statement))
    second = world.ask(link, signals.Register(2, SETUP, other.statement))

    assert first == signals.Done(1)
    assert refused(second) is Code.FORBIDDEN
    assert world.hub.kept.setup_token is None
    assert ("setup", "", "") not in world.rows


def test_a_wrong_token_registers_nothing_and_uses_nothing_up() -> None:
    world = World()
    world.apply(world.hub.kept.offer_setup(SETUP))
    link = world.stranger("owner")

    for setup in (None, bytes(16)):
        answer = world.ask(link, signals.Register(1, setup, world.mesh.statement))
        assert refused(answer) is Code.FORBIDDEN

    good = world.ask(link, signals.Register(2, SETUP, world.mesh.statement))
    assert good == signals.Done(2)


def test_the_one_time_link_survives_a_restart() -> None:
    world = World()
    world.apply(world.hub.kept.offer_setup(SETUP))
    before = world.hub.kept.setup_token

    world.restart()

    assert world.hub.kept.setup_token == before is not None


def test_an_open_hub_takes_anybody_and_a_closed_one_nobody() -> None:
    open_to_all, closed = World(admit=Admit.OPEN), World(admit=Admit.CLOSED)
    register = signals.Register(1, None, Mesh().statement)

    assert open_to_all.ask(open_to_all.stranger("owner"), register) == signals.Done(1)
    assert refused(closed.ask(closed.stranger("owner"), register)) is Code.FORBIDDEN


def test_only_an_owner_registers_a_mesh() -> None:
    world = World(admit=Admit.OPEN)

    answer = world.ask(
        world.stranger("mallory"), signals.Register(1, None, world.mesh.statement)
    )

    assert refused(answer) is Code.FORBIDDEN


def test_a_statement_that_the_root_did_not_sign_is_refused() -> None:
    world = World(admit=Admit.OPEN)
    body, _, _ = world.mesh.statement.partition(".")
    _, _, other = Mesh(root="other root").statement.partition(".")

    answer = world.ask(
        world.stranger("owner"), signals.Register(1, None, f"{body}.{other}")
    )

    assert refused(answer) is Code.AUTH


def test_a_hub_has_room_for_so_many_meshes() -> None:
    world = World(admit=Admit.OPEN, limits=replace(DEFAULT_LIMITS, meshes=1))
    link = world.stranger("owner")
    world.ask(link, signals.Register(1, None, world.mesh.statement))

    other = Mesh(root="other root").statement
    assert refused(world.ask(link, signals.Register(2, None, other))) is Code.QUOTA


def test_registering_again_is_no_error(world: World) -> None:
    link = world.stranger("owner")

    answer = world.ask(link, signals.Register(1, None, world.mesh.statement))

    assert answer == signals.Done(1)


def test_a_newer_statement_needs_no_link_and_reaches_the_mesh(world: World) -> None:
    ann = world.member("ann")
    newer = restated(world.mesh, "owner", "second").statement

    answer = world.ask(world.stranger("owner"), signals.Register(1, None, newer))

    assert answer == signals.Done(1)
    assert world.said(ann, signals.NewStatement) == [signals.NewStatement(newer)]


def test_an_older_statement_is_refused(world: World) -> None:
    older = world.mesh.statement
    newer = restated(world.mesh, "owner", "second").statement
    link = world.stranger("owner")
    world.ask(link, signals.Register(1, None, newer))

    assert refused(world.ask(link, signals.Register(2, None, older))) is Code.FORBIDDEN


def test_an_older_statement_still_introduces_a_chain(world: World) -> None:
    old_chain = world.mesh.chain("ann")
    newer = restated(world.mesh, "owner", "second").statement
    world.ask(world.stranger("owner"), signals.Register(1, None, newer))

    link = world.enter("ann", old_chain)

    assert world.said(link, signals.Welcome)[0].statement == newer


def test_a_chain_brings_a_newer_statement(world: World) -> None:
    ann = world.member("ann")
    newer = restated(world.mesh, "owner", "second")

    world.enter("second", newer.chain("second"))

    assert world.said(ann, signals.NewStatement) == [
        signals.NewStatement(newer.statement)
    ]
    world.restart()
    world.mesh = newer
    assert world.member("second") not in world.closed


def test_an_owner_who_was_removed_is_closed_with_all_whom_he_let_in(
    world: World,
) -> None:
    world.mesh = restated(world.mesh, "owner", "second")
    owner, second = world.member("owner"), world.member("second")
    ann = world.member("ann")
    his = world.mesh.membership("bob", issuer="second")
    bob = world.enter("bob", (world.mesh.statement, his))

    alone = restated(world.mesh, "owner").statement
    world.ask(owner, signals.Register(1, None, alone))

    assert {link: close.code for link, close in world.closed.items()} == {
        second: Code.AUTH,
        bob: Code.AUTH,
    }
    assert ann not in world.closed


def test_registered_meshes_survive_a_restart(world: World) -> None:
    world.restart()

    assert world.member("ann") not in world.closed


# Tickets


def test_a_sealed_ticket_is_kept_for_any_stranger(world: World) -> None:
    until = int(world.now) + 60
    put = signals.PutTicket(1, b"8 bytes!", "c2VhbGVk", until)

    assert world.ask(world.member("owner"), put) == signals.Done(1)
    world.restart()
    answer = world.ask(world.stranger("bob"), signals.GetTicket(2, b"8 bytes!"))

    assert answer == signals.SealedTicket(2, "c2VhbGVk")


def test_a_ticket_ends_on_time_and_is_forgotten(world: World) -> None:
    until = int(world.now) + 60
    owner = world.member("owner")
    world.ask(owner, signals.PutTicket(1, b"8 bytes!", "c2VhbGVk", until))
    get = signals.GetTicket(2, b"8 bytes!")

    world.now = until
    assert refused(world.ask(owner, get)) is Code.GONE
    assert any(kind == "ticket" for kind, _, _ in world.rows)
    world.tick(60)

    assert not any(kind == "ticket" for kind, _, _ in world.rows)
    assert refused(world.ask(owner, get)) is Code.GONE
    later = signals.PutTicket(3, b"8 bytes!", "bmV3", int(world.now) + 60)
    assert world.ask(owner, later) == signals.Done(3)


def test_a_ticket_does_not_take_the_place_of_another(world: World) -> None:
    owner, until = world.member("owner"), int(world.now) + 60
    world.ask(owner, signals.PutTicket(1, b"8 bytes!", "Zmlyc3Q", until))

    answer = world.ask(owner, signals.PutTicket(2, b"8 bytes!", "c2Vjb25k", until))

    assert refused(answer) is Code.FORBIDDEN
    kept = world.ask(owner, signals.GetTicket(3, b"8 bytes!"))
    assert kept == signals.SealedTicket(3, "Zmlyc3Q")


def test_an_ended_ticket_is_not_kept(world: World) -> None:
    put = signals.PutTicket(1, b"8 bytes!", "c2VhbGVk", int(world.now))

    assert refused(world.ask(world.member("owner"), put)) is Code.FORBIDDEN


def test_a_mesh_keeps_so_many_tickets() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, kept_mesh_rows=2)).registered()
    owner, until = world.member("owner"), int(world.now) + 60
    first = signals.PutTicket(1, b"ticket 1", "c2VhbGVk", until)
    second = signals.PutTicket(2, b"ticket 2", "c2VhbGVk", until)
    world.ask(owner, first)

    assert refused(world.ask(owner, second)) is Code.QUOTA
    answer = world.ask(owner, signals.GetTicket(3, b"ticket 2"))
    assert refused(answer) is Code.GONE


def test_asking_without_a_chain_has_a_rate_per_address() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, asks=Rate(0.1, 3))).registered()
    links = [world.stranger(f"stranger {n}") for n in range(3)]
    get = signals.GetTicket(1, bytes(8))

    codes = [refused(world.ask(link, get)) for link in links]

    assert codes == [Code.GONE, Code.GONE, Code.QUOTA]


# Cards


def test_a_card_reaches_every_conn_of_its_issuer(world: World) -> None:
    owner, other = world.member("owner"), world.member("owner", conn="other")
    bystander = world.member("ann")
    chain = world.mesh.provisional("ticket", "bob")

    answer = world.ask(world.stranger("bob"), signals.LeaveCard(1, chain))

    assert answer == signals.Done(1)
    for link in (owner, other):
        assert world.said(link, signals.CardLeft) == [signals.CardLeft(chain, False)]
    assert world.said(bystander, signals.CardLeft) == []


def test_a_card_waits_for_its_issuer_until_the_membership_comes(world: World) -> None:
    chain = world.mesh.provisional("ticket", "bob")
    world.ask(world.stranger("bob"), signals.LeaveCard(1, chain))
    world.restart()

    owner, again = world.member("owner"), world.member("owner", conn="again")
    for link in (owner, again):
        assert world.said(link, signals.CardLeft) == [signals.CardLeft(chain, False)]

    granted = world.mesh.membership("bob", ticket=conn_of("ticket"))
    world.ask(owner, signals.Grant(2, granted))
    world.restart()
    assert world.said(world.member("owner"), signals.CardLeft) == []


def test_a_card_waits_only_for_its_issuer(world: World) -> None:
    world.mesh = restated(world.mesh, "owner", "second")
    world.member("second")
    chain = world.mesh.provisional("ticket", "bob")
    world.ask(world.stranger("bob"), signals.LeaveCard(1, chain))

    assert world.said(world.member("second"), signals.CardLeft) == []


def test_leaving_the_same_card_again_is_no_error(world: World) -> None:
    owner = world.member("owner")
    chain = world.mesh.provisional("ticket", "bob")
    bob = world.stranger("bob")
    world.ask(bob, signals.LeaveCard(1, chain))

    assert world.ask(bob, signals.LeaveCard(2, chain)) == signals.Done(2)
    assert len(world.said(owner, signals.CardLeft)) == 1


def test_a_second_node_with_the_same_ticket_is_refused_and_shown(
    world: World,
) -> None:
    owner = world.member("owner")
    bobs = world.mesh.provisional("ticket", "bob")
    thiefs = world.mesh.provisional("ticket", "thief")
    world.ask(world.stranger("bob"), signals.LeaveCard(1, bobs))
    world.restart()  # the binding is durable
    owner = world.member("owner")
    world.take(owner)

    answer = world.ask(world.stranger("thief"), signals.LeaveCard(2, thiefs))

    assert refused(answer) is Code.AUTH
    assert world.take(owner) == [signals.CardLeft(thiefs, True)]
    world.restart()
    shown = world.said(world.member("owner"), signals.CardLeft)
    assert shown == [signals.CardLeft(bobs, False), signals.CardLeft(thiefs, True)]


def test_the_thief_is_refused_also_after_the_membership(world: World) -> None:
    owner = world.member("owner")
    bobs = world.mesh.provisional("ticket", "bob")
    world.ask(world.stranger("bob"), signals.LeaveCard(1, bobs))
    granted = world.mesh.membership("bob", ticket=conn_of("ticket"))
    world.ask(owner, signals.Grant(2, granted))

    thiefs = world.mesh.provisional("ticket", "thief")
    link = world.enter("thief", thiefs)

    assert world.closed[link].code is Code.AUTH
    assert "already used" in world.closed[link].text
    assert world.said(owner, signals.CardLeft)[-1] == signals.CardLeft(thiefs, True)


def test_the_proof_of_theft_is_kept_once(world: World) -> None:
    world.ask(
        world.stranger("bob"),
        signals.LeaveCard(1, world.mesh.provisional("ticket", "bob")),
    )
    for name in ("thief", "second thief"):
        chain = world.mesh.provisional("ticket", name)
        world.ask(world.stranger(name), signals.LeaveCard(1, chain))

    shown = world.said(world.member("owner"), signals.CardLeft)

    assert [card.conflict for card in shown] == [False, True]


def test_a_ticket_granted_over_a_lan_is_bound_here_too(world: World) -> None:
    granted = world.mesh.membership("bob", ticket=conn_of("ticket"))
    world.ask(world.member("owner"), signals.Grant(1, granted))

    thief = world.enter("thief", world.mesh.provisional("ticket", "thief"))

    assert world.closed[thief].code is Code.AUTH


def test_a_provisional_chain_logs_in_as_a_guest_and_leaves_its_card(
    world: World,
) -> None:
    owner = world.member("owner")
    chain = world.mesh.provisional("ticket", "bob")

    bob = world.enter("bob", chain)

    assert world.said(bob, signals.Welcome)
    assert world.said(owner, signals.CardLeft) == [signals.CardLeft(chain, False)]
    token = world.mesh.announcement("bob", chain=chain)
    assert refused(world.ask(bob, signals.Announce(1, token))) is Code.FORBIDDEN


def test_a_card_is_for_who_left_it(world: World) -> None:
    chain = world.mesh.provisional("ticket", "bob")

    answer = world.ask(world.stranger("thief"), signals.LeaveCard(1, chain))

    assert refused(answer) is Code.AUTH
    assert world.ask(world.stranger("bob"), signals.LeaveCard(2, chain)) == (
        signals.Done(2)
    )


def test_a_card_of_an_ended_ticket_is_refused(world: World) -> None:
    chain = world.mesh.provisional("ticket", "bob", until=int(world.now))

    answer = world.ask(world.stranger("bob"), signals.LeaveCard(1, chain))

    assert refused(answer) is Code.AUTH


def test_no_other_chain_is_a_card(world: World) -> None:
    link = world.stranger("ann")

    lasting = world.ask(link, signals.LeaveCard(1, world.mesh.chain("ann")))
    empty = world.ask(link, signals.LeaveCard(2, ()))

    assert refused(lasting) is Code.PROTOCOL
    assert refused(empty) is Code.PROTOCOL


def test_a_binding_is_forgotten_when_its_ticket_has_ended(world: World) -> None:
    chain = world.mesh.provisional("ticket", "bob", until=int(world.now) + 60)
    world.ask(world.stranger("bob"), signals.LeaveCard(1, chain))
    assert any(kind == "card" for kind, _, _ in world.rows)

    world.tick(120)

    assert not any(kind == "card" for kind, _, _ in world.rows)


# Grants


def test_a_membership_reaches_its_node_and_waits_until_it_is_used(
    world: World,
) -> None:
    owner = world.member("owner")
    bob = world.enter("bob", world.mesh.provisional("ticket", "bob"))
    token = world.mesh.membership("bob", ticket=conn_of("ticket"))
    granted = signals.Granted(token, world.mesh.statement)

    assert world.ask(owner, signals.Grant(1, token)) == signals.Done(1)

    assert world.said(bob, signals.Granted) == [granted]
    world.restart()
    again = world.enter("bob", world.mesh.provisional("ticket", "bob"))
    assert world.said(again, signals.Granted) == [granted]
    used = world.enter("bob", (world.mesh.statement, token))
    assert world.said(used, signals.Granted) == []
    assert not any(kind == "grant" for kind, _, _ in world.rows)


def test_a_membership_by_no_owner_is_not_passed_on(world: World) -> None:
    forged = world.mesh.membership("bob", issuer="mallory")

    answer = world.ask(world.member("owner"), signals.Grant(1, forged))

    assert refused(answer) is Code.AUTH


def test_a_membership_of_another_mesh_is_not_passed_on(world: World) -> None:
    foreign = Mesh(root="other root").membership("bob")

    answer = world.ask(world.member("owner"), signals.Grant(1, foreign))

    assert refused(answer) is Code.AUTH


def test_a_revoked_node_is_granted_nothing(world: World) -> None:
    owner = world.member("owner")
    world.ask(owner, signals.Revoke(1, world.mesh.revocations("bob")))

    answer = world.ask(owner, signals.Grant(2, world.mesh.membership("bob")))

    assert refused(answer) is Code.REVOKED


# Revocations


def test_revoking_tells_the_mesh_and_closes_who_is_out(world: World) -> None:
    owner, ann, bob = (world.member(name) for name in ("owner", "ann", "bob"))
    second = world.member("bob", conn="second tab")
    world.announce(bob, "bob")
    list_ = world.mesh.revocations("bob")

    answer = world.ask(owner, signals.Revoke(1, list_))

    assert answer == signals.Done(1)
    assert world.said(ann, signals.Revoked) == [signals.Revoked(list_)]
    assert {link: close.code for link, close in world.closed.items()} == {
        bob: Code.REVOKED,
        second: Code.REVOKED,
    }
    assert world.said(ann, signals.Roster)[-1] == signals.Roster((), (id_of("bob"),))


def test_revocations_survive_a_restart_and_are_never_lowered(world: World) -> None:
    both = world.mesh.revocations("bob", "carol", version=2)
    world.ask(world.member("owner"), signals.Revoke(1, both))
    world.restart()
    owner = world.member("owner")

    for version in (1, 2):
        fewer = world.mesh.revocations("carol", version=version)
        answer = world.ask(owner, signals.Revoke(2, fewer))
        assert refused(answer) is Code.FORBIDDEN

    bob = world.enter("bob", world.mesh.chain("bob"))
    assert world.closed[bob].code is Code.REVOKED
    assert world.ask(owner, signals.Revoke(3, both)) == signals.Done(3)


def test_revocations_signed_by_no_owner_are_refused(world: World) -> None:
    forged = world.mesh.revocations("ann", issuer="mallory")
    foreign = Mesh(root="other root").revocations("ann")
    owner = world.member("owner")

    for token in (forged, foreign):
        assert refused(world.ask(owner, signals.Revoke(1, token))) is Code.FORBIDDEN


def test_a_waiting_membership_of_a_revoked_node_is_forgotten(world: World) -> None:
    owner = world.member("owner")
    world.ask(owner, signals.Grant(1, world.mesh.membership("bob")))
    assert any(kind == "grant" for kind, _, _ in world.rows)

    world.ask(owner, signals.Revoke(2, world.mesh.revocations("bob")))

    assert not any(kind == "grant" for kind, _, _ in world.rows)


def test_a_full_shelf_does_not_stop_a_revocation() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, kept_mesh_rows=1)).registered()
    owner, bob = world.member("owner"), world.member("bob", Role.GUEST)
    full = world.ask(owner, signals.Grant(1, world.mesh.membership("ann")))
    assert refused(full) is Code.QUOTA

    answer = world.ask(owner, signals.Revoke(2, world.mesh.revocations("bob")))

    assert answer == signals.Done(2)
    assert bob in world.closed
