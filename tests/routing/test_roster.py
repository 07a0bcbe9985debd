"""Who is there, by which way: the server's list and the LAN's each speak for itself."""

from __future__ import annotations

import pytest

from meshllm.errors import NotAllowed
from meshllm.routing.roster import Roster
from meshllm.trust.admission import Admission, admit
from meshllm.trust.grants import Role
from meshllm.trust.keys import PeerId
from tests.fakes.hubs import NOW, Mesh, id_of

MESH = Mesh()
BEN = id_of("ben")


class Town:
    """The roster of a node that is connected with `connected`."""

    def __init__(self) -> None:
        self.now = 1.0
        self.connected: set[PeerId] = set()
        self.objection: NotAllowed | None = None
        self.roster = Roster(
            lambda chain, id: admit(chain, id=id, mesh=MESH.id, now=NOW),
            lambda id: id in self.connected,
            vet=self._vet,
            clock=lambda: self.now,
        )

    def _vet(self, admission: Admission) -> None:
        if self.objection is not None:
            raise self.objection

    @property
    def there(self) -> list[PeerId]:
        return [provider.id for provider in self.roster.providers]


def card(ts: int = NOW, conn: str = "ben") -> str:
    return MESH.announcement("ben", ts=ts, conn=conn)


@pytest.fixture
def town() -> Town:
    return Town()


def test_each_way_is_known_since_it_was_first_found(town: Town) -> None:
    town.roster.put(card())
    town.now = 2.0
    town.roster.put(card(), "lan")
    town.now = 3.0
    town.roster.put(card(NOW + 1), "lan")
    assert town.roster.found(BEN) == {"hub": 1.0, "lan": 2.0}
    assert town.roster.found(id_of("nobody")) == {}


def test_who_leaves_one_way_is_there_by_the_other(town: Town) -> None:
    town.roster.put(card())
    town.roster.put(card(), "lan")
    assert not town.roster.remove(BEN, "hub")
    assert town.there == [BEN]
    assert town.roster.remove(BEN, "lan")
    assert town.there == []
    assert not town.roster.remove(BEN, "lan")


def test_a_server_that_begins_again_takes_nothing_from_the_lan(town: Town) -> None:
    town.roster.put(card())
    town.roster.put(card(), "lan")
    town.roster.begin_again()
    assert town.roster.found(BEN) == {"lan": 1.0}
    assert town.there == [BEN]


def test_whom_a_restarted_server_forgot_stays_while_connected(town: Town) -> None:
    town.roster.put(card())
    town.connected.add(BEN)
    town.roster.begin_again()
    assert town.there == [BEN]
    town.connected.clear()
    assert town.there == []
    town.roster.put(card())
    assert town.there == [BEN]


def test_who_is_not_connected_is_forgotten_when_the_server_begins_again(
    town: Town,
) -> None:
    town.roster.put(card())
    town.roster.begin_again()
    assert town.there == []


def test_an_older_announcement_changes_nothing(town: Town) -> None:
    town.roster.put(card(NOW + 1))
    assert town.roster.put(card(), "lan") is None
    assert set(town.roster.found(BEN)) == {"hub", "lan"}


def test_the_way_to_a_process_that_is_no_more_is_none(town: Town) -> None:
    town.roster.put(card(), "lan")
    town.roster.put(card(NOW + 1, "ben, started anew"), "hub")
    assert set(town.roster.found(BEN)) == {"hub"}
    assert town.roster.put(card(), "lan") is None
    assert set(town.roster.found(BEN)) == {"hub"}


def test_guests_and_those_who_are_objected_to_are_not_listed(town: Town) -> None:
    guest = MESH.announcement("gil", chain=MESH.chain("gil", Role.GUEST))
    with pytest.raises(NotAllowed, match="not share any"):
        town.roster.put(guest)
    town.objection = NotAllowed("Another key.")
    with pytest.raises(NotAllowed, match="Another key"):
        town.roster.put(card())
    assert town.there == []
