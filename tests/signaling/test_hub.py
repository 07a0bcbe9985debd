"""Logins, limits and leaving, over real keys and no socket."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshllm.errors import Code
from meshllm.protocol import login, signals
from meshllm.protocol.signal_codec import encode
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId
from signaling.limits import DEFAULT_LIMITS, Rate
from tests.fakes.hubs import ORIGIN, World, conn_of, id_of, key


@pytest.fixture
def world() -> World:
    return World().registered()


def closed_with(world: World, link: int) -> Code | None:
    """The code of a Close, whose reason was also told as an `error`."""
    if link not in world.closed:
        return None
    close = world.closed[link]
    error = world.said(link, signals.Refused)[-1]
    assert (error.re, error.code, error.text) == (None, close.code, close.text)
    return close.code


# Login


def test_the_hub_speaks_first(world: World) -> None:
    link = world.connect()

    [challenge] = world.take(link)

    assert isinstance(challenge, signals.Challenge)
    assert challenge.server == id_of("hub")
    assert challenge.ts == int(world.now)


def test_each_socket_has_a_nonce_of_its_own(world: World) -> None:
    first, second = world.connect(), world.connect()

    [one], [two] = (world.said(link, signals.Challenge) for link in (first, second))

    assert one.nonce != two.nonce


def test_the_welcome_proves_the_hub(world: World) -> None:
    link = world.connect()
    [challenge] = world.said(link, signals.Challenge)
    message = world.login(link, "ann", world.mesh.chain("ann"))

    world.say(link, message)

    [welcome] = world.said(link, signals.Welcome)
    transcript = login.transcript(
        origin=ORIGIN,
        server=id_of("hub"),
        server_nonce=challenge.nonce,
        client=id_of("ann"),
        client_nonce=message.nonce,
        ts=challenge.ts,
    )
    login.check_login("server", transcript, welcome.sig, id_of("hub"))


def test_a_welcome_brings_roster_statement_revocations_and_ice_servers() -> None:
    def ice(id: PeerId, now: float) -> tuple[signals.Ice, ...]:
        return (signals.Ice(("turn:turn.example.org",), f"for {id}", "secret"),)

    world = World(ice=ice).registered()
    owner = world.member("owner")
    world.announce(world.member("ann"), "ann")
    revocations = world.mesh.revocations("mallory")
    world.ask(owner, signals.Revoke(1, revocations))

    [welcome] = world.said(world.member("bob"), signals.Welcome)

    assert welcome.roster == (world.mesh.announcement("ann"),)
    assert welcome.statement == world.mesh.statement
    assert welcome.revocations == revocations
    assert welcome.ice[0].username == f"for {id_of('bob')}"


def test_a_stranger_sees_no_roster_and_gets_no_ice_servers() -> None:
    world = World(ice=lambda id, now: (signals.Ice(("turn:x",), "u", "c"),))
    world.registered()
    world.announce(world.member("ann"), "ann")

    link = world.stranger("bob")

    [welcome] = world.said(link, signals.Welcome)
    assert welcome == signals.Welcome(welcome.sig, (), (), None, None)
    world.announce(world.member("carol"), "carol")
    assert world.said(link, signals.Roster) == []


def test_a_login_replayed_on_a_second_socket_is_refused(world: World) -> None:
    first, second = world.connect(), world.connect()
    message = world.login(first, "ann", world.mesh.chain("ann"))

    world.say(second, message)
    world.say(first, message)

    assert closed_with(world, second) is Code.AUTH
    assert world.said(first, signals.Welcome)


def test_a_login_made_for_another_host_is_refused(world: World) -> None:
    link = world.connect()
    evil = "https://signal.example.com"
    message = world.login(link, "ann", world.mesh.chain("ann"), origin=evil)

    world.say(link, message)

    assert closed_with(world, link) is Code.AUTH


def test_nobody_logs_in_with_anothers_id(world: World) -> None:
    link = world.connect()
    message = world.login(link, "mallory", world.mesh.chain("owner"))

    world.say(link, replace(message, id=id_of("owner")))

    assert closed_with(world, link) is Code.AUTH


def test_nobody_logs_in_with_anothers_chain(world: World) -> None:
    link = world.enter("mallory", world.mesh.chain("ann"))

    assert closed_with(world, link) is Code.AUTH


def test_a_socket_logs_in_once(world: World) -> None:
    link = world.connect()
    message = world.login(link, "ann", world.mesh.chain("ann"))
    world.say(link, message)

    world.say(link, message)

    assert closed_with(world, link) is Code.PROTOCOL


def test_a_chain_of_a_mesh_that_is_not_registered_is_refused() -> None:
    world = World()

    link = world.enter("ann", world.mesh.chain("ann"))

    assert closed_with(world, link) is Code.AUTH
    assert "meshllm init" in world.closed[link].text


def test_nothing_comes_before_the_login(world: World) -> None:
    link = world.connect()

    world.say(link, signals.GetTicket(1, bytes(8)))

    assert closed_with(world, link) is Code.AUTH


def test_an_ended_membership_does_not_log_in(world: World) -> None:
    ended = world.mesh.membership("ann", until=int(world.now))

    link = world.enter("ann", (world.mesh.statement, ended))

    assert closed_with(world, link) is Code.AUTH


def test_a_revoked_node_does_not_log_in(world: World) -> None:
    world.ask(world.member("owner"), signals.Revoke(1, world.mesh.revocations("ann")))

    link = world.enter("ann", world.mesh.chain("ann"))

    assert closed_with(world, link) is Code.REVOKED


# Conns


def test_a_node_holds_sixteen_conns_and_no_more(world: World) -> None:
    links = [world.member("ann", conn=f"tab {n}") for n in range(16)]

    refused = world.enter("ann", world.mesh.chain("ann"), conn="tab 16")

    assert closed_with(world, refused) is Code.QUOTA
    assert not set(links) & world.closed.keys()
    world.drop(links[0])
    assert world.member("ann", conn="tab 16") not in world.closed


def test_a_conn_that_comes_back_takes_its_own_place(world: World) -> None:
    for n in range(15):
        world.member("ann", conn=f"tab {n}")
    old = world.member("ann")

    new = world.member("ann")

    assert closed_with(world, old) is Code.GONE
    assert new not in world.closed
    world.drop(old)  # the server reports what the hub already forgot
    assert world.ask(new, signals.Ping(1)) == signals.Pong(1)


def test_a_provider_that_comes_back_stays_announced(world: World) -> None:
    gateway = world.member("bob")
    world.announce(world.member("ann"), "ann")
    world.take(gateway)

    back = world.member("ann")

    assert world.take(gateway) == []
    assert world.said(back, signals.Welcome)[0].roster
    world.drop(back)
    assert world.take(gateway) == [signals.Roster((), (id_of("ann"),))]


def test_messages_of_a_closed_socket_are_ignored(world: World) -> None:
    old = world.member("ann")
    world.member("ann")

    world.say(old, signals.Ping(1))

    assert world.said(old, signals.Pong) == []


# Strangers' bytes


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "{}",
        b"\xff\xfe",
        '{"t":"ping"}',
        '{"t":"ping","re":0}',
        '{"t":"ping","re":1,"re":2}',
        '{"t":"ping","re":1,"more":true}',
        '{"t":"announce","re":1,"card":"not a token!"}',
        '{"t":"ping","re":NaN}',
        '{"t":"challenge","re":1}{',
        "\ud800",
    ],
)
def test_a_malformed_message_ends_the_socket(world: World, data: str | bytes) -> None:
    link = world.member("ann")

    world.say(link, data)

    assert closed_with(world, link) is Code.PROTOCOL


def test_a_message_beyond_the_limit_ends_the_socket(world: World) -> None:
    link = world.member("ann")

    world.say(link, '{"t":"ping","re":1}' + " " * 65_536)

    assert closed_with(world, link) is Code.PROTOCOL


def test_an_unknown_kind_is_answered_and_survived(world: World) -> None:
    link = world.member("ann")

    world.say(link, '{"t":"teleport\\n","re":7,"where":"home"}')
    world.say(link, '{"t":"teleport","re":"seven"}')

    first, second = world.said(link, signals.Refused)
    assert (first.re, first.code) == (7, Code.PROTOCOL)
    assert "teleport?" in first.text
    assert second.re is None
    assert link not in world.closed


def test_ping_is_answered_and_pong_is_not(world: World) -> None:
    link = world.stranger("ann")
    world.take(link)

    world.say(link, signals.Ping(4))
    world.say(link, signals.Pong(4))

    assert world.take(link) == [signals.Pong(4)]


SEEDS = [
    encode(signals.Ping(1)),
    encode(signals.Announce(1, None)),
    encode(signals.Send(1, id_of("ann"), conn_of("ann"), "A" * 5462)),
    encode(signals.GetTicket(1, bytes(8))),
    encode(signals.LeaveCard(1, ())),
    encode(signals.LeaveCard(1, ("a.b", "c.d", "e.f"))),
    encode(signals.Grant(1, "a.b")),
    encode(signals.Register(1, bytes(16), "a.b")),
    encode(signals.Revoke(1, "a.b")),
    encode(signals.PutTicket(1, bytes(8), "A", 2_000_000_000)),
]


@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200),
        st.sampled_from(SEEDS),
        st.builds(
            lambda seed, at, byte: seed[:at] + byte + seed[at + 1 :],
            st.sampled_from(SEEDS),
            st.integers(0, 200),
            st.text(max_size=2),
        ),
    ),
    who=st.sampled_from(["nobody", "stranger", "guest", "owner"]),
)
def test_whatever_comes_the_hub_does_not_raise(data: str | bytes, who: str) -> None:
    world = WORLD
    world.now += 60  # so that no limit is what answers
    match who:
        case "nobody":
            link = world.connect()
        case "stranger":
            link = world.stranger("eve")
        case "guest":
            link = world.member("eve", Role.GUEST)
        case _:
            link = world.member("owner")

    world.say(link, data)

    world.drop(link)
    assert world.hub.counts()["connections"] == 0


WORLD = World(limits=replace(DEFAULT_LIMITS, logins=Rate(1, 10))).registered()
WORLD.drop(1)


# Limits


def test_who_does_not_log_in_within_five_seconds_is_closed(world: World) -> None:
    link = world.connect()

    world.tick(4.9)
    assert link not in world.closed
    world.tick(0.1)

    assert closed_with(world, link) is Code.TIMEOUT


def test_a_stranger_who_logged_in_has_two_minutes(world: World) -> None:
    link = world.stranger("ann")

    world.tick(119)
    assert link not in world.closed
    world.tick(1)

    assert closed_with(world, link) is Code.TIMEOUT


def test_a_member_may_stay(world: World) -> None:
    link = world.member("ann")

    world.tick(86_400)

    assert link not in world.closed


def test_a_membership_ends_on_time_for_who_is_connected(world: World) -> None:
    until = int(world.now) + 100
    brief = world.mesh.membership("ann", until=until)
    link = world.enter("ann", (world.mesh.statement, brief))
    world.tick(61)
    assert link not in world.closed

    world.tick(61)

    assert closed_with(world, link) is Code.AUTH


def test_a_hub_full_of_sockets_refuses_the_next() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, sockets=2))
    world.connect()
    leaver = world.connect()

    refused = world.connect()

    assert closed_with(world, refused) is Code.BUSY
    world.drop(refused)
    world.drop(leaver)
    assert world.connect() not in world.closed


def test_strangers_do_not_keep_members_out() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, strangers=3)).registered()
    for n in range(10):
        world.connect(address=f"198.51.100.{n}")

    assert closed_with(world, world.connect()) is Code.BUSY
    world.tick(5)
    assert world.member("ann") not in world.closed


def test_one_address_has_a_limit_of_strangers() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, strangers_per_address=2))
    world.connect()
    world.stranger("ann")

    refused = world.connect()

    assert closed_with(world, refused) is Code.QUOTA
    assert world.connect(address="192.0.2.2") not in world.closed


def test_a_login_with_a_chain_makes_room_for_the_next_stranger() -> None:
    limits = replace(DEFAULT_LIMITS, strangers_per_address=2)
    world = World(limits=limits).registered()

    links = [world.member(f"node {n}") for n in range(5)]

    assert not set(links) & world.closed.keys()


def test_one_address_has_a_limit_of_sockets() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, sockets_per_address=2)).registered()
    world.member("ann")

    refused = world.connect()

    assert closed_with(world, refused) is Code.QUOTA


def test_one_address_has_a_rate_of_connections() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, connects=Rate(1, 2)))
    for _ in range(2):
        world.drop(world.connect())

    assert closed_with(world, world.connect()) is Code.QUOTA
    world.now += 1
    assert world.connect() not in world.closed


def test_one_key_has_a_rate_of_logins_across_addresses() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, logins=Rate(0.1, 2))).registered()
    chain = world.mesh.chain("ann")
    for n in range(2):
        world.drop(world.enter("ann", chain, address=f"192.0.2.{n}"))

    refused = world.enter("ann", chain, address="192.0.2.9")

    assert closed_with(world, refused) is Code.QUOTA
    assert world.member("bob") not in world.closed


def test_others_cannot_use_up_the_logins_of_a_key() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, logins=Rate(0.1, 1))).registered()
    for _ in range(5):
        link = world.connect()
        forged = replace(world.login(link, "mallory"), id=id_of("ann"))
        world.say(link, forged)

    assert world.member("ann") not in world.closed


def test_a_flood_of_messages_ends_the_socket() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, messages=Rate(10, 20))).registered()
    first, second = world.member("ann"), world.member("ann", conn="another")

    for n in range(20):
        world.say((first, second)[n % 2], signals.Pong(1))
    world.say(second, signals.Ping(1))

    assert closed_with(world, second) is Code.QUOTA


def test_a_stranger_has_few_messages() -> None:
    world = World(limits=replace(DEFAULT_LIMITS, stranger_messages=3))
    link = world.stranger("ann")
    world.say(link, signals.Ping(1))
    world.say(link, signals.Ping(2))
    assert link not in world.closed

    world.say(link, signals.Ping(3))

    assert closed_with(world, link) is Code.QUOTA


# What is held


def test_counts_say_how_many_and_not_who(world: World) -> None:
    world.announce(world.member("ann"), "ann")
    world.member("bob")
    world.connect()

    assert world.hub.counts() == {
        "connections": 4,
        "members": 2,
        "meshes": 1,
        "providers": 1,
    }


def test_a_hub_that_everybody_left_holds_nothing_of_them(world: World) -> None:
    for name in ("ann", "bob", "carol"):
        world.announce(world.member(name), name)
    world.stranger("eve")

    for link in range(1, world.links + 1):
        world.drop(link)
    world.tick(100_000)

    counts = world.hub.counts()
    assert (counts["connections"], counts["members"], counts["meshes"]) == (0, 0, 1)
    assert counts["providers"] == 0
    mesh = world.hub.kept.meshes[world.mesh.id]
    assert (mesh.nodes, mesh.roster, mesh.roster_bytes) == ({}, {}, 0)
    assert not world.hub._addresses
    assert not world.hub._stranger_addresses
    assert not world.hub._strangers


def test_the_hub_is_its_key() -> None:
    assert World().hub.id == id_of("hub")
    assert bytes(key("hub").verify_key)
