"""How a node shall run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshllm.transport.policy import Policy


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """`trust`: `owner`, `members` or peer ids, as `--trust` takes them. `peers`: LAN
    endpoints that were given by hand. `serves_lan`: others may find us there; None: if
    we are an owner, who has memberships to hand out."""

    home: Path
    trust: tuple[str, ...] = ("members",)
    lan: bool = True
    peers: tuple[tuple[str, int], ...] = ()
    serves_lan: bool | None = False
    lan_port: int = 0
    policy: Policy = "all"

    @property
    def uses_lan(self) -> bool:
        """To be found there shows an address of ours, which `relay` is against."""
        return self.lan and self.policy != "relay"
