"""Which paths a node allows: any, only through a relay, or none through a relay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from meshllm.errors import PeerUnreachable
from meshllm.protocol.description import Candidate
from meshllm.transport.addresses import read_machine

Policy: TypeAlias = Literal["all", "relay", "direct"]
"""`relay`: the peer sees no address of ours. `direct`: no relay, neither side's."""


def reachable(remote: Sequence[Candidate], policy: Policy) -> list[Candidate]:
    """What of a peer's addresses may be dialled. PeerUnreachable when nothing may.

    Under `direct` its relays are still among them, for the ICE connection to refuse.
    """
    found = read_machine().reachable(remote)
    if not found:
        raise PeerUnreachable(
            "The peer offers no address that this machine may dial. "
            "Both need a common network, or a TURN server."
        )
    if policy == "direct" and all(c.kind == "relay" for c in found):
        raise PeerUnreachable(
            "The peer can be reached through a relay only, and this node uses none."
        )
    return found
