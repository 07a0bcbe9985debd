"""A mesh is made: its root key, its first owner, its place on a server.

docs/protocol.md §2.1 (the setup link) and §3.2 (`register`).
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshllm.errors import MeshError, PeerUnreachable, TrustError
from meshllm.identity import ROOT_FILE, Identity, RootKey
from meshllm.joining import loaded
from meshllm.membership import Membership, refuse_second
from meshllm.transport.signaling import SignalingClient
from meshllm.trust.keys import PeerId
from meshllm.trust.link import SetupLink, parse_link

NAME_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Founded:
    """A mesh that was made. `phrase` is None when it was only attached to a server;
    `problem` says why that did not work out yet."""

    mesh: PeerId
    hub: str | None
    phrase: str | None
    root_key: Path
    problem: str | None = None


async def init(
    home: Path, link: str | None = None, *, name: str | None = None
) -> Founded:
    """A new mesh whose owner is this node, on the link's server if there is one.

    A mesh without a server is attached to the link's. A refusal leaves nothing behind.
    """
    setup = _setup_link(link) if link is not None else None
    membership = Membership.load(home)
    if membership is not None:
        try:
            return await _attach(home, membership, setup)
        finally:
            membership.close()
    identity = Identity.load_or_create(home)
    if setup is None:
        return _founded(home, identity, name)
    async with SignalingClient.once(setup.hub, setup.server, identity) as client:
        founded = _founded(home, identity, name)
        membership = loaded(home)
        try:
            await client.register(setup.token, membership.statement)
            membership.attach(setup.hub, setup.server)
        except PeerUnreachable as error:  # it may or may not have heard us
            problem = f"{error} `meshllm init '{link}'` tries again."
            return Founded(
                founded.mesh, None, founded.phrase, founded.root_key, problem
            )
        except MeshError:
            membership.leave()
            founded.root_key.unlink()
            raise
        finally:
            membership.close()
    return Founded(founded.mesh, setup.hub, founded.phrase, founded.root_key)


async def _attach(
    home: Path, membership: Membership, setup: SetupLink | None
) -> Founded:
    if setup is None or membership.hub is not None:
        refuse_second(home)
        raise AssertionError("a membership without a file")
    RootKey.load(home)  # only who holds it may register its mesh
    identity = Identity.load(home)
    async with SignalingClient.once(setup.hub, setup.server, identity) as client:
        await client.register(setup.token, membership.statement)
    membership.attach(setup.hub, setup.server)
    return Founded(membership.mesh, setup.hub, None, home / ROOT_FILE)


def _founded(home: Path, identity: Identity, name: str | None) -> Founded:
    root = RootKey.create(home)
    try:
        owner = name or machine_name()
        membership = Membership.found(home, identity, root, owner, int(time.time()))
    except BaseException:
        (home / ROOT_FILE).unlink()
        raise
    membership.close()
    return Founded(membership.mesh, None, root.phrase, home / ROOT_FILE)


def _setup_link(link: str) -> SetupLink:
    parsed = parse_link(link)
    if not isinstance(parsed, SetupLink):
        raise TrustError(
            "This link joins a mesh that exists: `meshllm join LINK`. `meshllm init`"
            " takes the link that `meshllm signal` prints when it first starts."
        )
    return parsed


def machine_name() -> str:
    """What this machine calls itself, as a node's name."""
    return socket.gethostname().partition(".")[0][:NAME_MAX] or "owner"
