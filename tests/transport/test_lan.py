"""What is heard on the LAN, where we are there, and how offers travel over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from nacl.public import PrivateKey
from zeroconf import ServiceInfo
from zeroconf._dns import DNSAddress, DNSPointer, DNSRecord, DNSText

from meshllm.errors import PeerUnreachable, TrustError
from meshllm.identity import Identity
from meshllm.transport.addresses import LanAddress, choose_lan, is_lan
from meshllm.transport.lan import (
    SERVICE,
    TEXT_MAX,
    Hint,
    Multicast,
    read_hint,
    read_instance,
)
from meshllm.transport.lan_client import CARD, SIGNAL, LanClient, Place
from meshllm.transport.lan_server import LanServer, read_body
from tests.fakes.people import id_of, key

ANN = id_of("ann")
GOOD = {"v": "1", "id": ANN, "port": "4711", "r": "0a0b0c0d"}
HERE = LanAddress("127.0.0.1", 8, "lo")


def heard(
    said: dict[str, str] | bytes = GOOD,
    name: str = "one",
    port: int = 4711,
    *hosts: str,
) -> Hint | None:
    info = ServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=port,
        parsed_addresses=list(hosts or ("10.0.0.5",)),
        properties=said,
    )
    return read_hint(name, info)


def test_an_announcement_is_read() -> None:
    hint = heard(GOOD, "one", 4711, "10.0.0.5", "fd00::5")
    assert hint == Hint("one", ANN, ("10.0.0.5", "fd00::5"), 4711, "0a0b0c0d")


@pytest.mark.parametrize(
    "changed",
    [
        {"v": "2"},
        {"id": ANN[:-1]},
        {"id": ANN.upper()},
        {"id": ""},
        {"port": "4712"},
        {"port": "x"},
        {"r": ""},
        {"r": "\x1b[31m"},
        {"r": "x" * 64},
    ],
)
def test_what_is_not_exactly_one_is_dropped(changed: dict[str, str]) -> None:
    assert heard(GOOD | changed) is None


def test_what_lacks_something_is_dropped() -> None:
    for missing in GOOD:
        assert heard({k: v for k, v in GOOD.items() if k != missing}) is None


def test_a_large_one_is_dropped_unread() -> None:
    more = {f"x{at}": "x" * 100 for at in range(0, TEXT_MAX, 100)}
    assert heard(GOOD | more) is None
    assert heard(b"\xff" + b"x" * 10) is None  # a length beyond the end


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (DNSPointer(SERVICE, 12, 1, 120, f"one.{SERVICE}"), "one"),
        (DNSText(f"one.{SERVICE}", 16, 1, 120, b""), "one"),
        (DNSPointer(SERVICE, 12, 1, 120, f"a bell \x07.{SERVICE}"), None),
        (DNSPointer(SERVICE, 12, 1, 120, f"one.two.{SERVICE}"), None),
        (DNSPointer(SERVICE, 12, 1, 120, f".{SERVICE}"), None),
        (DNSPointer(SERVICE, 12, 1, 120, SERVICE), None),
        (DNSPointer("_ipp._tcp.local.", 12, 1, 120, f"one.{SERVICE}"), None),
        (DNSText("one._ipp._tcp.local.", 16, 1, 120, b""), None),
        (DNSAddress("one.local.", 1, 1, 120, bytes(4)), None),
    ],
)
def test_only_instances_with_names_like_ours_are_looked_at(
    record: DNSRecord, expected: str | None
) -> None:
    assert read_instance(record) == expected


def test_addresses_of_nowhere_are_dropped() -> None:
    assert heard(GOOD, "one", 4711, "fe80::1") is None  # of which interface?
    assert heard(GOOD, "one", 0) is None


async def test_without_an_interface_nothing_is_said() -> None:
    multicast = Multicast(lambda hint: None, lambda name: None)
    multicast.ask()
    await multicast.announce(ANN, 1, [])
    await multicast.move([HERE])
    await multicast.stop()
    assert not multicast.is_announced


def test_the_lan_is_where_nobody_on_the_internet_is() -> None:
    found = [
        LanAddress("192.168.1.5", 24, "eth0"),
        LanAddress("203.0.113.5", 24, "eth0"),
        LanAddress("2001:db8::5", 64, "eth0"),
        LanAddress("fe80::5", 64, "eth0", 2),
        LanAddress("172.17.0.1", 16, "docker0"),
        LanAddress("127.0.0.1", 8, "lo"),
    ]
    chosen = choose_lan(found, is_forced=False)
    assert [one.host for one in chosen] == ["192.168.1.5", "fe80::5"]
    wide = choose_lan(found, is_forced=False, named=["docker0"])
    assert [one.host for one in wide] == ["172.17.0.1", "192.168.1.5", "fe80::5"]
    assert choose_lan(found[4:], is_forced=False) == (found[4],)
    assert choose_lan(found, is_forced=True) == (found[5],)
    assert choose_lan(found[5:], is_forced=False) == ()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("10.1.2.3", True), ("100.64.0.1", True), ("169.254.0.1", True)),
        *(("fe80::1%eth0", True), ("fd77::1", True), ("::ffff:10.0.0.1", False)),
        *(("8.8.8.8", False), ("127.0.0.1", False), ("2001:db8::1", False)),
        *(("gpu.local", False), ("", False)),
    ],
)
def test_which_addresses_are_of_a_lan(host: str, expected: bool) -> None:
    assert is_lan(host) is expected


class Endpoint:
    """One that answers an offer with what a test says, piece by piece."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue()
        self.say: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.card = web.Response(text="no contact")
        self.server = LanServer({f"POST {SIGNAL}": self._signal, f"GET {CARD}": self._})

    async def _(self, _: web.Request) -> web.Response:
        return self.card

    async def _signal(self, request: web.Request) -> web.StreamResponse:
        is_first = self.got.empty()
        self.got.put_nowait(await read_body(request, 12_288))
        if not is_first:
            return web.Response(status=204)
        response = web.StreamResponse()
        await response.prepare(request)
        while (data := await self.say.get()) is not None:
            await response.write(data)
        return response

    @property
    def place(self) -> Place:
        return Place("127.0.0.1", self.server.port)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    await endpoint.server.listen([HERE])
    yield endpoint
    await endpoint.server.stop()


@pytest.fixture
async def client() -> AsyncIterator[LanClient]:
    client = LanClient(Identity(key("ben"), PrivateKey(b"b" * 32)))
    yield client
    await client.close()


async def test_envelopes_trickle_both_ways_over_one_sides_endpoint(
    endpoint: Endpoint, client: LanClient
) -> None:
    came: asyncio.Queue[bytes] = asyncio.Queue()
    deliver = client.call(endpoint.place, came.put_nowait)
    await deliver(ANN, None, b"offer")
    endpoint.say.put_nowait(b"\0\6answ")
    endpoint.say.put_nowait(b"er\0\4more")
    assert (await came.get(), await came.get()) == (b"answer", b"more")
    await deliver(ANN, None, b"candidates")
    await deliver(ANN, None, b"the last ones")
    endpoint.say.put_nowait(b"\0\3end")
    assert await came.get() == b"end"
    endpoint.say.put_nowait(None)
    got = [endpoint.got.get_nowait() for _ in "abc"]
    assert got == [b"offer", b"candidates", b"the last ones"]


async def test_an_answer_that_is_too_large_ends_it(
    endpoint: Endpoint, client: LanClient
) -> None:
    came: list[bytes] = []
    await client.call(endpoint.place, came.append)(ANN, None, b"offer")
    endpoint.say.put_nowait(b"\xff\xff" + bytes(65_535))
    while client._reading:
        await asyncio.sleep(0.01)
    assert came == []
    endpoint.say.put_nowait(None)


async def test_who_does_not_answer_as_a_node_is_none(
    endpoint: Endpoint, client: LanClient
) -> None:
    with pytest.raises(TrustError):
        await client.contact(endpoint.place)
    endpoint.card = web.Response(body=bytes(2_000))
    with pytest.raises(PeerUnreachable, match="more than is allowed"):
        await client.contact(endpoint.place)
    endpoint.card = web.Response(status=302, headers={"Location": "http://10.0.0.1/"})
    with pytest.raises(PeerUnreachable, match="it answered 302"):
        await client.contact(endpoint.place)
    with pytest.raises(PeerUnreachable, match=r"Nobody answers at 127\.0\.0\.1:9:"):
        await client.contact(Place("127.0.0.1", 9))
    with pytest.raises(PeerUnreachable, match=r"Nobody answers at \[::g\]:9"):
        await client.contact(Place("::g", 9))
    while endpoint.server.allowances.take("127.0.0.1", 0):
        pass
    with pytest.raises(PeerUnreachable, match="too often"):
        for _ in range(20):
            endpoint.card = web.Response(text=await _contact())
            await client.contact(endpoint.place)


async def _contact() -> str:
    from meshllm.protocol.visit import Contact

    return Contact.of(ANN, b"b" * 32, b"s" * 16, id_of("root")).sign(key("ann"))
