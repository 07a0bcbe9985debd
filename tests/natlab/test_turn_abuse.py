"""What a member may not do with our coturn, tried on a real one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from signaling.coturn_config import DEFAULT_RELAY_LIMITS
from tests.natlab.relay import FRIEND, FRIEND6, LAN, MACHINE, OWN, OWN6, relay
from tests.natlab.turn_user import inbox

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

FORBIDDEN = 403  # RFC 8656 §19
WRONG_FAMILY = 443
UNAUTHORIZED = 401
QUOTA_REACHED = 486
NO_RELAY_OF_FAMILY = 440

INSIDE = (
    *("0.0.0.0", "127.0.0.1", "127.8.8.8", LAN, "172.16.0.1", "192.168.1.1"),
    *("100.64.0.1", "169.254.169.254", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
)
INSIDE6 = (
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", f"::ffff:{LAN}"),
    *("::ffff:169.254.169.254", f"::ffff:{OWN}", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::1", "2001::1", "fe80::1", "fec0::1", "fd00::1", "ff02::1"),
)


async def test_a_relay_reaches_others_and_nothing_inside(tmp_path: Path) -> None:
    async with relay(tmp_path) as made:
        async with (
            made.user() as user,
            inbox(MACHINE, FRIEND) as (friend, friends_port),
            inbox(MACHINE, "127.0.0.1") as (inside, port),
            inbox(MACHINE, LAN) as (lan, lan_port),
        ):
            assert await user.allocate() is None
            # Else all of this would pass with a relay that is broken.
            assert await user.bind(FRIEND, friends_port) is None
            user.say(b"hello")
            assert await friend.packets.get() == b"hello"

            refused = {host: await user.bind(host, port) for host in INSIDE}
            assert refused == dict.fromkeys(INSIDE, FORBIDDEN)
            assert await user.bind(LAN, lan_port) == FORBIDDEN
            permitted = {host: await user.permit(host) for host in INSIDE}
            assert permitted == dict.fromkeys(INSIDE, FORBIDDEN)
            # An IPv4 relay has no way to IPv6 at all, however IPv4 is written in it.
            wrong = {host: await user.bind(host, port) for host in INSIDE6}
            assert set(wrong.values()) <= {FORBIDDEN, WRONG_FAMILY}

            user.say(b"still")
            assert await friend.packets.get() == b"still"
            assert inside.packets.empty()
            assert lan.packets.empty()
        async with made.user() as user:
            assert await user.allocate(6) == NO_RELAY_OF_FAMILY


async def test_a_relay_with_an_ipv6_address_reaches_nothing_inside_either(
    tmp_path: Path,
) -> None:
    """CVE-2026-27624: IPv4 in IPv6's clothes passed the denied ranges of IPv4."""
    async with (
        relay(tmp_path, "--turn-ip", OWN6) as made,
        made.user(ipv6=True) as user,
        inbox(MACHINE, FRIEND6) as (friend, friends_port),
        inbox(MACHINE, "127.0.0.1") as (inside, port),
    ):
        assert await user.allocate(6) is None
        assert await user.bind(FRIEND6, friends_port) is None
        user.say(b"hello")
        assert await friend.packets.get() == b"hello"

        refused = {host: await user.bind(host, port) for host in INSIDE6}
        assert refused == dict.fromkeys(INSIDE6, FORBIDDEN)
        user.say(b"still")
        assert await friend.packets.get() == b"still"
        assert inside.packets.empty()


async def test_two_peers_that_both_have_no_other_way_meet_at_the_relay(
    tmp_path: Path,
) -> None:
    async with (
        relay(tmp_path) as made,
        made.user() as ann,
        made.user(made.credentials(2)) as bob,
    ):
        for user in (ann, bob):
            assert await user.allocate() is None
        assert ann.relayed_address is not None
        assert bob.relayed_address is not None
        assert await bob.bind(*ann.relayed_address) is None
        assert await ann.bind(*bob.relayed_address) is None
        ann.say(b"over both")
        assert await bob.inbox.packets.get() == b"over both"


async def test_only_credentials_that_last_and_are_of_this_secret_admit(
    tmp_path: Path,
) -> None:
    async with relay(tmp_path) as made:
        for credentials, expected in (
            (made.credentials(), None),
            (made.credentials(age_s=3_590), None),
            (made.credentials(age_s=3_601), UNAUTHORIZED),
            (made.credentials(secret=b"another secret"), UNAUTHORIZED),
            (("ann", "password"), UNAUTHORIZED),
        ):
            async with made.user(credentials) as user:
                assert await user.allocate() == expected


async def test_a_person_has_a_quota_whatever_the_credentials(tmp_path: Path) -> None:
    async with relay(tmp_path) as made, AsyncExitStack() as stack:

        async def one_more(credentials: tuple[str, str]) -> int | None:
            user = await stack.enter_async_context(made.user(credentials))
            return await user.allocate()

        quota = DEFAULT_RELAY_LIMITS.allocations_per_person
        codes = [await one_more(made.credentials(age_s=n)) for n in range(quota + 1)]
        assert codes == [None] * quota + [QUOTA_REACHED]
        assert await one_more(made.credentials(2)) is None
