"""What a LAN lets us do, looked at once: for `meshllm doctor`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from meshllm.errors import MeshError
from meshllm.nearby.nearby import NO_ADDRESS
from meshllm.transport.addresses import read_lan
from meshllm.transport.lan import Hint, Multicast

REPORT_S: Final = 1.5
BY_HAND: Final = (
    "start `meshllm share --lan-port 11430` there and name its address here: "
    "`meshllm gateway --peer ADDRESS`"
)
NOT_HEARD: Final = (
    "our own announcement did not come back: a firewall drops UDP port 5353 here, or "
    "this network (a VPN, guest Wi-Fi, a container) carries no multicast"
)
ALONE: Final = (
    "nobody else is heard: where a peer is behind a VPN, on guest Wi-Fi, in another "
    "subnet or in a container, multicast does not reach it"
)


@dataclass(frozen=True, slots=True)
class LanReport:
    """`heard` are announcements of others, of whatever mesh. `problem` says what does
    not work, `advice` what to do about it."""

    addresses: tuple[str, ...]
    works: bool
    heard: int
    problem: str | None = None
    advice: str | None = None


async def lan_report(wait_s: float = REPORT_S) -> LanReport:
    """Announces nothing that a node would dial, and listens for a moment."""
    addresses = read_lan()
    hosts = tuple(address.host for address in addresses)
    if not addresses:
        return LanReport((), False, 0, NO_ADDRESS, "connect this machine to a network")
    heard: set[str] = set()

    def on_hint(hint: Hint) -> None:
        heard.add(hint.name)

    multicast = Multicast(on_hint, heard.discard)
    try:
        await multicast.start(addresses)
    except MeshError as error:
        return LanReport(hosts, False, 0, str(error), BY_HAND)
    try:
        await multicast.probe(addresses)
        multicast.ask()
        await asyncio.sleep(wait_s)
        multicast.ask()
        await asyncio.sleep(wait_s / 2)
    finally:
        await multicast.stop()
    problem = None if multicast.is_heard else NOT_HEARD
    if problem is None and not heard:
        problem = ALONE
    advice = BY_HAND if problem else None
    return LanReport(hosts, multicast.is_heard, len(heard), problem, advice)
