"""A LAN's multicast in memory: what one announces or asks, all hear. The real one is
in tests/natlab, where nobody else's is in the air."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from meshllm.errors import MeshError
from meshllm.transport.addresses import LanAddress
from meshllm.transport.lan import Hint
from meshllm.trust.keys import PeerId


@dataclass
class Air:
    """In the place of `Multicast`: call it to make one."""

    is_deaf: bool = False
    heard_by: list[_Multicast] = field(default_factory=list)
    said: list[Hint] = field(default_factory=list)
    asked: int = 0

    def __call__(
        self, on_hint: Callable[[Hint], None], on_goodbye: Callable[[str], None]
    ) -> _Multicast:
        return _Multicast(self, on_hint)

    def say(self, hint: Hint) -> None:
        self.said.append(hint)
        for one in self.heard_by:
            one.on_hint(hint)


@dataclass(eq=False)
class _Multicast:
    air: Air
    on_hint: Callable[[Hint], None]

    async def start(self, addresses: Sequence[LanAddress]) -> None:
        if self.air.is_deaf:
            raise MeshError("Multicast DNS cannot be used here: nobody would hear.")
        self.air.heard_by.append(self)

    async def announce(
        self, id: PeerId, port: int, addresses: Sequence[LanAddress]
    ) -> None:
        self.air.say(Hint("door", id, tuple(a.host for a in addresses), port, "salt"))

    def ask(self) -> None:
        self.air.asked += 1
        for hint in list(self.air.said):
            self.on_hint(hint)

    async def stop(self) -> None:
        self.air.heard_by.remove(self)
