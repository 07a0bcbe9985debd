"""How many introductions a second the hub passes on: its decisions, not its sockets."""

from __future__ import annotations

import time
from dataclasses import replace

from meshllm.protocol import signals
from meshllm.protocol.signal_codec import encode
from signaling.effects import Send
from signaling.limits import DEFAULT_LIMITS, Rate
from tests.fakes.hubs import World, envelope, id_of

OFFER_BYTES = 4_096  # the smallest envelope; offers are padded to it
SECONDS = 3.0


def routed_per_s() -> float:
    """From one member to another, read, checked and written again; on this core."""
    free = Rate(1e9, 1_000_000_000)
    limits = replace(DEFAULT_LIMITS, messages=free, sends=free, signals=free)
    world = World(limits=limits).registered()
    asker, provider = world.member("bob"), world.member("ann")
    world.announce(provider, "ann")
    to, sealed = id_of("ann"), envelope(size=OFFER_BYTES)
    count, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < SECONDS:
        message = encode(signals.Send(count + 1, to, None, sealed))
        effects = world.hub.received(asker, message, world.now)
        sent = [encode(e.message) for e in effects if isinstance(e, Send)]
        if len(sent) != 2:  # to the provider, and that it was done
            raise RuntimeError(f"the hub refused: {effects}")
        count += 1
    return count / passed
