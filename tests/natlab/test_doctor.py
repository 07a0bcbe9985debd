"""`meshllm doctor` behind real NATs: it names each, and how a provider is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.natlab import net
from tests.natlab.cells import World, world
from tests.natlab.nat import Kind

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ASKERS = (Kind.FULL_CONE, Kind.SYMMETRIC, Kind.UDP_BLOCKED)


async def examined(made: World, kind: Kind) -> dict[str, dict[str, Any]]:
    """The checks by name; of several of one name the last."""
    home = made.askers[kind].name
    done = await made.meshllm.run(home, "doctor", "--json", at=net.entered(home))
    return {check["name"]: check for check in done.json["checks"]}


async def test_each_nat_is_named_with_one_turn_server_to_ask(tmp_path: Path) -> None:
    async with world(tmp_path, [(kind, Kind.FULL_CONE) for kind in ASKERS]) as made:
        found = {kind: await examined(made, kind) for kind in ASKERS}
    nats = {kind: checks["nat"]["facts"] for kind, checks in found.items()}
    assert {kind: nat["mapping"] for kind, nat in nats.items()} == {
        Kind.FULL_CONE: "endpoint-independent",
        Kind.SYMMETRIC: "endpoint-dependent",
        Kind.UDP_BLOCKED: "blocked",
    }
    assert nats[Kind.FULL_CONE]["open"] is True
    assert nats[Kind.SYMMETRIC]["open"] is False
    relays = {kind: one["relay"]["facts"]["answered"] for kind, one in found.items()}
    assert relays[Kind.FULL_CONE] == ["tcp", "tls", "udp"]
    assert relays[Kind.UDP_BLOCKED] == ["tcp", "tls"]
    paths = {kind: one["peer"]["facts"]["relay"] for kind, one in found.items()}
    assert paths == {
        Kind.FULL_CONE: False,
        Kind.SYMMETRIC: False,
        Kind.UDP_BLOCKED: True,
    }
