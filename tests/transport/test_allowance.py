"""Strangers may ask little, nodes of the mesh enough, and memory is bounded."""

from __future__ import annotations

from meshllm.transport.allowance import (
    ADDRESSES_MAX,
    KNOWN,
    KNOWN_S,
    STRANGER,
    Allowances,
)


def taken(allowances: Allowances, address: str, now: float) -> int:
    count = 0
    while allowances.take(address, now):
        count += 1
    return count


def test_a_stranger_asks_ten_times_a_minute() -> None:
    allowances = Allowances()
    assert taken(allowances, "10.0.0.1", 0) == STRANGER
    assert taken(allowances, "10.0.0.1", 6) == 1
    assert taken(allowances, "10.0.0.1", 1_000) == STRANGER
    assert taken(allowances, "10.0.0.2", 1_000) == STRANGER


def test_whoever_is_known_asks_more_for_ten_minutes() -> None:
    allowances = Allowances()
    taken(allowances, "10.0.0.1", 0)
    allowances.know("10.0.0.1", 0)
    assert allowances.is_known("10.0.0.1", KNOWN_S - 1)
    assert taken(allowances, "10.0.0.1", 0) == KNOWN
    allowances.know("10.0.0.1", 1)  # again: it fills nothing
    assert taken(allowances, "10.0.0.1", 1) == KNOWN / 60
    assert not allowances.is_known("10.0.0.1", 1 + KNOWN_S)
    assert taken(allowances, "10.0.0.1", 1 + KNOWN_S) == STRANGER


def test_a_thousand_strangers_do_not_displace_the_known() -> None:
    allowances = Allowances()
    allowances.know("10.0.0.1", 0)
    for number in range(2 * ADDRESSES_MAX):
        assert allowances.take(f"fe80::{number:x}", 1)
    assert len(allowances) == ADDRESSES_MAX
    assert allowances.is_known("10.0.0.1", 1)


def test_the_known_alone_are_bounded_too() -> None:
    allowances = Allowances()
    for number in range(ADDRESSES_MAX + 1):
        allowances.know(f"fe80::{number:x}", 0)
    assert len(allowances) == ADDRESSES_MAX
    assert not allowances.is_known("fe80::0", 0)
