"""Whether this machine's network has changed, or it slept: looked at now and then.

No two systems tell this in the same way. To look costs about half a millisecond, and
one look is enough for all who want to know (docs/decisions/0017).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshllm.transport.addresses import (
    LanAddress,
    lan_of,
    machine_of,
    read_adapters,
    read_ways_out,
)

LOOK_S: Final = 2.0  # with the probe's 1.5 s a dead connection is seen within 4 s
SLEPT_S: Final = 5.0  # a look that comes so late was not late by load


@dataclass(frozen=True, slots=True)
class Network:
    """Where this machine is. `ways_out` are the addresses that packets to the Internet
    leave from: a route may come or go while every address stays."""

    lan: tuple[LanAddress, ...]
    usable: frozenset[str]
    ways_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What there is now, and how it compares with the look before."""

    network: Network
    is_other: bool = False
    has_slept: bool = False

    @property
    def is_news(self) -> bool:
        """Connections that were made before may be dead."""
        return self.is_other or self.has_slept


def read_network() -> Network:
    """As it is now."""
    found, ways_out = read_adapters(), read_ways_out()
    machine = machine_of(found, ways_out)
    return Network(lan_of(found), frozenset(machine.usable), ways_out)


class NetworkWatch:
    """`tell` gets every look, the first one at once. Somebody has to `run` it."""

    def __init__(
        self,
        tell: Callable[[Look], None],
        *,
        read: Callable[[], Network] = read_network,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tell = tell
        self._read = read
        self._clock = clock
        self._before: Network | None = None
        self._looked_at = 0.0

    async def run(self) -> None:
        """For as long as the node runs."""
        while True:
            self._tell(self.look())
            await asyncio.sleep(LOOK_S)

    def look(self) -> Look:
        """Call it every LOOK_S seconds: by that it knows of a sleep.

        The loop's clock stands still while some machines sleep, and goes on while
        others do; the wall clock shows it on both. Somebody may also have set it: to
        look after connections that are well does no harm.
        """
        now, before = self._clock(), self._before
        late_s = abs(now - self._looked_at - LOOK_S)
        self._looked_at, self._before = now, self._read()
        if before is None:
            return Look(self._before)
        return Look(self._before, self._before != before, late_s > SLEPT_S)
