"""One node's place in its mesh, kept in files that several processes share."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from meshllm.errors import Code, ConfigError, MeshError, NotAllowed, TrustError
from meshllm.identity import Identity, RootKey
from meshllm.membership import MEMBERSHIP_S, Membership, refuse_second
from meshllm.meshfile import MESH_FILE
from meshllm.tickets import CONFLICTS_MAX, DATABASE
from meshllm.trust.grants import (
    Caps,
    Card,
    Owner,
    Revocations,
    Revoked,
    Role,
    Statement,
    Ticket,
)
from meshllm.trust.grants import Membership as Grant
from meshllm.trust.link import Invitation
from tests.fakes.people import NOW, id_of, key

HOUR, HUB = 3_600, "https://hub.example.org"
BINDER = """
import sys
from pathlib import Path
from meshllm.membership import Membership
membership = Membership.load(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(membership.bind(bytes(16), sys.argv[2], 1))
membership.close()
"""


@dataclass
class World:
    """Homes by name. `ann` made the mesh; whoever is opened is closed."""

    folder: Path
    open: list[Membership] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = RootKey.create(self.home("ann"))
        self.ann = self.keep(
            Membership.found(
                self.home("ann"), self.identity("ann"), self.root, "Ann", NOW
            )
        )

    def home(self, name: str) -> Path:
        return self.folder / name

    def identity(self, name: str) -> Identity:
        return Identity.load_or_create(self.home(name))

    def keep(self, membership: Membership | None) -> Membership:
        assert membership is not None
        self.open.append(membership)
        return membership

    def load(self, name: str) -> Membership:
        """As another process of that home does."""
        return self.keep(Membership.load(self.home(name)))

    def invite(self, **how: Any) -> Invitation:
        terms: dict[str, Any] = {
            "name": "Bob",
            "role": Role.MEMBER,
            "caps": Caps(("llama3.2",), 2),
            "until": NOW + HOUR,
            "now": NOW,
        }
        return self.ann.invite(self.identity("ann"), **terms | how)

    def join(self, name: str, invitation: Invitation) -> Membership:
        identity = self.identity(name)
        return self.keep(
            Membership.join(self.home(name), identity, invitation, HUB, NOW)
        )

    def member(self, name: str) -> Membership:
        joined = self.join(name, self.invite())
        token = self.ann.issue(self.identity("ann"), joined.chain, NOW)
        joined.accept(token, self.ann.statement, NOW)
        return joined

    def state(self, version: int, **owners: str) -> str:
        """A statement by the root key: names of homes to names of owners."""
        listed = tuple(Owner(self.identity(k).id, n) for k, n in owners.items())
        return Statement(self.root.id, version, listed, NOW).sign(self.root.signing)

    def revoke(self, *names: str, version: int = 1, by: str = "ann") -> str:
        out = tuple(Revoked(self.identity(name).id, NOW) for name in names)
        owner = self.identity(by)
        listed = Revocations(self.root.id, owner.id, version, out, NOW)
        return listed.sign(owner.signing)

    def rows(self, name: str, query: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.home(name) / DATABASE)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for membership in world.open:
        membership.close()


def card_of(invitation: Invitation, name: str) -> tuple[str, ...]:
    """The chain of somebody who uses this invitation without a home."""
    ticket, seed = Ticket.read(invitation.ticket), invitation.seed
    card = Card(ticket.mesh, ticket.id, id_of(name), NOW)
    return invitation.statement, invitation.ticket, card.sign(SigningKey(seed))


# Coming and going


def test_a_home_without_a_mesh_has_no_membership(tmp_path: Path) -> None:
    assert Membership.load(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_who_makes_a_mesh_is_its_owner(world: World) -> None:
    admission = world.ann.admission(NOW)

    assert (admission.role, admission.name) == (Role.OWNER, "Ann")
    assert world.ann.mesh == world.root.id
    assert (world.ann.hub, world.ann.hub_key) == (None, None)
    assert (world.home("ann") / MESH_FILE).stat().st_mode & 0o777 == 0o600


def test_it_is_the_same_after_a_restart(world: World) -> None:
    world.ann.attach(HUB, id_of("hub"))
    again = world.load("ann")

    assert again.chain == world.ann.chain
    assert (again.hub, again.hub_key) == (HUB, id_of("hub"))


def test_a_second_mesh_needs_another_home(world: World) -> None:
    invitation, root = world.invite(), RootKey.create(world.home("other"))
    before = (world.home("ann") / MESH_FILE).read_bytes()

    with pytest.raises(ConfigError, match="--home"):
        refuse_second(world.home("ann"))
    with pytest.raises(ConfigError, match="--home"):
        world.join("ann", invitation)
    with pytest.raises(ConfigError, match="--home"):
        Membership.found(world.home("ann"), world.identity("ann"), root, "Ann", NOW)
    assert (world.home("ann") / MESH_FILE).read_bytes() == before


def test_of_two_that_join_at_once_the_second_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found no mesh when they looked."""
    monkeypatch.setattr("meshllm.membership.refuse_second", lambda home: None)
    first = world.join("bob", world.invite())

    with pytest.raises(ConfigError, match="--home"):
        world.join("bob", world.invite())
    assert world.load("bob").chain == first.chain


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\ud800"])
def test_a_name_that_nobody_would_read_makes_no_mesh(tmp_path: Path, name: str) -> None:
    root = RootKey.create(tmp_path)

    with pytest.raises(ConfigError, match="cannot be made"):
        Membership.found(tmp_path, Identity.load_or_create(tmp_path), root, name, NOW)
    assert Membership.load(tmp_path) is None


def test_whoever_leaves_is_in_no_mesh(world: World) -> None:
    bob = world.member("bob")
    identity = world.identity("bob")

    bob.leave()

    assert Membership.load(world.home("bob")) is None
    assert Identity.load(world.home("bob")) == identity
    world.join("bob", world.invite())


def test_leaving_leaves_other_rooms_tables_alone(world: World) -> None:
    """A signaling server keeps its meshes in the same file of the same home."""
    path = world.home("ann") / DATABASE
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE kept (value TEXT)")
    db.execute("INSERT INTO kept VALUES ('a mesh')")
    db.commit()
    db.close()
    world.invite()

    world.ann.leave()

    assert world.rows("ann", "SELECT value FROM kept") == [("a mesh",)]
    assert world.rows("ann", "SELECT * FROM invited") == []


def test_a_process_that_runs_on_notices_that_the_home_has_left(world: World) -> None:
    other = world.load("ann")
    world.ann.leave()

    with pytest.raises(ConfigError, match="has left the mesh"):
        other.admission(NOW)
    with pytest.raises(ConfigError, match="has left the mesh"):
        other.attach(HUB, id_of("hub"))
    assert not (world.home("ann") / MESH_FILE).exists()


def test_a_process_does_not_move_to_another_mesh(world: World, tmp_path: Path) -> None:
    bob = world.join("bob", world.invite())
    stale = world.load("bob")
    bob.leave()
    root = RootKey.create(world.home("bob"))
    world.keep(
        Membership.found(world.home("bob"), world.identity("bob"), root, "Bob", NOW)
    )

    with pytest.raises(ConfigError, match="has left the mesh"):
        stale.chain  # noqa: B018 -- reading it is the test


# Damaged files


def damaged() -> list[Any]:
    return [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 9_000,
        b"{}",
        {"mesh": 5},
        {"mesh": "nobody"},
        {"id": None},
        {"hub": 5},
        {"hub_key": "x"},
        {"chain": None},
        {"chain": "statement"},
        {"chain": []},
        {"statement": "x.y"},
        {"revocations": "x.y"},
        {"more": 1},
        {"mesh": id_of("another root")},
    ]


@pytest.mark.parametrize("content", damaged())
def test_a_damaged_file_is_said_and_kept(world: World, content: Any) -> None:
    path = world.home("ann") / MESH_FILE
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_bytes()) | content).encode()
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"mesh\.json is damaged.*copy"):
        Membership.load(world.home("ann"))
    with pytest.raises(ConfigError):
        world.ann.admission(NOW)
    with pytest.raises(ConfigError):
        world.ann.attach(HUB, id_of("hub"))
    assert path.read_bytes() == content


def test_a_damaged_database_is_not_said_of_the_other_file(world: World) -> None:
    world.ann.close()
    for name in os.listdir(world.home("ann")):
        if name.startswith(DATABASE):
            (world.home("ann") / name).write_bytes(b"no database at all " * 100)

    with pytest.raises(ConfigError, match=r"meshllm\.db cannot be used"):
        Membership.load(world.home("ann"))


def test_a_damaged_database_keeps_a_node_from_half_joining(world: World) -> None:
    world.identity("bob")
    (world.home("bob") / DATABASE).write_bytes(b"no database at all " * 100)

    with pytest.raises(ConfigError, match=r"meshllm\.db cannot be used"):
        world.join("bob", world.invite())
    assert not (world.home("bob") / MESH_FILE).exists()


def test_a_file_that_cannot_be_read_is_said(world: World) -> None:
    path = world.home("ann") / MESH_FILE
    path.unlink()
    path.mkdir()

    with pytest.raises(ConfigError, match=r"mesh\.json cannot be read"):
        Membership.load(world.home("ann"))


# Invitations


def test_whoever_joins_is_a_guest_until_the_membership_comes(world: World) -> None:
    bob = world.join("bob", world.invite())

    assert bob.is_provisional
    assert bob.admission(NOW).role is Role.GUEST
    assert (bob.hub, bob.hub_key) == (HUB, None)


def test_an_expired_invitation_leaves_nothing_behind(world: World) -> None:
    with pytest.raises(NotAllowed, match="expired"):
        world.join("bob", world.invite(until=NOW))
    assert Membership.load(world.home("bob")) is None


def test_an_invitation_with_another_seed_leaves_nothing_behind(world: World) -> None:
    stolen = replace(world.invite(), seed=bytes(key("guessed")))

    with pytest.raises(TrustError):
        world.join("bob", stolen)
    assert Membership.load(world.home("bob")) is None


def test_only_owners_invite(world: World) -> None:
    bob = world.member("bob")

    with pytest.raises(NotAllowed, match="Only an owner"):
        bob.invite(
            world.identity("bob"),
            name="Eve",
            role=Role.GUEST,
            caps=Caps(),
            until=NOW + HOUR,
            now=NOW,
        )


@pytest.mark.parametrize(
    "how",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"role": Role.OWNER},
        {"caps": Caps(parallel=0)},
        {"caps": Caps(tokens_per_day=2**60)},
        {"caps": Caps(models=("m",) * 65)},
        {"caps": Caps(models=("m" * 250,) * 60)},
        {"until": -1},
    ],
)
def test_what_nobody_could_use_is_not_signed(world: World, how: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be granted"):
        world.invite(**how)
    assert world.rows("ann", "SELECT * FROM invited") == []


def test_a_chain_has_to_leave_room_in_an_offer(world: World) -> None:
    with pytest.raises(ConfigError, match="name fewer models"):
        world.invite(caps=Caps(models=("m" * 120,) * 40))
    assert world.invite(caps=Caps(models=("m" * 30,) * 40))


# Cards and memberships


def test_a_card_is_answered_with_what_the_ticket_promised(world: World) -> None:
    bob = world.join("bob", world.invite())

    grant = Grant.read(world.ann.issue(world.identity("ann"), bob.chain, NOW))

    assert grant.id == world.identity("bob").id
    assert (grant.role, grant.caps) == (Role.MEMBER, Caps(("llama3.2",), 2))
    assert grant.until == NOW + MEMBERSHIP_S


def test_a_card_is_always_answered_with_the_same_membership(world: World) -> None:
    chain, ann = world.join("bob", world.invite()).chain, world.identity("ann")
    first = world.ann.issue(ann, chain, NOW)

    assert world.ann.issue(ann, chain, NOW + 60) == first
    assert world.load("ann").issue(ann, chain, NOW + 120) == first


def test_a_ticket_is_one_nodes_and_the_second_is_noted(world: World) -> None:
    invitation, ann = world.invite(), world.identity("ann")
    first = world.ann.issue(ann, card_of(invitation, "bob"), NOW)

    for _ in range(2):
        with pytest.raises(NotAllowed, match="used by another node") as refused:
            world.ann.issue(ann, card_of(invitation, "eve"), NOW)
        assert refused.value.code is Code.AUTH

    assert world.ann.issue(ann, card_of(invitation, "bob"), NOW) == first
    assert world.rows("ann", "SELECT node FROM conflict") == [(id_of("eve"),)]


def test_only_a_card_is_answered(world: World) -> None:
    bob = world.member("bob")

    for chain in ((), bob.chain, world.ann.chain):
        with pytest.raises(NotAllowed, match="Only a card"):
            world.ann.issue(world.identity("ann"), chain, NOW)


def test_another_owners_card_is_left_to_him(world: World) -> None:
    token = world.state(2, ann="Ann", carol="Carol")
    carol = world.member("carol")
    carol.newer_statement(token)
    world.ann.newer_statement(token)
    chain = card_of(world.invite(), "bob")

    with pytest.raises(NotAllowed, match="not for us to answer"):
        carol.issue(world.identity("carol"), chain, NOW)
    assert world.rows("carol", "SELECT * FROM seen") == []


def test_the_membership_replaces_the_card(world: World) -> None:
    bob = world.join("bob", world.invite())
    token = world.ann.issue(world.identity("ann"), bob.chain, NOW)

    bob.accept(token, world.ann.statement, NOW)

    assert bob.chain == (world.ann.statement, token)
    assert bob.admission(NOW + 2 * HOUR).role is Role.MEMBER
    assert world.load("bob").chain == bob.chain


def test_somebody_elses_membership_is_not_ours(world: World) -> None:
    invitation = world.invite()
    other = world.ann.issue(world.identity("ann"), card_of(invitation, "eve"), NOW)
    bob = world.join("bob", world.invite())
    before = bob.chain

    with pytest.raises(NotAllowed):
        bob.accept(other, world.ann.statement, NOW)
    assert bob.chain == before


def granted(world: World, name: str, role: Role, ts: int) -> str:
    ann = world.identity("ann")
    return Grant(
        mesh=world.root.id,
        issuer=ann.id,
        id=world.identity(name).id,
        name=name,
        role=role,
        caps=Caps(),
        ticket=None,
        until=NOW + HOUR,
        ts=ts,
    ).sign(ann.signing)


def test_an_old_membership_that_is_repeated_changes_nothing(world: World) -> None:
    bob = world.member("bob")
    newer = granted(world, "bob", Role.GUEST, NOW + 2)
    bob.accept(newer, world.ann.statement, NOW + 2)

    bob.accept(granted(world, "bob", Role.MEMBER, NOW + 1), bob.statement, NOW + 3)

    assert bob.chain == (world.ann.statement, newer)


def test_a_membership_does_not_make_less_of_an_owner(world: World) -> None:
    token = granted(world, "ann", Role.GUEST, NOW)

    world.ann.accept(token, world.ann.statement, NOW)

    assert world.ann.admission(NOW).role is Role.OWNER


# Others at the door


def test_one_node_a_ticket_also_after_a_restart(world: World) -> None:
    bob = world.member("bob")
    invitation = world.invite()
    assert bob.decide(card_of(invitation, "carol"), id_of("carol"), NOW)
    bob.close()

    again = world.load("bob")

    assert again.decide(card_of(invitation, "carol"), id_of("carol"), NOW)
    with pytest.raises(NotAllowed, match="used by another node"):
        again.decide(card_of(invitation, "eve"), id_of("eve"), NOW)


def test_of_two_processes_that_bind_at_once_one_wins(world: World) -> None:
    names = ["bob", "eve", "mallory"]
    binders = [
        subprocess.Popen(
            [sys.executable, "-c", BINDER, str(world.home("ann")), id_of(name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for binder in binders:
        assert binder.stdout is not None
        assert binder.stdout.readline() == "ready\n"
    for binder in binders:
        assert binder.stdin is not None
        binder.stdin.write("\n")
        binder.stdin.flush()

    said = [binder.communicate()[0].strip() for binder in binders]

    assert sorted(said) == ["False", "False", "True"]
    winner = id_of(names[said.index("True")])
    assert world.ann.bind(bytes(16), winner, NOW)
    assert world.rows("ann", "SELECT count(*) FROM conflict") == [(2,)]


def test_a_stolen_link_does_not_fill_the_disk(world: World) -> None:
    assert world.ann.bind(bytes(16), id_of("bob"), NOW)

    for n in range(3 * CONFLICTS_MAX):
        assert not world.ann.bind(bytes(16), id_of(f"thief {n}"), NOW)

    count = "SELECT count(*) FROM conflict"
    assert world.rows("ann", count) == [(CONFLICTS_MAX,)]


def test_a_stranger_is_refused_before_anything_is_kept(world: World) -> None:
    invitation = world.invite()
    ticket = replace(Ticket.read(invitation.ticket), issuer=id_of("eve"))
    forged = replace(invitation, ticket=ticket.sign(key("eve")))

    with pytest.raises(MeshError):
        world.ann.decide(card_of(forged, "eve"), id_of("eve"), NOW)
    assert world.rows("ann", "SELECT * FROM seen") == []


# Statements and revocations


def test_what_is_known_is_never_lowered(world: World) -> None:
    bob = world.member("bob")
    newer = world.state(3, ann="Ann", carol="Carol")
    bob.newer_statement(newer)

    bob.newer_statement(world.state(2, ann="Ann"))
    bob.newer_statement(world.state(3, ann="Ann"))

    assert bob.statement == newer
    assert world.load("bob").statement == newer


def test_a_statement_of_another_mesh_is_refused(world: World) -> None:
    other = Statement(id_of("root"), 9, (Owner(id_of("eve"), "Eve"),), NOW)

    with pytest.raises(TrustError):
        world.ann.newer_statement(other.sign(key("root")))


def test_a_chain_at_the_door_brings_the_newer_statement(world: World) -> None:
    bob = world.member("bob")
    newer = world.state(2, ann="Ann", carol="Carol")

    bob.decide((newer,), world.identity("carol").id, NOW)

    assert bob.statement == newer
    assert bob.chain[0] == newer
    assert bob.admission(NOW).role is Role.MEMBER


def test_the_root_key_makes_a_member_an_owner(world: World) -> None:
    bob = world.member("bob")

    bob.newer_statement(world.state(2, ann="Ann", bob="Bob"))

    assert bob.admission(NOW).role is Role.OWNER
    assert len(bob.chain) == 1


def test_a_removed_owner_is_out(world: World) -> None:
    world.ann.newer_statement(world.state(2, carol="Carol"))

    with pytest.raises(NotAllowed):
        world.ann.admission(NOW)


def test_a_list_ends_an_admission_that_is_in_use(world: World) -> None:
    bob = world.member("bob")
    admission = world.ann.decide(bob.chain, world.identity("bob").id, NOW)
    world.ann.recheck(admission, NOW)

    world.ann.newer_revocations(world.revoke("bob"))

    with pytest.raises(NotAllowed) as refused:
        world.ann.recheck(admission, NOW)
    assert refused.value.code is Code.REVOKED
    with pytest.raises(NotAllowed):
        world.load("ann").decide(bob.chain, world.identity("bob").id, NOW)


def test_a_list_by_no_owner_changes_nothing(world: World) -> None:
    bob = world.member("bob")

    world.ann.newer_revocations(world.revoke("bob", by="bob", version=9))

    assert world.ann.decide(bob.chain, world.identity("bob").id, NOW)


def test_a_removed_owners_list_yields_to_any_owners(world: World) -> None:
    bob = world.member("bob")
    world.ann.newer_statement(world.state(2, ann="Ann", carol="Carol"))
    world.ann.newer_revocations(world.revoke("bob", by="carol", version=2**53 - 1))
    world.ann.newer_statement(world.state(3, ann="Ann"))

    assert world.ann.decide(bob.chain, world.identity("bob").id, NOW)
    world.ann.newer_revocations(world.revoke("bob"))
    with pytest.raises(NotAllowed):
        world.ann.decide(bob.chain, world.identity("bob").id, NOW)


# Two processes of one home


def test_what_another_process_learns_is_seen(world: World) -> None:
    bob = world.member("bob")
    admission = world.ann.decide(bob.chain, world.identity("bob").id, NOW)
    other = world.load("ann")

    other.newer_revocations(world.revoke("bob"))

    with pytest.raises(NotAllowed):
        world.ann.recheck(admission, NOW)
    with pytest.raises(NotAllowed):
        world.ann.decide(bob.chain, world.identity("bob").id, NOW)


def test_no_process_undoes_what_another_has_written(world: World) -> None:
    """Each holds what it read long ago, and writes another field."""
    bob = world.join("bob", world.invite())
    shares, gateways = world.load("bob"), world.load("bob")
    token = world.ann.issue(world.identity("ann"), bob.chain, NOW)

    shares.accept(token, world.ann.statement, NOW)
    gateways.newer_revocations(world.revoke("eve"))
    bob.attach("https://other.example.org", id_of("hub"))

    found = world.load("bob")
    assert found.chain == (world.ann.statement, token)
    assert found.hub == "https://other.example.org"
    known = json.loads((world.home("bob") / MESH_FILE).read_bytes())
    assert known["revocations"] == world.revoke("eve")
    assert gateways.chain == shares.chain == found.chain
