"""Two machines in a mailbox of a real server, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshllm.errors import Code, NotAllowed, PeerUnreachable, TrustError
from meshllm.protocol.pairing_messages import LETTER_MAX
from meshllm.transport.mailbox import Mailbox
from meshllm.trust.grants import Role
from signaling.server import SignalingServer
from tests.fakes.hubs import Mesh, id_of
from tests.fakes.signaling import WAIT_S, identity, register, serve

MESH = Mesh()


@contextlib.asynccontextmanager
async def opened(server: SignalingServer) -> AsyncIterator[Mailbox]:
    chain = MESH.chain("owner")
    async with Mailbox.opened(
        server.url, server.id, identity("owner"), chain
    ) as mailbox:
        yield mailbox


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SignalingServer]:
    async with serve(tmp_path) as server:
        await register(server, MESH)
        yield server


async def test_letters_of_any_bytes_arrive_whole_and_in_order(
    server: SignalingServer,
) -> None:
    letters = [b"\0", bytes(range(256)), b"x" * LETTER_MAX]
    async with (
        opened(server) as owner,
        Mailbox.joined(server.url, owner.number, identity("bob")) as bob,
    ):
        for letter in letters:
            await bob.send(letter)
            await owner.send(letter[::-1])

        assert [await owner.receive() for _ in letters] == letters
        assert [await bob.receive() for _ in letters] == [one[::-1] for one in letters]
        assert bob.server == server.id


async def test_what_was_sent_before_leaving_still_arrives(
    server: SignalingServer,
) -> None:
    async with opened(server) as owner:
        async with Mailbox.joined(server.url, owner.number, identity("bob")) as bob:
            await bob.send(b"last words")

        assert await owner.receive() == b"last words"
        with pytest.raises(PeerUnreachable, match="has gone away"):
            await owner.receive()
        with pytest.raises(PeerUnreachable, match="has gone away"):
            await owner.send(b"too late")


async def test_a_server_that_goes_ends_it(server: SignalingServer) -> None:
    async with opened(server) as owner:
        receiving = asyncio.ensure_future(owner.receive())
        await server.stop()

        async with asyncio.timeout(WAIT_S):
            with pytest.raises(PeerUnreachable, match="again with `meshllm pair`"):
                await receiving
    await server.start()


async def test_another_server_at_the_meshs_address_is_noticed(
    server: SignalingServer,
) -> None:
    with pytest.raises(TrustError, match="not the one"):
        async with Mailbox.opened(
            server.url, id_of("another hub"), identity("owner"), MESH.chain("owner")
        ):
            pass


async def test_a_guest_opens_none(server: SignalingServer) -> None:
    chain = MESH.chain("bob", Role.GUEST)

    with pytest.raises(NotAllowed, match="Only an owner") as caught:
        async with Mailbox.opened(server.url, server.id, identity("bob"), chain):
            pass

    assert caught.value.code is Code.FORBIDDEN


async def test_an_unknown_mailbox_and_a_full_one_are_told_apart(
    server: SignalingServer,
) -> None:
    async with opened(server) as owner:
        number = owner.number
        async with Mailbox.joined(server.url, number, identity("bob")):
            with pytest.raises(NotAllowed, match="another machine pairs already"):
                async with Mailbox.joined(server.url, number, identity("eve")):
                    pass
    with pytest.raises(PeerUnreachable, match=f"no mailbox {number}"):
        async with Mailbox.joined(server.url, number, identity("bob")):
            pass
