"""Making a mesh: on a real server on loopback, refused, lost half way, attached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshllm import founding, joining
from meshllm.errors import ConfigError, MeshError, NotAllowed, TrustError
from meshllm.identity import Identity, RootKey
from signaling.server import ServeOptions, SignalingServer


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[SignalingServer]:
    async with SignalingServer(ServeOptions(tmp_path / "hub", port=0)) as server:
        yield server


def is_untouched(home: Path) -> bool:
    """Neither a mesh nor a root key; the node's own keys may be there."""
    return not (home / "mesh.json").exists() and not (home / "root.key").exists()


async def test_a_mesh_is_registered_once_with_the_setup_link(
    hub: SignalingServer, tmp_path: Path
) -> None:
    link = hub.setup_link
    assert link is not None
    founded = await founding.init(tmp_path / "anna", link)
    assert founded.hub == hub.url
    assert founded.mesh == RootKey.load(tmp_path / "anna").id
    assert founded.phrase is not None
    assert RootKey.from_phrase(founded.phrase).id == founded.mesh
    assert hub.setup_link is None
    with pytest.raises(NotAllowed):
        await founding.init(tmp_path / "eve", link)
    assert is_untouched(tmp_path / "eve")


async def test_a_server_with_another_key_than_the_links_gets_no_mesh(
    hub: SignalingServer, tmp_path: Path
) -> None:
    assert hub.setup_link is not None
    other = Identity.load_or_create(tmp_path / "other").id
    forged = hub.setup_link.replace(hub.id, other)
    with pytest.raises(TrustError):
        await founding.init(tmp_path / "anna", forged)
    assert is_untouched(tmp_path / "anna")
    assert hub.setup_link is not None


async def test_a_server_that_is_away_leaves_nothing_behind(
    hub: SignalingServer, tmp_path: Path
) -> None:
    assert hub.setup_link is not None
    async with deaf(hub, after=0) as url:
        with pytest.raises(MeshError, match="cannot be reached"):
            await founding.init(tmp_path / "anna", hub.setup_link.replace(hub.url, url))
    assert is_untouched(tmp_path / "anna")


async def test_a_mesh_whose_registration_was_lost_is_kept_and_attached_later(
    hub: SignalingServer, tmp_path: Path
) -> None:
    link = hub.setup_link
    assert link is not None
    async with deaf(hub, after=2) as url:  # the upgrade, the login; not the register
        founded = await founding.init(tmp_path, link.replace(hub.url, url))
    assert founded.phrase is not None
    assert founded.hub is None
    assert founded.problem is not None
    assert "meshllm init" in founded.problem
    attached = await founding.init(tmp_path, link)
    assert (attached.mesh, attached.hub) == (founded.mesh, hub.url)
    assert (attached.phrase, attached.problem) == (None, None)


async def test_a_home_that_made_a_mesh_makes_no_second(tmp_path: Path) -> None:
    await founding.init(tmp_path)
    with pytest.raises(ConfigError, match="--home"):
        await founding.init(tmp_path)
    joining.leave(tmp_path)
    with pytest.raises(ConfigError, match=r"root\.key exists"):
        await founding.init(tmp_path)


async def test_a_mesh_with_a_server_is_not_moved_to_another(
    hub: SignalingServer, tmp_path: Path
) -> None:
    link = hub.setup_link
    assert link is not None
    await founding.init(tmp_path / "anna", link)
    with pytest.raises(ConfigError, match="in a mesh already"):
        await founding.init(tmp_path / "anna", link)


async def test_only_who_holds_the_root_key_attaches_a_mesh(
    hub: SignalingServer, tmp_path: Path
) -> None:
    assert hub.setup_link is not None
    founded = await founding.init(tmp_path)
    founded.root_key.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"root\.key"):
        await founding.init(tmp_path, hub.setup_link)


@asynccontextmanager
async def deaf(hub: SignalingServer, *, after: int) -> AsyncIterator[str]:
    """The hub behind a wire that breaks when the client has spoken `after` times."""
    host, port = hub.url.removeprefix("http://").split(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        answers = asyncio.create_task(copy(there, writer))
        for _ in range(after):
            back.write(await reader.read(65536))
        await reader.read(65536)
        answers.cancel()
        for one in (back, writer):
            one.transport.abort()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
