"""Multicast DNS (RFC 6762, 6763): says that we are here, hears who else says so.

All that knows zeroconf. What is heard is a hint from anybody on the LAN: its form is
checked here, and nobody believes it (docs/protocol.md §11).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from zeroconf import (  # type: ignore[attr-defined]  # not all is in its __all__
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSRecord,
    DNSService,
    DNSText,
    Error,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
)
from zeroconf.asyncio import AsyncZeroconf

from meshllm.errors import MeshError
from meshllm.transport.addresses import LanAddress
from meshllm.trust.keys import PeerId, read_peer_id

log = logging.getLogger(__name__)

SERVICE: Final = "_meshllm._tcp.local."
VERSION: Final = "1"
PROBE_PORT: Final = 9  # "discard": nothing is there
TTL_S: Final = 120
TEXT_MAX: Final = 256  # bytes of a TXT record; ours has some 90
HOSTS_MAX: Final = 8
NAMES_PER_PACKET: Final = 32
# zeroconf keeps up to 10,000 records of whoever; we need none for longer than a packet.
RECORDS_MAX: Final = 1_000
ASK_S: Final = (0.0, 0.1, 0.5, 1.5)  # after a start; answers come 20-120 ms later
# Class IN, type PTR; the flags of a query (RFC 1035 §3.2, §4.1.1).
_PTR, _SRV, _TXT, _IN, _QUERY = 12, 33, 16, 1, 0
_NAME = re.compile(r"[A-Za-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody says that `id` is at `port` of one of `hosts`. `salt` changes when there
    is news to fetch."""

    name: str
    id: PeerId
    hosts: tuple[str, ...]
    port: int
    salt: str


class Multicast:
    """`on_hint` gets each announcement as often as it is heard, `on_goodbye` the name
    of one that says it ends."""

    def __init__(
        self, on_hint: Callable[[Hint], None], on_goodbye: Callable[[str], None]
    ) -> None:
        self._on_hint = on_hint
        self._on_goodbye = on_goodbye
        self.name = f"meshllm-{secrets.token_hex(6)}"
        self.is_heard = False  # our own announcement came back: multicast works here
        self._zeroconf: AsyncZeroconf | None = None
        self._listener: _Listener | None = None
        self._info: ServiceInfo | None = None
        self._sending: set[asyncio.Future[None]] = set()

    @property
    def is_announced(self) -> bool:
        return self._info is not None

    async def start(self, addresses: Sequence[LanAddress]) -> None:
        """MeshError, with why, where multicast cannot be used at all."""
        try:
            self._zeroconf = _open(addresses)
            await self._zeroconf.zeroconf.async_wait_for_start()
        except (OSError, RuntimeError, Error) as error:
            await self.stop()
            raise MeshError(f"Multicast DNS cannot be used here: {error}.") from error
        self._listener = _Listener(self)
        self._zeroconf.zeroconf.async_add_listener(self._listener, None)

    async def move(self, addresses: Sequence[LanAddress]) -> None:
        """This machine has other addresses now."""
        if self._zeroconf is None:
            return
        with _logged("the interfaces of multicast did not change"):
            await self._zeroconf.async_update_interfaces(_interfaces(addresses))

    def ask(self, *, is_hasty: bool = False) -> None:
        """Who is there? `is_hasty`: they may answer us alone, at once (RFC 6762 §5.4).

        That answer may be lost where several processes listen on one machine; what all
        can hear is not said twice in a second, so it may be late.
        """
        question = DNSQuestion(SERVICE, _PTR, _IN)
        question.unicast = is_hasty
        self._send([question])

    async def announce(
        self, id: PeerId, port: int, addresses: Sequence[LanAddress]
    ) -> None:
        """From now on, or anew: whoever hears it sees that there is news."""
        said = {"v": VERSION, "id": id, "port": str(port), "r": secrets.token_hex(4)}
        await self._say(said, port, addresses)

    async def probe(self, addresses: Sequence[LanAddress]) -> None:
        """Only to hear it ourselves: nobody takes it for a node."""
        await self._say({"v": "0"}, PROBE_PORT, addresses)

    async def _say(
        self, said: Mapping[str, str], port: int, addresses: Sequence[LanAddress]
    ) -> None:
        if self._zeroconf is None:
            return
        info = ServiceInfo(
            SERVICE,
            f"{self.name}.{SERVICE}",
            port=port,
            parsed_addresses=[one.host for one in addresses[:HOSTS_MAX]],
            properties=dict(said),
            server=f"{self.name}.local.",
            host_ttl=TTL_S,
            other_ttl=TTL_S,
        )
        with _logged("the announcement on the LAN failed"):
            if self._info is None:
                # The name is random: nobody has to be asked whether it is taken.
                sending = await self._zeroconf.async_register_service(
                    info, cooperating_responders=True
                )
            else:
                sending = await self._zeroconf.async_update_service(info)
            self._info = info
            repeats = asyncio.ensure_future(sending)  # three times, in 0.5 s
            self._sending.add(repeats)
            repeats.add_done_callback(self._sent)

    async def stop(self) -> None:
        """Says goodbye."""
        for sending in self._sending:
            sending.cancel()
        if self._zeroconf is None:
            return
        with _logged("multicast did not end in order"):
            await self._zeroconf.async_close()
        self._zeroconf = None

    def _sent(self, sending: asyncio.Future[None]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            log.debug("the announcement on the LAN failed: %s", error)

    def _send(self, questions: Iterable[DNSQuestion]) -> None:
        if self._zeroconf is None:
            return
        query = DNSOutgoing(_QUERY)
        for question in questions:
            query.add_question(question)
        with _logged("a question on the LAN failed"):
            self._zeroconf.zeroconf.async_send(query)

    # What was heard

    def take(self, zeroconf: Zeroconf, names: Iterable[str]) -> None:
        """These instances were in a packet; the cache has all that it said of them."""
        for instance in names:
            if instance == self.name:
                self.is_heard = True
                continue
            name = f"{instance}.{SERVICE}"
            info = ServiceInfo(SERVICE, name)
            if not info.load_from_cache(zeroconf):
                # Others' responders may leave parts out: then they come when asked.
                self._send(DNSQuestion(name, kind, _IN) for kind in (_SRV, _TXT))
            elif (hint := read_hint(instance, info)) is not None:
                self._on_hint(hint)

    def goodbye(self, name: str) -> None:
        self._on_goodbye(name)


class _Listener(RecordUpdateListener):
    """Gathers the names of a packet, and keeps zeroconf's memory small."""

    def __init__(self, multicast: Multicast) -> None:
        self._multicast = multicast
        self._zeroconf: Zeroconf | None = None
        self._heard: dict[str, None] = {}
        self._left: dict[str, None] = {}
        self._records = 0

    def async_update_records(
        self, zc: Zeroconf, now: float, records: list[RecordUpdate]
    ) -> None:
        self._zeroconf = zc
        self._records += len(records)
        for update in records:
            name = read_instance(update.new)
            is_end = update.new.is_expired(now)
            if name is None or (is_end and not isinstance(update.new, DNSPointer)):
                continue
            names = self._left if is_end else self._heard
            if len(names) < NAMES_PER_PACKET:
                names[name] = None

    def async_update_records_complete(self) -> None:
        heard, self._heard = self._heard, {}
        left, self._left = self._left, {}
        if self._zeroconf is None:
            return
        self._multicast.take(
            self._zeroconf, (name for name in heard if name not in left)
        )
        for name in left:
            self._multicast.goodbye(name)
        if self._records > RECORDS_MAX:
            self._records = 0
            cache = self._zeroconf.cache
            for name in cache.names():
                cache.async_remove_records(cache.entries_with_name(name))


def read_hint(instance: str, info: ServiceInfo) -> Hint | None:
    """None for whatever is not exactly an announcement of ours."""
    text = info.text or b""
    if len(text) > TEXT_MAX:
        return None
    said = info.decoded_properties
    port, salt = said.get("port"), said.get("r")
    if said.get("v") != VERSION or port != str(info.port) or not info.port:
        return None
    if salt is None or not _NAME.fullmatch(salt):
        return None
    try:
        id = read_peer_id(said.get("id"))
    except MeshError:
        return None
    hosts = tuple(
        host
        for host in info.parsed_scoped_addresses()
        # A link-local address without its interface leads nowhere.
        if not host.lower().startswith("fe80:") or "%" in host
    )
    return Hint(instance, id, hosts[:HOSTS_MAX], info.port, salt) if hosts else None


def read_instance(record: DNSRecord) -> str | None:
    """The instance that a record is about, if it has a name as ours have."""
    if isinstance(record, DNSPointer):
        name = record.alias if record.name.lower() == SERVICE else ""
    elif isinstance(record, DNSService | DNSText):
        name = record.name
    else:
        return None
    instance, dot, service = name.partition(".")
    is_ours = dot and service == SERVICE and _NAME.fullmatch(instance)
    return instance if is_ours else None


def _open(addresses: Sequence[LanAddress]) -> AsyncZeroconf:
    try:
        return AsyncZeroconf(interfaces=_interfaces(addresses))
    except OSError:  # IPv6 that is half switched off, say
        return AsyncZeroconf(
            interfaces=[a.host for a in addresses if ":" not in a.host]
        )


def _interfaces(addresses: Sequence[LanAddress]) -> list[str | int]:
    """IPv4 by address, IPv6 by the number of the interface."""
    v4 = [one.host for one in addresses if ":" not in one.host]
    return [*v4, *sorted({one.scope for one in addresses if one.scope})]


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """The LAN is never a reason to stop."""
    try:
        yield
    except (OSError, RuntimeError, Error) as error:
        log.warning("%s: %s", what, error)
