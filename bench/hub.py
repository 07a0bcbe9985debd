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
BATCH = 100


def routed_per_s() -> float:
    """From one member to another, read, checked and written again, with the answer that
    it was done; for each second of a processor."""
    free = Rate(1e9, 1_000_000_000)
    limits = replace(DEFAULT_LIMITS, messages=free, sends=free, signals=free)
    world = World(limits=limits).registered()
    asker, provider = world.member("bob"), world.member("ann")
    world.announce(provider, "ann")
    to, sealed = id_of("ann"), envelope(size=OFFER_BYTES)
    message = encode(signals.Send(1, to, None, sealed))
    count, begun = 0, time.process_time()
    while (passed := time.process_time() - begun) < SECONDS:
        for _ in range(BATCH):
            effects = world.hub.received(asker, message, world.now)
            sent = [encode(e.message) for e in effects if isinstance(e, Send)]
            if len(sent) != 2:
                raise RuntimeError(f"the hub refused: {effects}")
        count += BATCH
    return count / passed
