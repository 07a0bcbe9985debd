"""The LAN at work: announces us, visits whom it hears, and says who is proven there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from meshllm.errors import MeshError
from meshllm.nearby.neighbours import Neighbours
from meshllm.nearby.reception import Reception
from meshllm.nearby.ties import Ties
from meshllm.nearby.visits import Visits
from meshllm.transport.addresses import LanAddress, read_lan
from meshllm.transport.introduce import Deliver
from meshllm.transport.lan import ASK_S, Hint, Multicast
from meshllm.transport.lan_client import LanClient, Place
from meshllm.transport.network import Look
from meshllm.trust.announcement import Announcement
from meshllm.trust.keys import PeerId, short

log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 60.0
AT_ONCE: Final = 8  # visits to the unproven
PAUSE_S: Final = 0.05  # between two rounds that found nothing to do
LOOK_S: Final = 0.5  # whoever is here has answered by then, if multicast works
LOOK_MAX_S: Final = 2.0
STOP_S: Final = 1.0

NO_ADDRESS: Final = "this machine has no address of a local network"


class Nearby:
    """`serves`: others may come to us. `places` were given by hand. Use `open`, `run`
    in a task, `close`; `look` tells it of the network, which it else sees once."""

    def __init__(
        self, ties: Ties, *, serves: bool, places: Sequence[Place] = (), port: int = 0
    ) -> None:
        self._ties = ties
        self._client = LanClient(ties.identity)
        self._multicast: Multicast | None = None
        self._reception: Reception | None = None
        if serves:
            self._reception = Reception(
                ties.identity,
                ties.membership,
                ties.introducer,
                card=ties.card,
                on_news=self._on_news,
                port=port,
            )
        self._neighbours = Neighbours()
        self._addresses: tuple[LanAddress, ...] = ()
        self._seen: tuple[LanAddress, ...] | None = None  # since we acted on it
        self._has_slept = False
        self._asks: list[float] = []  # when to ask for the service, by the loop's clock
        self._woken = asyncio.Event()
        self._looked = asyncio.Event()
        self._visits = Visits(
            *(ties, self._client, self._neighbours),
            on_news=self._on_news,
            on_end=self._woken.set,
        )
        self._has_news = True
        self._problem: str | None = None
        self._deaf: str | None = None  # why we listen nowhere
        self._since = asyncio.get_running_loop().time()
        for place in places:
            self._neighbours.add(place, self._since)

    async def open(self) -> None:
        """ConfigError when the port that was wished for is taken."""
        self._addresses = self._seen = read_lan()
        if self._reception is not None:
            await self._reception.server.listen(self._addresses)

    async def run(self) -> None:
        """For as long as the node runs."""
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            now = loop.time()
            await self._keep_up(now)
            self._visits.begin(self._neighbours.due(now, AT_ONCE - len(self._visits)))
            self._judge_look(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(loop.time())):
                    await self._woken.wait()

    async def close(self) -> None:
        await self._visits.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                if self._multicast is not None:
                    await self._multicast.stop()
        if self._reception is not None:
            await self._reception.server.stop()
        await self._client.close()

    def look(self, look: Look) -> None:
        """The network as it was seen just now."""
        self._seen = look.network.lan
        self._has_slept = self._has_slept or look.has_slept
        self._woken.set()

    def news(self) -> None:
        """What we tell visitors has changed: they shall come again."""
        self._has_news = True
        self._woken.set()

    async def looked(self) -> None:
        """Until whoever is here had the time to say so."""
        await self._looked.wait()

    @property
    def has_providers(self) -> bool:
        return any(s.proven and s.proven.conn for s in self._neighbours.proven)

    # Ways

    def knows(self, provider: Announcement) -> bool:
        """Whether there is a `way`."""
        return self._neighbours.place(provider.id, provider.conn) is not None

    def way(self, provider: Announcement) -> Deliver | None:
        """How an offer reaches this provider over the LAN."""
        place = self._neighbours.place(provider.id, provider.conn)
        if place is None:
            return None
        introducer, id = self._ties.introducer, provider.id

        def receive(sealed: bytes) -> None:
            introducer.receive(id, sealed, deliver, is_lan=True)

        deliver = self._client.call(place, receive)
        return deliver

    def doubt(self, id: PeerId) -> None:
        """It did not answer an offer: see whether it is still there."""
        self._neighbours.doubt(id, asyncio.get_running_loop().time())
        self._woken.set()

    # What people see

    def describe(self) -> dict[str, Any]:
        listening = self._reception.server if self._reception else None
        return {
            "addresses": [
                str(Place(one.host, listening.port)) for one in listening.addresses
            ]
            if listening
            else [],
            "multicast": self._multicast.is_heard
            if self._multicast is not None and listening
            else None,
            "problem": self._problem,
            "heard": len(self._neighbours),
            "proven": len(self._neighbours.proven),
        }

    def doubtful(self) -> list[dict[str, Any]]:
        """Who cannot prove what it claims, or refuses us: shown, and not dialled."""
        names, rows = self._ties.names(), []
        shorts = {short(id): name for id, name in names.items()}
        for spot in self._neighbours:
            if spot.proven is not None or not spot.failures:
                continue
            name = spot.name if spot.is_manual else "?" if spot.claims else None
            problem = spot.problem
            if (
                spot.id is not None
                and spot.id not in names
                and short(spot.id) in shorts
            ):
                name = shorts[short(spot.id)]
                problem = f"its id begins as that of {name}, and is another"
            elif spot.id is not None:
                name = names.get(spot.id, name)
            if name is None or problem is None:
                continue
            rows.append(
                {
                    "id": spot.id,
                    "name": name,
                    "places": [str(place) for place in spot.places],
                    "problem": problem,
                }
            )
        return rows

    # Keeping up with the network

    async def _keep_up(self, now: float) -> None:
        if self._seen is not None:
            seen, self._seen = self._seen, None
            has_slept, self._has_slept = self._has_slept, False
            if seen != self._addresses or self._multicast is None or has_slept:
                await self._move(seen, now)
            else:
                # An IPv6 address is listed a second or two before it can be used.
                await self._listen(seen)
        if self._has_news and self._multicast is not None:
            self._has_news = False
            await self._announce()
        while self._asks and self._asks[0] <= now:
            self._asks.pop(0)
            if self._multicast is not None:
                self._multicast.ask(is_hasty=len(self._asks) == len(ASK_S) - 1)
            if not self._asks:
                self._asks.append(now + ASK_AGAIN_S)

    async def _move(self, addresses: tuple[LanAddress, ...], now: float) -> None:
        """Other addresses than before, or the same after a sleep."""
        is_first = self._multicast is None and not self._addresses
        has_moved, self._addresses = addresses != self._addresses, addresses
        if has_moved and not is_first:
            log.info("on the LAN at %s", ", ".join(a.host for a in addresses) or "none")
        await self._listen(addresses)
        if not addresses:
            self._problem = NO_ADDRESS
            return
        if self._multicast is None:
            await self._begin(addresses)
        else:
            await self._multicast.move(addresses)
        self._has_news = True
        self._asks = [now + after_s for after_s in ASK_S]
        self._neighbours.look_again(now)

    async def _listen(self, addresses: Sequence[LanAddress]) -> None:
        before, self._deaf = self._deaf, None
        try:
            if self._reception is not None:
                await self._reception.server.listen(addresses)
        except MeshError as error:
            self._deaf = str(error)
            if self._deaf != before:
                log.warning("the LAN endpoint: %s", error)

    async def _begin(self, addresses: Sequence[LanAddress]) -> None:
        multicast = Multicast(self._on_hint, self._on_goodbye)
        try:
            await multicast.start(addresses)
        except MeshError as error:
            if self._problem != str(error):
                log.warning("%s Name peers by --peer ADDRESS.", error)
            self._problem = str(error)
            return
        self._multicast, self._problem = multicast, None

    async def _announce(self) -> None:
        """Whoever shares, and owners: they answer cards with memberships."""
        ties = self._ties
        if self._reception is None or self._multicast is None or not self._addresses:
            return
        if (
            ties.card() is not None
            or ties.membership.is_owner(ties.identity.id)
            or self._multicast.is_announced  # until just now: they shall see that
        ):
            port = self._reception.server.port
            await self._multicast.announce(ties.identity.id, port, self._addresses)

    def _on_hint(self, hint: Hint) -> None:
        self._neighbours.heard(hint, asyncio.get_running_loop().time())
        self._woken.set()

    def _on_goodbye(self, name: str) -> None:
        self._neighbours.goodbye(name, asyncio.get_running_loop().time())
        self._woken.set()

    def _on_news(self) -> None:
        self._ties.on_news()
        self.news()

    def _judge_look(self, now: float) -> None:
        took_s = now - self._since
        is_quiet = took_s >= LOOK_S and not self._visits and self._neighbours.proven
        if is_quiet or took_s >= LOOK_MAX_S or not self._addresses:
            self._looked.set()

    def _pause_s(self, now: float) -> float | None:
        times = self._asks[:1]
        if (due := self._neighbours.next_time()) is not None:
            times.append(max(due, now + PAUSE_S))
        if not self._looked.is_set():
            times.append(now + PAUSE_S)
        return max(0.0, min(times) - now) if times else None
