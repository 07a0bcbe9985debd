"""Mailboxes: who may open one, who comes in, what is carried, and when it is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshllm.errors import Code
from meshllm.protocol import signals
from meshllm.trust.grants import Role
from signaling.limits import DEFAULT_LIMITS, Limits, Rate
from tests.fakes.hubs import Mesh, World, restated

LETTER = "bGV0dGVy"


@pytest.fixture
def world() -> World:
    return World().registered()


def refused(answer: signals.HubMessage) -> Code:
    assert isinstance(answer, signals.Refused), answer
    return answer.code


def opened(world: World, link: int) -> int:
    answer = world.ask(link, signals.OpenMailbox(1))
    assert isinstance(answer, signals.Mailbox), answer
    return answer.number


def met(world: World) -> tuple[int, int, int]:
    """An owner's socket, a stranger's, and the mailbox that both are in."""
    owner, bob = world.member("owner"), world.stranger("bob")
    number = opened(world, owner)
    assert world.ask(bob, signals.JoinMailbox(1, number)) == signals.Done(1)
    return owner, bob, number


def limited(**limits: object) -> World:
    changed: Limits = replace(DEFAULT_LIMITS, **limits)  # type: ignore[arg-type]
    return World(limits=changed).registered()


# Carrying letters


def test_letters_go_both_ways_unread(world: World) -> None:
    owner, bob, number = met(world)

    assert 100 <= number <= 999
    assert world.ask(bob, signals.Post(2, LETTER)) == signals.Done(2)
    assert world.ask(owner, signals.Post(2, "YW5zd2Vy")) == signals.Done(2)

    assert world.said(owner, signals.Letter) == [signals.Letter(LETTER)]
    assert world.said(bob, signals.Letter) == [signals.Letter("YW5zd2Vy")]


def test_nobody_else_hears_of_it(world: World) -> None:
    other, member = world.stranger("eve"), world.member("ann")
    _, bob, _ = met(world)

    world.ask(bob, signals.Post(2, LETTER))

    for link in (other, member):
        assert world.said(link, signals.Letter) == []


def test_nothing_of_a_mailbox_is_stored(world: World) -> None:
    before = dict(world.rows)
    owner, bob, _ = met(world)
    world.ask(bob, signals.Post(2, LETTER))
    world.drop(owner)

    assert world.rows == before


def test_eight_letters_each_way_are_enough(world: World) -> None:
    owner, bob, _ = met(world)
    for re in range(2, 10):
        assert world.ask(bob, signals.Post(re, LETTER)) == signals.Done(re)

    assert refused(world.ask(bob, signals.Post(10, LETTER))) is Code.QUOTA
    assert world.ask(owner, signals.Post(2, LETTER)) == signals.Done(2)
    assert len(world.said(owner, signals.Letter)) == 8


def test_alone_one_has_nobody_to_write_to(world: World) -> None:
    owner = world.member("owner")
    opened(world, owner)

    assert refused(world.ask(owner, signals.Post(2, LETTER))) is Code.GONE
    assert refused(world.ask(world.stranger("bob"), signals.Post(2, LETTER)))


# Opening


def test_only_an_owner_opens_one(world: World) -> None:
    for role in (Role.MEMBER, Role.GUEST):
        link = world.member(f"a {role.value}", role)
        assert refused(world.ask(link, signals.OpenMailbox(1))) is Code.FORBIDDEN
    stranger = world.ask(world.stranger("bob"), signals.OpenMailbox(1))
    assert refused(stranger) is Code.AUTH


def test_a_node_pairs_one_at_a_time(world: World) -> None:
    first = world.member("owner")
    opened(world, first)
    second = world.member("owner", conn="second")

    answer = world.ask(second, signals.OpenMailbox(1))

    assert refused(answer) is Code.BUSY
    assert isinstance(answer, signals.Refused)
    assert "another process" in answer.text


OWNERS = ("owner", *(f"owner {number}" for number in range(15)))


def test_numbers_are_not_foreseen_and_not_shared() -> None:
    world = World(mesh=Mesh(owners=OWNERS)).registered()

    numbers = [opened(world, world.member(name)) for name in OWNERS]

    assert len(set(numbers)) == len(OWNERS)
    assert numbers != sorted(numbers)


def test_a_number_that_is_taken_leads_to_the_next_that_is_free() -> None:
    """The same chance for all: from 998 on, and round the corner."""
    world = World(mesh=Mesh(owners=OWNERS)).registered()
    numbers = []
    for name in OWNERS[:4]:
        link = world.member(name)
        seat = world.hub._links[link].seat
        assert seat is not None
        chance = (998 - 100).to_bytes(32)
        [effect] = world.hub._mailboxes.open(seat, 1, chance, world.now)
        numbers.append(effect.message.number)  # type: ignore[union-attr]

    assert numbers == [998, 999, 100, 101]


def test_a_full_hub_opens_no_more() -> None:
    world = World(
        mesh=Mesh(owners=OWNERS), limits=replace(DEFAULT_LIMITS, mailboxes=2)
    ).registered()
    for name in OWNERS[:2]:
        opened(world, world.member(name))

    answer = world.ask(world.member(OWNERS[2]), signals.OpenMailbox(1))

    assert refused(answer) is Code.BUSY


def test_an_owner_who_opens_without_end_waits() -> None:
    world = limited(pairings=Rate(0.1, 2))
    for _ in range(2):
        link = world.member("owner")
        opened(world, link)
        world.drop(link)
    link = world.member("owner")

    assert refused(world.ask(link, signals.OpenMailbox(1))) is Code.QUOTA
    world.now += 10
    assert opened(world, link)


# Coming in


def test_a_mailbox_that_is_not_there_is_said_to_be_not_there(world: World) -> None:
    answer = world.ask(world.stranger("bob"), signals.JoinMailbox(1, 412))

    assert refused(answer) is Code.GONE
    assert isinstance(answer, signals.Refused)
    assert "no mailbox 412" in answer.text


def test_a_third_party_is_refused_and_disturbs_nobody(world: World) -> None:
    owner, bob, number = met(world)
    eve = world.stranger("eve")

    answer = world.ask(eve, signals.JoinMailbox(1, number))

    assert refused(answer) is Code.BUSY
    assert refused(world.ask(eve, signals.Post(2, LETTER))) is Code.GONE
    world.drop(eve)
    assert world.ask(bob, signals.Post(2, LETTER)) == signals.Done(2)
    assert world.said(owner, signals.Letter) == [signals.Letter(LETTER)]


def test_one_is_in_one_mailbox(world: World) -> None:
    owner, bob, number = met(world)

    assert refused(world.ask(bob, signals.JoinMailbox(2, number))) is Code.QUOTA
    world.drop(owner)
    assert refused(world.ask(bob, signals.JoinMailbox(3, number))) is Code.GONE


def test_an_owner_is_not_its_own_guest(world: World) -> None:
    owner = world.member("owner")
    number = opened(world, owner)

    assert refused(world.ask(owner, signals.JoinMailbox(2, number))) is Code.QUOTA


def test_who_is_a_guest_elsewhere_opens_none() -> None:
    world = World(mesh=Mesh(owners=OWNERS)).registered()
    number = opened(world, world.member("owner"))
    other = world.member("owner 0")
    world.ask(other, signals.JoinMailbox(1, number))

    assert refused(world.ask(other, signals.OpenMailbox(2))) is Code.BUSY


@pytest.mark.parametrize("same", ["key", "address"])
def test_trying_numbers_is_slow(same: str) -> None:
    """A key costs nothing and an address little; with both, ten tries, then one in ten
    seconds: all 900 numbers would take longer than a mailbox lives."""
    world = limited(asks=Rate(1000, 1000))
    codes = []
    for number in range(100, 112):
        name = "eve" if same == "key" else f"eve {number}"
        address = "192.0.2.9" if same == "address" else f"192.0.2.{number}"
        link = world.enter(name, (), address=address)
        codes.append(refused(world.ask(link, signals.JoinMailbox(1, number))))

    assert codes == [Code.GONE] * 10 + [Code.QUOTA] * 2


# Ending


@pytest.mark.parametrize("leaver", ["owner", "bob"])
def test_when_one_is_gone_the_mailbox_is(world: World, leaver: str) -> None:
    owner, bob, number = met(world)
    gone, stays = (owner, bob) if leaver == "owner" else (bob, owner)

    world.drop(gone)

    assert world.said(stays, signals.MailboxClosed) == [
        signals.MailboxClosed(Code.GONE)
    ]
    assert refused(world.ask(stays, signals.Post(2, LETTER))) is Code.GONE
    carol = world.ask(world.stranger("carol"), signals.JoinMailbox(1, number))
    assert refused(carol) is Code.GONE
    assert len(world.hub._mailboxes) == 0


def test_ten_minutes_then_it_is_closed(world: World) -> None:
    owner, bob, _ = met(world)
    world.tick(599)
    assert world.said(owner, signals.MailboxClosed) == []

    world.tick(1)

    for link in (owner, bob):
        closed = world.said(link, signals.MailboxClosed)
        assert closed == [signals.MailboxClosed(Code.TIMEOUT)]
    assert len(world.hub._mailboxes) == 0


def test_a_stranger_may_stay_as_long_as_its_mailbox(world: World) -> None:
    _, bob, _ = met(world)
    idle = world.stranger("idle")

    world.tick(599)

    assert bob not in world.closed
    assert idle in world.closed
    world.tick(1)
    assert world.closed[bob].code is Code.TIMEOUT


def test_who_is_no_owner_any_more_pairs_no_more() -> None:
    world = World(mesh=Mesh(owners=("owner", "second"))).registered()
    second, bob = world.member("second"), world.stranger("bob")
    world.ask(bob, signals.JoinMailbox(1, opened(world, second)))
    statement = restated(world.mesh, "owner").statement

    world.ask(world.stranger("owner"), signals.Register(1, None, statement))

    assert second in world.closed
    assert world.said(bob, signals.MailboxClosed)


def test_what_was_counted_is_forgotten(world: World) -> None:
    met(world)
    world.tick(0)

    world.tick(200)

    mailboxes = world.hub._mailboxes
    assert (len(mailboxes._keys), len(mailboxes._addresses)) == (0, 0)
