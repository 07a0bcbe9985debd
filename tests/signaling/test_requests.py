"""Announcing and introducing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshllm.errors import Code
from meshllm.protocol import signals
from meshllm.trust.grants import Role
from signaling.limits import DEFAULT_LIMITS, Rate
from tests.fakes.hubs import Mesh, World, conn_of, envelope, id_of


@pytest.fixture
def world() -> World:
    return World().registered()


def refused(answer: signals.HubMessage) -> Code:
    assert isinstance(answer, signals.Refused), answer
    return answer.code


# Announce


def test_an_announcement_reaches_every_conn_of_the_mesh(world: World) -> None:
    page, gateway = world.member("bob"), world.member("bob", conn="gateway")
    provider = world.member("ann")

    world.announce(provider, "ann")

    told = signals.Roster((world.mesh.announcement("ann"),), ())
    for link in (page, gateway, provider):
        assert world.said(link, signals.Roster) == [told]


def test_a_newer_announcement_takes_the_place_of_the_older(world: World) -> None:
    provider = world.member("ann")
    world.announce(provider, "ann")
    newer = world.mesh.announcement("ann", backend="openai", ts=1_800_000_001)

    world.ask(provider, signals.Announce(2, newer))

    [welcome] = world.said(world.member("bob"), signals.Welcome)
    assert welcome.roster == (newer,)


def test_a_withdrawn_announcement_leaves_the_roster(world: World) -> None:
    page, provider = world.member("bob"), world.member("ann")
    world.announce(provider, "ann")

    answer = world.ask(provider, signals.Announce(2, None))

    assert answer == signals.Done(2)
    assert world.said(page, signals.Roster)[-1] == signals.Roster((), (id_of("ann"),))


def test_withdrawing_what_was_never_announced_is_no_news(world: World) -> None:
    page, provider = world.member("bob"), world.member("ann")

    assert world.ask(provider, signals.Announce(1, None)) == signals.Done(1)
    assert world.said(page, signals.Roster) == []


def test_a_provider_that_leaves_is_withdrawn(world: World) -> None:
    page, provider = world.member("bob"), world.member("ann")
    world.announce(provider, "ann")

    world.drop(provider)

    assert world.said(page, signals.Roster)[-1] == signals.Roster((), (id_of("ann"),))


def test_providers_are_told_which_conn_has_ended_and_nobody_else_is(
    world: World,
) -> None:
    provider, page = world.member("ann"), world.member("bob")
    world.announce(provider, "ann")
    gateway = world.member("cleo")

    world.drop(gateway)

    assert world.said(provider, signals.Left) == [signals.Left(conn_of("cleo"))]
    assert world.said(page, signals.Left) == []


def test_a_provider_is_not_told_of_itself(world: World) -> None:
    first, second = world.member("ann"), world.member("bob")
    world.announce(first, "ann")
    world.announce(second, "bob")

    world.drop(first)

    assert world.said(first, signals.Left) == []
    assert world.said(second, signals.Left) == [signals.Left(conn_of("ann"))]


def test_a_conn_that_has_come_back_has_not_ended(world: World) -> None:
    provider = world.member("ann")
    world.announce(provider, "ann")
    before = world.member("cleo")
    world.member("cleo")

    world.drop(before)

    assert world.said(provider, signals.Left) == []


def test_a_conn_that_announces_nothing_leaves_silently(world: World) -> None:
    world.announce(world.member("ann"), "ann")
    page, gateway = world.member("bob"), world.member("ann", conn="gateway")

    world.drop(gateway)

    assert world.said(page, signals.Roster) == []


def test_a_second_share_of_a_node_is_refused_and_names_the_first(
    world: World,
) -> None:
    world.announce(world.member("ann"), "ann")
    second = world.member("ann", conn="second")
    token = world.mesh.announcement("ann", conn="second")

    for card in (token, None):
        answer = world.ask(second, signals.Announce(1, card))

        assert refused(answer) is Code.BUSY
        assert isinstance(answer, signals.Refused)
        assert conn_of("ann").hex() in answer.text


def test_the_second_may_share_once_the_first_has_stopped(world: World) -> None:
    first = world.member("ann")
    world.announce(first, "ann")
    second = world.member("ann", conn="second")
    world.drop(first)

    world.announce(second, "ann", conn="second")


def test_nobody_announces_in_anothers_name(world: World) -> None:
    link = world.member("mallory")

    answer = world.ask(link, signals.Announce(1, world.mesh.announcement("ann")))

    assert refused(answer) is Code.AUTH
    assert world.said(link, signals.Roster) == []


def test_nobody_announces_another_conn(world: World) -> None:
    link = world.member("ann")
    token = world.mesh.announcement("ann", conn="elsewhere")

    assert refused(world.ask(link, signals.Announce(1, token))) is Code.AUTH


def test_nobody_announces_in_another_mesh(world: World) -> None:
    link = world.member("ann")
    token = Mesh(root="other root").announcement("ann")

    assert refused(world.ask(link, signals.Announce(1, token))) is Code.AUTH


def test_an_announcement_with_a_broken_signature_is_refused(world: World) -> None:
    link = world.member("ann")
    body, _, _ = world.mesh.announcement("ann").partition(".")
    _, _, other = world.mesh.announcement("ann", ts=5).partition(".")

    answer = world.ask(link, signals.Announce(1, f"{body}.{other}"))

    assert refused(answer) is Code.AUTH


def test_a_guest_does_not_share(world: World) -> None:
    link = world.member("eve", Role.GUEST)
    token = world.mesh.announcement("eve", chain=world.mesh.chain("eve", Role.GUEST))

    assert refused(world.ask(link, signals.Announce(1, token))) is Code.FORBIDDEN


def test_the_roster_has_room_for_so_many_nodes() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, roster_nodes=1)).registered()
    first, second = world.member("ann"), world.member("bob")
    world.announce(first, "ann")

    token = world.mesh.announcement("bob")
    answer = world.ask(second, signals.Announce(1, token))

    assert refused(answer) is Code.QUOTA
    world.announce(first, "ann")  # the same again takes no more room


def test_the_roster_has_room_for_so_many_bytes() -> None:
    size = len(Mesh().announcement("ann"))
    world = World(limits=replace(DEFAULT_LIMITS, roster_bytes=size)).registered()
    provider = world.member("ann")
    world.announce(provider, "ann")
    world.announce(provider, "ann")
    longer = world.mesh.announcement("ann", backend="a longer name")

    assert refused(world.ask(provider, signals.Announce(1, longer))) is Code.QUOTA


def test_announcements_have_a_rate() -> None:
    limits = replace(DEFAULT_LIMITS, announces=Rate(1, 2))
    world = World(limits=limits).registered()
    provider = world.member("ann")
    world.announce(provider, "ann")
    world.announce(provider, "ann")

    answer = world.ask(provider, signals.Announce(1, None))

    assert refused(answer) is Code.QUOTA
    world.now += 1
    world.announce(provider, "ann")


# Send


def test_an_envelope_reaches_the_announcing_conn_unread(world: World) -> None:
    gateway, provider = world.member("bob"), world.member("ann")
    other = world.member("ann", conn="gateway")
    world.announce(provider, "ann")
    sealed = envelope("?")

    answer = world.ask(gateway, signals.Send(5, id_of("ann"), None, sealed))

    assert answer == signals.Done(5)
    signal = signals.Signal(id_of("bob"), conn_of("bob"), sealed)
    assert world.said(provider, signals.Signal) == [signal]
    assert world.said(other, signals.Signal) == []


def test_an_answer_reaches_the_conn_that_asked(world: World) -> None:
    tabs = {name: world.member("bob", conn=name) for name in ("one", "two")}
    provider = world.member("ann")

    world.ask(provider, signals.Send(1, id_of("bob"), conn_of("two"), envelope()))

    assert world.said(tabs["one"], signals.Signal) == []
    assert len(world.said(tabs["two"], signals.Signal)) == 1


def test_a_guest_is_introduced_too(world: World) -> None:
    guest, provider = world.member("eve", Role.GUEST), world.member("ann")
    world.announce(provider, "ann")

    world.ask(guest, signals.Send(1, id_of("ann"), None, envelope()))

    assert world.said(provider, signals.Signal)


@pytest.mark.parametrize("conn", [None, conn_of("nowhere")])
def test_sending_to_who_is_away_is_gone(world: World, conn: bytes | None) -> None:
    gateway = world.member("bob")
    world.member("carol")  # is here, and announces nothing

    for name in ("ann", "carol"):
        answer = world.ask(gateway, signals.Send(1, id_of(name), conn, envelope()))

        assert isinstance(answer, signals.Refused)
        assert answer.code is Code.GONE
        assert answer.text == f"{id_of(name)[:8]} is not connected."


def test_nothing_is_sent_across_meshes(world: World) -> None:
    provider = world.member("ann")
    world.announce(provider, "ann")
    other = Mesh(root="other root", owners=("eve",))
    world.hub.kept.policy = world.hub.kept.policy.OPEN
    world.ask(world.stranger("eve"), signals.Register(1, None, other.statement))
    eve = world.enter("eve", other.chain("eve"))

    for conn in (None, conn_of("ann")):
        answer = world.ask(eve, signals.Send(1, id_of("ann"), conn, envelope()))

        assert refused(answer) is Code.GONE
    assert world.said(provider, signals.Signal) == []
    assert world.said(eve, signals.Welcome)[0].roster == ()


def test_a_stranger_is_introduced_to_nobody(world: World) -> None:
    provider = world.member("ann")
    world.announce(provider, "ann")
    eve = world.stranger("eve")

    answer = world.ask(eve, signals.Send(1, id_of("ann"), None, envelope()))

    assert refused(answer) is Code.AUTH
    assert world.said(provider, signals.Signal) == []


@pytest.mark.parametrize("size", [1, 4095, 4097, 16384])
def test_an_envelope_that_is_not_padded_is_refused(world: World, size: int) -> None:
    gateway, provider = world.member("bob"), world.member("ann")
    world.announce(provider, "ann")
    message = signals.Send(1, id_of("ann"), None, envelope(size=size))

    assert refused(world.ask(gateway, message)) is Code.PROTOCOL


@pytest.mark.parametrize("size", [4096, 8192, 12288])
def test_envelopes_of_all_three_sizes_pass(world: World, size: int) -> None:
    gateway, provider = world.member("bob"), world.member("ann")
    world.announce(provider, "ann")
    message = signals.Send(1, id_of("ann"), None, envelope(size=size))

    assert world.ask(gateway, message) == signals.Done(1)


def test_introductions_have_a_rate_per_sender() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, sends=Rate(1, 2))).registered()
    first, second = world.member("bob"), world.member("bob", conn="second tab")
    provider = world.member("ann")
    world.announce(provider, "ann")
    message = signals.Send(1, id_of("ann"), None, envelope())
    world.ask(first, message)
    world.ask(second, message)

    assert refused(world.ask(first, message)) is Code.QUOTA
    assert world.ask(world.member("carol"), message) == signals.Done(1)
    assert len(world.said(provider, signals.Signal)) == 3


def test_introductions_have_a_rate_per_receiver() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, signals=Rate(1, 2))).registered()
    provider = world.member("ann")
    world.announce(provider, "ann")
    message = signals.Send(1, id_of("ann"), None, envelope())

    answers = [world.ask(world.member(f"node {n}"), message) for n in range(3)]

    assert refused(answers[2]) is Code.BUSY
    assert len(world.said(provider, signals.Signal)) == 2


# Roles


@pytest.mark.parametrize("role", [Role.MEMBER, Role.GUEST])
def test_only_owners_keep_tickets_grant_and_revoke(world: World, role: Role) -> None:
    link = world.member("eve", role)
    mesh = world.mesh

    for message in (
        signals.PutTicket(1, bytes(8), "sealed", int(world.now) + 60),
        signals.Grant(1, mesh.membership("friend")),
        signals.Revoke(1, mesh.revocations("owner")),
    ):
        assert refused(world.ask(link, message)) is Code.FORBIDDEN


def test_a_membership_that_a_member_signed_makes_no_owner(world: World) -> None:
    forged = world.mesh.membership("eve", Role.OWNER, issuer="eve")

    link = world.enter("eve", (world.mesh.statement, forged))

    assert world.closed[link].code is Code.AUTH
