"""When a check is sent because a stream broke off."""

from __future__ import annotations

from meshllm.transport.pulse import CHECKS, Pulse


def after(*packets: int) -> Pulse:
    """So many in each tick."""
    pulse = Pulse()
    for count in packets:
        for _ in range(count):
            pulse.hear()
        assert not pulse.tick()
    return pulse


def test_a_stream_that_breaks_off_is_looked_after_for_a_while() -> None:
    pulse = after(1, 10)
    assert [pulse.tick() for _ in range(CHECKS + 2)] == [True] * CHECKS + [False] * 2


def test_what_answers_has_only_nothing_to_say() -> None:
    pulse = after(10, 10)
    assert pulse.tick()
    pulse.answer()
    assert not pulse.tick()


def test_it_is_stalled_from_a_missing_answer_until_something_is_heard() -> None:
    pulse = after(10, 10)
    assert pulse.tick()
    pulse.miss()
    assert pulse.is_stalled
    pulse.hear()
    assert not pulse.is_stalled
    pulse.miss()
    pulse.answer()
    assert not pulse.is_stalled


def test_one_burst_between_silences_is_no_stream() -> None:
    pulse = after(0, 0, 3, 0, 0, 0, 3, 0)
    assert not pulse.tick()


def test_a_stream_that_goes_on_needs_no_check() -> None:
    pulse = after(5, 5)
    assert pulse.tick()
    pulse.hear()
    assert not pulse.tick()
    assert not pulse.tick()


def test_nothing_was_heard_and_nothing_is_missed() -> None:
    assert not any(Pulse().tick() for _ in range(3))
