from __future__ import annotations

import pytest

from signaling.limits import Bucket, Buckets, Rate, household


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = Bucket(Rate(per_s=2, burst=3), at=100.0)

    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5), bucket.take(100.5)] == [True, False]


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(Rate(per_s=2, burst=3), at=100.0)

    assert [bucket.take(9000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = Bucket(Rate(per_s=1, burst=1), at=100.0)
    bucket.take(100.0)

    assert not bucket.take(50.0)
    assert bucket.take(51.0)


def test_one_key_does_not_use_up_the_rate_of_another() -> None:
    buckets = Buckets[str](Rate(per_s=1, burst=1))

    assert buckets.take("a", 0.0)
    assert not buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)


def test_full_buckets_are_forgotten_and_others_kept() -> None:
    buckets = Buckets[str](Rate(per_s=1, burst=10))
    buckets.take("once", 0.0)
    for _ in range(10):
        buckets.take("often", 0.0)

    buckets.forget_full(5.0)

    assert len(buckets) == 1
    assert [buckets.take("often", 5.0) for _ in range(6)] == [True] * 5 + [False]


def test_many_keys_push_out_the_one_unused_longest() -> None:
    buckets = Buckets[str](Rate(per_s=1, burst=1), most=2)
    for key in ("a", "b", "a", "c"):
        buckets.take(key, 0.0)

    assert len(buckets) == 2
    assert not buckets.take("a", 0.0)


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", "not an address"),
    ],
)
def test_a_household_is_one_address(address: str, counted_as: str) -> None:
    assert household(address) == counted_as
