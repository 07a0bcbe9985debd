"""What the LAN needs of its node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.transport.introduce import Introducer
from meshllm.trust.keys import PeerId


@dataclass(frozen=True, slots=True)
class Ties:
    """`card`: our announcement, None while nothing is shared. `on_card` gets those of
    others and may refuse one, `on_left` who shares nothing here any more; `on_news` is
    called when we learned something of the mesh. `names`: the providers that were ever
    known, to tell an impostor's id.
    """

    identity: Identity
    membership: Membership
    introducer: Introducer
    card: Callable[[], str | None]
    on_card: Callable[[str], None]
    on_left: Callable[[PeerId], None]
    on_news: Callable[[], None]
    names: Callable[[], Mapping[PeerId, str]]
