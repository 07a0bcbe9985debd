"""Every site is what it is called, before a cell is believed."""

from __future__ import annotations

import asyncio

import pytest

from tests.natlab import net
from tests.natlab.nat import Kind, can_be_direct
from tests.natlab.probe import EXPECTED, classify, probe_server
from tests.natlab.sites import Site, internet

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]


async def test_every_site_probes_as_it_is_called() -> None:
    sites = [Site(kind, number) for number, kind in enumerate(Kind, 1)]
    with internet(sites):
        async with probe_server():
            found = await asyncio.gather(*(classify(site.host()) for site in sites))
    assert dict(zip(Kind, found, strict=True)) == EXPECTED


async def test_a_second_host_of_a_lan_is_behind_the_same_nat() -> None:
    site = Site(Kind.ADDRESS_RESTRICTED, 1, hosts=2)
    with internet([site]):
        async with probe_server():
            found = await asyncio.gather(classify(site.host(0)), classify(site.host(1)))
        assert set(found) == {EXPECTED[site.kind]}
        assert net.addresses(site.host(0)) != net.addresses(site.host(1))


async def test_the_probe_sees_a_nat_that_looks_right_and_cannot_be_punched() -> None:
    site = Site(Kind.PORT_RESTRICTED, 1)
    with internet([site]):
        net.nft(site.outermost, "delete table inet wall")
        async with probe_server():
            found = await classify(site.host())
    assert found.udp is not None
    assert (found.udp.mapping, found.udp.filtering) == ("EIM", "APDF")
    assert not found.udp.is_punchable


def test_theory_lets_38_of_81_pairs_be_direct_and_knows_no_order() -> None:
    pairs = [(one, other) for one in Kind for other in Kind]
    assert sum(can_be_direct(*pair) for pair in pairs) == 38
    assert all(can_be_direct(a, b) == can_be_direct(b, a) for a, b in pairs)
