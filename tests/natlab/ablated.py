"""`python -m tests.natlab.ablated STEP …` is `meshllm …` with one step of our ICE (or,
for the last, SCTP) as upstream has it: what the step is worth shows in the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import aioice
from aiortc import RTCSctpTransport

from meshllm.cli import main
from meshllm.transport import association, ice
from meshllm.transport.association import Association
from meshllm.transport.health import Health
from meshllm.transport.ice import IceConnection
from meshllm.transport.peer import Peer
from meshllm.transport.servers import IceServer, Server, read_servers

ALL = "all"


def staged_turn() -> None:
    """The first STUN and the first TURN server are the only ones."""

    def firsts(servers: Sequence[IceServer]) -> list[Server]:
        found = read_servers(servers)
        return [
            *[server for server in found if not server.is_relay][:1],
            *[server for server in found if server.is_relay][:1],
        ]

    _set(ice, "read_servers", firsts)


def triggered_checks() -> None:
    """A check is repeated when its timer says so, whatever the peer sent."""
    _set(IceConnection, "_check_again", lambda self, addr, protocol: None)


def direct_first() -> None:
    """Whichever pair was nominated last is used, and what was not tried yet is not."""
    _set(IceConnection, "check_complete", aioice.Connection.check_complete)


def going_on() -> None:
    """With the first pair that works all checks end, also behind a relay."""

    async def settle_for_it(self: IceConnection) -> None:
        self._end_checks()

    _set(IceConnection, "_improve", settle_for_it)


def trickle() -> None:
    """Offer and answer wait for all candidates."""
    gather = Peer._gather

    async def gather_all(self: Peer, setup: str) -> None:
        await gather(self, setup)
        while not self._connection.is_gathered:
            await self._found.wait()
            self._found.clear()
        offered = self._connection.offered
        self.local = replace(self.local, candidates=offered, is_complete=True)

    _set(Peer, "_gather", gather_all)


def health_ahead() -> None:
    """Nothing is known of a server before it is asked."""
    _set(Health, "is_dead", lambda self, server, now: False)
    _set(Health, "has_answered", lambda self, server: False)


def rto() -> None:
    """A lost packet is repeated after 3 s at first, then after a second at least."""
    _set(association, "RTO_INITIAL_S", 3.0)
    _set(Association, "_update_rto", RTCSctpTransport._update_rto)


STEPS: dict[str, Callable[[], None]] = {
    step.__name__.replace("_", "-"): step
    for step in (
        *(staged_turn, triggered_checks, direct_first, going_on),
        *(trickle, health_ahead, rto),
    )
}


def ablate(name: str) -> None:
    for step in STEPS.values() if name == ALL else (STEPS[name],):
        step()


def program(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.natlab.ablated", name)


def _set(where: Any, name: str, value: object) -> None:
    """AttributeError when it is not there: then this file is to be mended."""
    getattr(where, name)
    setattr(where, name, value)


if __name__ == "__main__":
    ablate(sys.argv.pop(1))
    main()
