"""What /metrics tells about a node: its providers, sessions, slots, and reconnects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from meshllm.metrics import Fact, Metrics
from meshllm.node import Node
from meshllm.provider.host import Host
from meshllm.transport.link import Link

# Of a path (docs/protocol.md §5); `none` is a session that looks for another one.
PATHS: Final = ("host", "srflx", "prflx", "relay", "lan", "none")


def of_node(node: Node) -> Iterator[Fact]:
    """For `Metrics`."""
    yield Fact(
        "meshllm_signaling_connected",
        "Whether the signaling server is there.",
        node.is_connected,
    )
    yield Fact(
        "meshllm_signaling_reconnects_total",
        "Logins after a connection to the signaling server was lost.",
        node.reconnects,
    )
    yield Fact(
        "meshllm_dials_total",
        "Paths to providers that were tried, also for a session that lost its own.",
        node.dials,
    )
    yield Fact(
        "meshllm_dial_failures_total", "Those that did not come up.", node.failed_dials
    )
    providers = node.mesh.providers
    yield Fact("meshllm_providers", "Providers here that we trust.", len(providers))
    yield Fact(
        "meshllm_models",
        "Models they have.",
        len({model.name for provider in providers for model in provider.models}),
    )
    sides = {"provider": node.links.links}
    if node.host is not None:
        sides["client"] = [guest.link for guest in node.host.sessions.guests]
    for peer, links in sides.items():
        yield from _sessions(peer, links)
    if node.host is not None:
        yield from _of_host(node.host)


def _sessions(peer: str, links: Iterable[Link]) -> Iterator[Fact]:
    paths = Counter(link.wire.carrier.kind if link.wire else "none" for link in links)
    for path in PATHS:
        yield Fact(
            "meshllm_sessions",
            "Sessions by what the peer is to us and by the kind of path.",
            paths[path],
            {"peer": peer, "path": path},
        )


def _of_host(host: Host) -> Iterator[Fact]:
    slots = host.slots
    yield Fact("meshllm_slots", "Answers at a time.", slots.parallel)
    yield Fact("meshllm_slots_running", "Answers under way.", slots.running)
    yield Fact("meshllm_queue_waiting", "Requests in line for a slot.", slots.waiting)
    yield Fact("meshllm_queue_limit", "Requests that may be in line.", slots.queue)
    yield Fact(
        "meshllm_queue_refused_total",
        "Requests refused because the line was full.",
        slots.refused,
    )
    yield Fact("meshllm_backend_up", "Whether the model server answers.", host.is_up)


def measure(host: Host, metrics: Metrics) -> None:
    """From now on: how long requests wait for a slot, and how long they have it."""
    host.slots.on_waited = metrics.seconds(
        "meshllm_queue_seconds", "How long a request waited for its slot."
    ).observe
    host.slots.on_ran = metrics.seconds(
        "meshllm_slot_seconds", "How long a request had its slot."
    ).observe
