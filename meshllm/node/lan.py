"""The LAN of one node, tied to what else the node has."""

from __future__ import annotations

from meshllm.identity import Identity
from meshllm.membership import Membership
from meshllm.nearby import Nearby, Ties
from meshllm.node.options import NodeOptions
from meshllm.node.register import Register
from meshllm.node.sharing import Sharing
from meshllm.routing.links import Links
from meshllm.transport.introduce import Introducer
from meshllm.transport.lan_client import Place
from meshllm.trust.keys import PeerId


def make_nearby(
    options: NodeOptions,
    identity: Identity,
    membership: Membership,
    introducer: Introducer,
    register: Register,
    links: Links,
    sharing: Sharing,
) -> Nearby:
    """Not open yet."""

    def on_card(token: str) -> None:
        register.put(token, "lan")
        links.on_roster()

    def on_left(id: PeerId) -> None:
        links.on_roster([id] if register.roster.remove(id, "lan") else ())

    def on_news() -> None:
        sharing.recheck()
        sharing.announce_soon()

    serves = options.serves_lan
    if serves is None:
        serves = membership.is_owner(identity.id)
    return Nearby(
        Ties(
            identity=identity,
            membership=membership,
            introducer=introducer,
            card=lambda: sharing.card,
            on_card=on_card,
            on_left=on_left,
            on_news=on_news,
            names=lambda: register.known.names,
        ),
        serves=serves,
        places=[Place(host, port) for host, port in options.peers],
        port=options.lan_port,
    )
