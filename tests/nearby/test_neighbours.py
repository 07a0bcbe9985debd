"""What is heard only causes a look; what was seen is not displaced by what is heard."""

from __future__ import annotations

import pytest

from meshllm.nearby.neighbours import (
    DIAL_S,
    LOST_FOR_S,
    LOST_S,
    NEW_PER_S,
    RETRY_S,
    SPOTS_MAX,
    UNHEARD_S,
    VISIT_S,
    Neighbours,
    Proven,
    Spot,
)
from meshllm.protocol.visit import Contact
from meshllm.transport.lan import Hint
from meshllm.transport.lan_client import Place
from tests.fakes.people import id_of

ANN = id_of("ann")
CONN = b"c" * 16
ROOM = 8


def hint(
    name: str = "one", who: str = "ann", port: int = 1, salt: str = "s", host: str = "a"
) -> Hint:
    return Hint(name, id_of(who), (host,), port, salt)


def proof(who: str = "ann", host: str = "a", port: int = 1) -> Proven:
    contact = Contact.of(id_of(who), b"b" * 32, b"s" * 16, id_of("root"))
    return Proven(contact, Place(host, port), CONN)


def only(there: Neighbours, now: float) -> Spot:
    """Who is to be visited now, the only one."""
    (spot,) = there.due(now, ROOM)
    return spot


@pytest.fixture
def there() -> Neighbours:
    return Neighbours()


def proven(there: Neighbours, at: float = 0.0) -> Spot:
    """Ann, seen at this time."""
    there.heard(hint(), at)
    spot = only(there, at)
    there.proved(spot, proof(), at)
    return spot


def test_whoever_is_heard_is_looked_at_once(there: Neighbours) -> None:
    there.heard(hint(), 0)
    spot = only(there, 0)
    assert spot.tries == (Place("a", 1),)
    assert there.due(0, ROOM) == []
    assert there.place(ANN, CONN) is None
    there.proved(spot, proof(), 0)
    assert there.place(ANN, CONN) == Place("a", 1)
    assert there.place(ANN, b"other" * 4) is None
    assert there.is_there(ANN)


def test_whoever_is_proven_is_seen_again(there: Neighbours) -> None:
    spot = proven(there)
    there.heard(hint(), 1)
    assert there.next_time() == VISIT_S
    assert there.due(VISIT_S, 0) == [spot]


def test_news_are_fetched_but_not_more_often_than_each_second(
    there: Neighbours,
) -> None:
    spot = proven(there)
    for number in range(100):
        there.heard(hint(salt=f"{number}"), 0.1)
    assert there.due(0.2, ROOM) == []
    assert there.due(RETRY_S, ROOM) == [spot]


def test_a_false_address_in_anothers_name_changes_nothing(there: Neighbours) -> None:
    spot = proven(there)
    there.heard(hint(host="false", port=9), 5)
    assert there.due(5, ROOM) == [spot]
    assert spot.tries == (Place("a", 1), Place("false", 9))
    there.proved(spot, proof(), 5)
    assert there.place(ANN, CONN) == Place("a", 1)


def test_a_false_goodbye_changes_nothing(there: Neighbours) -> None:
    spot = proven(there)
    there.goodbye("one", 5)
    there.goodbye("nobody", 5)
    assert there.place(ANN, CONN) is not None
    assert there.due(5, ROOM) == [spot]
    there.proved(spot, proof(), 5)
    assert there.is_there(ANN)


def test_a_true_goodbye_is_believed_at_once(there: Neighbours) -> None:
    spot = proven(there)
    there.goodbye("one", 5)
    there.due(5, ROOM)
    assert there.failed(spot, "refused", 5)
    assert len(there) == 0


def test_one_silence_is_forgiven_two_are_not(there: Neighbours) -> None:
    spot = proven(there)
    there.due(VISIT_S, ROOM)
    assert not there.failed(spot, "silent", VISIT_S)
    assert there.is_there(ANN)
    assert there.due(VISIT_S + RETRY_S, ROOM) == [spot]
    assert there.failed(spot, "silent", VISIT_S + RETRY_S)
    assert not there.is_there(ANN)


def test_who_did_not_take_an_offer_is_doubted(there: Neighbours) -> None:
    spot = proven(there)
    there.doubt(ANN, 5)
    there.doubt(id_of("bob"), 5)
    there.due(5, ROOM)
    assert there.failed(spot, "silent", 5)


def test_who_was_proven_once_is_looked_for_an_hour(there: Neighbours) -> None:
    spot = proven(there)
    there.doubt(ANN, 5)
    there.due(5, ROOM)
    there.failed(spot, "silent", 5)
    assert there.due(5 + LOST_S, ROOM) == [spot]
    there.failed(spot, "silent", 5 + LOST_S)
    assert there.due(LOST_FOR_S + 1, ROOM) == []
    assert len(there) == 0


def test_after_a_sleep_everybody_is_looked_at(there: Neighbours) -> None:
    spot = proven(there)
    there.heard(hint("two", "bob"), 2)
    there.failed(only(there, 2), "silent", 2)
    there.look_again(10)
    assert there.due(10, ROOM) == [spot]


def test_one_id_is_dialled_once_in_five_seconds(there: Neighbours) -> None:
    for number in range(20):
        there.heard(hint(f"n{number}", "ann", port=number + 1), 0)
    first = there.due(0, 20)
    assert len(first) == 1
    there.failed(first[0], "false", 0)
    assert there.due(DIAL_S - 0.1, 20) == []
    assert len(there.due(DIAL_S, 20)) == 1


def test_a_crowd_is_dialled_slowly_and_bounded(there: Neighbours) -> None:
    spot = proven(there)
    for number in range(10_000):
        there.heard(hint(f"n{number}", f"who{number}"), 1)
    assert len(there) == SPOTS_MAX
    assert there.is_there(ANN)
    dialled = 0
    for tick in range(20):  # a second
        for one in there.due(1 + tick / 20, ROOM):
            assert one is not spot
            there.failed(one, None, 1 + tick / 20)
            dialled += 1
    assert dialled <= 2 * NEW_PER_S


def test_room_is_made_by_the_unproven_only(there: Neighbours) -> None:
    for number in range(SPOTS_MAX):
        now = number / NEW_PER_S
        there.heard(hint(f"n{number}", f"who{number}"), now)
        there.proved(only(there, now), proof(f"who{number}"), now)
    there.heard(hint("late", "late"), SPOTS_MAX / NEW_PER_S)
    assert all(spot.name != "late" for spot in there)


def test_who_fails_again_and_again_is_rarely_tried(there: Neighbours) -> None:
    there.heard(hint(), 0)
    now = pause = 0.0
    for _ in range(10):
        spot = only(there, now)
        there.failed(spot, "false", now)
        assert spot.problem == "false"
        pause = spot.next_at - now
        now = spot.next_at
        there.heard(hint(), now)
    assert pause == 300


def test_who_is_not_heard_any_more_is_forgotten(there: Neighbours) -> None:
    there.heard(hint(), 0)
    there.failed(only(there, 0), None, 0)
    there.due(UNHEARD_S + 1, ROOM)
    assert len(there) == 0


def test_an_address_by_hand_is_never_forgotten(there: Neighbours) -> None:
    there.add(Place("10.0.0.9", 11430), 0)
    there.heard(hint(), 0)
    spot = there.due(0, 1)[0]
    assert (spot.is_manual, spot.name) == (True, "10.0.0.9:11430")
    there.failed(spot, "nobody", 0)
    there.goodbye(spot.name, 1)
    assert there.due(LOST_S, 1)[0] is spot
    there.proved(spot, proof(), LOST_S)
    there.doubt(ANN, 100)
    there.due(100, 1)
    there.failed(spot, "nobody", 100)
    there.due(2 * LOST_FOR_S, 1)
    assert spot in list(there)
