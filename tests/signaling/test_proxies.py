"""Whose the limits are when proxies stand before the server."""

from __future__ import annotations

import ipaddress

import pytest

from signaling.proxies import caller

OURS = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "10.0.0.0/8", "fd00::/8")))


@pytest.mark.parametrize(
    ("hops", "expected"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["9.9.9.9, 192.0.2.1"], "192.0.2.1"),
        (["9.9.9.9", "192.0.2.1"], "192.0.2.1"),  # the header may be there twice
        (["192.0.2.1, 10.0.0.7"], "192.0.2.1"),  # a proxy behind a proxy of ours
        (["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["192.0.2.1, ::ffff:10.0.0.7"], "192.0.2.1"),
        (["rubbish"], "rubbish"),
        (["x" * 1000], "x" * 64),
        ([""], "127.0.0.1"),
        ([" , "], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_the_nearest_address_beyond_our_proxies_counts(
    hops: list[str], expected: str
) -> None:
    assert caller("127.0.0.1", hops, [], OURS) == expected


@pytest.mark.parametrize("remote", ["192.0.2.9", "", "rubbish"])
def test_strangers_are_not_believed(remote: str) -> None:
    assert caller(remote, ["192.0.2.1"], ["for=192.0.2.1"], OURS) == remote
    assert caller("127.0.0.1", ["192.0.2.1"], [], ()) == "127.0.0.1"


@pytest.mark.parametrize(
    ("hop", "expected"),
    [
        ("for=192.0.2.60", "192.0.2.60"),
        ("For = 192.0.2.60 ;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("proto=https;for=192.0.2.60", "192.0.2.60"),
        ('for="192.0.2.60:4711"', "192.0.2.60"),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("for=198.51.100.17, for=192.0.2.60", "192.0.2.60"),
        ("for=192.0.2.60, for=10.0.0.1;by=10.0.0.2", "192.0.2.60"),
        ("for=_hidden", "_hidden"),
        ("by=203.0.113.43", "127.0.0.1"),
        ("xfor=192.0.2.60", "127.0.0.1"),
    ],
)
def test_the_standard_header_is_read_too(hop: str, expected: str) -> None:
    assert caller("127.0.0.1", [], [hop], OURS) == expected


def test_two_headers_that_disagree_are_one_too_many() -> None:
    """The proxy wrote one of them, and its client the other."""
    for hops, standard in (("192.0.2.1", "9.9.9.9"), ("9.9.9.9", "192.0.2.1")):
        found = caller("10.0.0.1", [hops], [f"for={standard}"], OURS)
        assert found == "10.0.0.1"
    assert caller("10.0.0.1", ["192.0.2.1"], ["for=192.0.2.1"], OURS) == "192.0.2.1"
