"""Coming into a mesh, bringing others in, leaving: with a real server on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshllm import control, founding, joining
from meshllm.errors import ConfigError, NotAllowed, TrustError
from meshllm.identity import Identity
from meshllm.loglines import LogLines
from meshllm.membership import Membership
from meshllm.node import Node, NodeOptions
from meshllm.trust.grants import Role
from meshllm.trust.link import ShortLink, parse_link
from signaling.server import ServeOptions, SignalingServer


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[SignalingServer]:
    async with SignalingServer(ServeOptions(tmp_path / "hub", port=0)) as server:
        yield server


@pytest.fixture
async def anna(tmp_path: Path, hub: SignalingServer) -> Path:
    """The home of the owner of a mesh on the hub."""
    assert hub.setup_link is not None
    await founding.init(tmp_path / "anna", hub.setup_link, name="anna")
    return tmp_path / "anna"


@asynccontextmanager
async def online(home: Path) -> AsyncIterator[Node]:
    async with Node(NodeOptions(home, lan=False)) as node:
        await node.joined()
        yield node


def is_untouched(home: Path) -> bool:
    """Neither a mesh nor a root key; the node's own keys may be there."""
    return not (home / "mesh.json").exists() and not (home / "root.key").exists()


# invite and join


async def test_a_guest_joins_while_the_owner_is_online(
    anna: Path, tmp_path: Path
) -> None:
    async with online(anna):
        invited = await joining.invite(anna, name="ben")
        joined = await joining.join(tmp_path / "ben", invited.link)
    assert (joined.admission.name, joined.admission.role) == ("ben", Role.GUEST)
    assert (joined.is_provisional, joined.problem) == (False, None)


async def test_alone_one_is_a_guest_until_the_owner_comes(
    anna: Path, tmp_path: Path
) -> None:
    invited = await joining.invite(anna, role="member", expires_s=3600)
    joined = await joining.join(tmp_path / "ben", invited.link, wait_s=0)
    assert joined.is_provisional
    assert (joined.admission.role, joined.promised) == (Role.GUEST, Role.MEMBER)
    assert joined.admission.until == invited.until
    async with online(anna), online(tmp_path / "ben") as ben:
        async with asyncio.timeout(10):
            while ben.membership.is_provisional:
                await asyncio.sleep(0.01)
    place = joining.describe(tmp_path / "ben", int(time.time()))
    assert (place["role"], place["provisional"]) == ("member", False)


async def test_the_short_link_fits_a_qr_code_and_says_nothing_to_the_hub(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    invited = await joining.invite(anna, name="secret-name")
    assert len(invited.link) < 100
    link = parse_link(invited.link)
    assert isinstance(link, ShortLink)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "hub").iterdir())
    assert b"secret-name" not in kept
    assert link.key not in kept


async def test_the_second_node_with_a_link_is_refused_and_left_as_it_was(
    anna: Path, tmp_path: Path
) -> None:
    invited = await joining.invite(anna)
    await joining.join(tmp_path / "ben", invited.link, wait_s=0)
    with pytest.raises(NotAllowed, match="used"):
        await joining.join(tmp_path / "eve", invited.link, wait_s=0)
    assert is_untouched(tmp_path / "eve")


async def test_an_expired_invitation_leaves_nothing(anna: Path, tmp_path: Path) -> None:
    invited = await joining.invite(anna, expires_s=-1, offline=True)
    with pytest.raises(NotAllowed, match="expired"):
        await joining.join(tmp_path / "ben", invited.link)
    assert is_untouched(tmp_path / "ben")


async def test_a_link_whose_key_was_mistyped_does_not_open(
    anna: Path, tmp_path: Path
) -> None:
    link = parse_link((await joining.invite(anna)).link)
    assert isinstance(link, ShortLink)
    wrong = str(ShortLink(link.hub, link.id, bytes(16)))
    with pytest.raises(TrustError, match="does not open with this link"):
        await joining.join(tmp_path / "ben", wrong)
    assert is_untouched(tmp_path / "ben")


async def test_a_server_that_took_the_address_over_is_noticed(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    """It has the sealed ticket, and still is not the server that the ticket names."""
    link = parse_link((await joining.invite(anna)).link)
    assert isinstance(link, ShortLink)
    other = SignalingServer(ServeOptions(tmp_path / "other", port=0))
    async with other:
        assert other.setup_link is not None
        await founding.init(tmp_path / "eve", other.setup_link)
        await copy_ticket(anna, tmp_path / "eve", hub, other, link)
        moved = str(ShortLink(other.url, link.id, link.key))
        with pytest.raises(TrustError, match="is not the one that this invitation"):
            await joining.join(tmp_path / "ben", moved)
    assert is_untouched(tmp_path / "ben")


async def copy_ticket(
    anna: Path, eve: Path, hub: SignalingServer, other: SignalingServer, link: ShortLink
) -> None:
    from meshllm.transport.signaling import SignalingClient

    owner = Identity.load(anna)
    async with SignalingClient.once(hub.url, hub.id, owner) as client:
        sealed = await client.get_ticket(link.id)
    known = Membership.load(eve)
    assert known is not None
    chain = known.chain
    known.close()
    thief = Identity.load(eve)
    async with SignalingClient.once(other.url, other.id, thief, chain=chain) as client:
        await client.put_ticket(link.id, sealed, int(time.time()) + 60)


async def test_an_offline_link_joins_before_the_server_is_back(
    anna: Path, hub: SignalingServer, tmp_path: Path
) -> None:
    invited = await joining.invite(anna, offline=True)
    await hub.stop()
    joined = await joining.join(tmp_path / "ben", invited.link, wait_s=0)
    assert joined.is_provisional
    assert joined.problem is not None
    assert "cannot be reached" in joined.problem
    await hub.start()


async def test_a_guest_invites_nobody(anna: Path, tmp_path: Path) -> None:
    invited = await joining.invite(anna)
    await joining.join(tmp_path / "ben", invited.link, wait_s=0)
    with pytest.raises(NotAllowed, match="Only an owner"):
        await joining.invite(tmp_path / "ben")


async def test_one_home_is_in_one_mesh(anna: Path, tmp_path: Path) -> None:
    invited = await joining.invite(anna)
    with pytest.raises(ConfigError, match="--home"):
        await joining.join(anna, invited.link)
    # ... and the link was not used up by trying.
    await joining.join(tmp_path / "ben", invited.link, wait_s=0)


# leave


async def test_what_still_runs_is_named_by_leave(anna: Path) -> None:
    state = control.State(dict, list, LogLines())
    async with control.serve(anna, "gateway", state):
        with pytest.raises(ConfigError, match=r"`meshllm gateway` \(process \d+\)"):
            joining.leave(anna)
    joining.leave(anna)
    with pytest.raises(ConfigError, match="in no mesh"):
        joining.leave(anna)


def test_a_node_without_a_mesh_is_told_how_to_get_into_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`meshllm join LINK`"):
        joining.describe(tmp_path, 0)
