"""What the coturn will be, before it runs."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from meshllm.errors import ConfigError
from signaling import relay_address
from signaling.coturn_config import Address, Coturn, Tls
from signaling.coturn_plan import RelayOptions, check_ports, plan
from tests.fakes.turn import address_of, bind, stun_answer

LOOPBACK = ipaddress.ip_address("127.0.0.1")
OWN = ipaddress.ip_address("198.51.100.11")
OWN6 = ipaddress.ip_address("2001:db8::11")
INSIDE = ipaddress.ip_address("10.0.0.5")
PUBLIC = RelayOptions(ips=(OWN, OWN6), host="hub.example.org")


async def test_a_public_machine_needs_nothing(tmp_path: Path) -> None:
    coturn = await plan(PUBLIC, tmp_path)
    assert (coturn.relay, coturn.external) == (OWN, None)
    assert coturn.listening == (OWN, OWN6)
    assert coturn.host == "hub.example.org"


async def test_the_addresses_of_the_machine_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Address] = [OWN, OWN6]
    monkeypatch.setattr("signaling.coturn_plan.own_addresses", lambda: found)
    coturn = await plan(RelayOptions(), tmp_path)
    assert (coturn.listening, coturn.host) == ((OWN, OWN6), str(OWN))


async def test_the_secret_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    first = (await plan(PUBLIC, tmp_path)).secret
    kept = tmp_path / "turn.secret"
    assert len(first) == 64
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (await plan(PUBLIC, tmp_path)).secret == first
    kept.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        await plan(PUBLIC, tmp_path)
    assert first not in repr(RelayOptions(secret=first.encode()))


async def test_a_given_secret_is_taken_and_no_other_made(tmp_path: Path) -> None:
    given = replace(PUBLIC, secret=b"given-secret")
    assert (await plan(given, tmp_path)).secret == "given-secret"
    assert not (tmp_path / "turn.secret").exists()


@pytest.mark.parametrize(
    "secret", [b"short", b"two words", b"line\nuser=a:b", b"\xff" * 9]
)
async def test_a_secret_cannot_be_anything_else(tmp_path: Path, secret: bytes) -> None:
    with pytest.raises(ConfigError, match="8 to 256 letters"):
        await plan(replace(PUBLIC, secret=secret), tmp_path)


async def test_behind_a_nat_the_given_address_counts(tmp_path: Path) -> None:
    options = RelayOptions(ips=(INSIDE,), external=OWN)
    coturn = await plan(options, tmp_path)
    assert (coturn.relay, coturn.external, coturn.host) == (INSIDE, OWN, str(OWN))
    same = await plan(RelayOptions(ips=(OWN,), external=OWN), tmp_path)
    assert same.external is None


async def test_behind_a_nat_the_public_name_tells(tmp_path: Path) -> None:
    options = RelayOptions(ips=(INSIDE,), host=str(OWN))
    assert (await plan(options, tmp_path)).external == OWN


@asynccontextmanager
async def stun_server(says: str) -> AsyncIterator[str]:
    """Its URL."""

    def take(data: bytes, sender: tuple[str, int]) -> None:
        found = stun_answer(data[8:20], ipaddress.IPv4Address(says))
        server.transport.sendto(found, sender)

    server = await bind(take)
    yield f"stun:127.0.0.1:{address_of(server)[1]}"
    server.transport.close()


async def test_behind_a_nat_a_stun_server_tells_before_the_name(tmp_path: Path) -> None:
    async with stun_server("198.51.100.7") as url:
        options = RelayOptions(ips=(LOOPBACK,), host=str(OWN), stun=(url,))
        found = (await plan(options, tmp_path)).external
    assert str(found) == "198.51.100.7"


async def test_a_stun_server_that_is_inside_too_tells_nothing(tmp_path: Path) -> None:
    async with stun_server("10.0.0.9") as url:
        options = RelayOptions(ips=(LOOPBACK,), host=str(OWN), stun=(url,))
        assert (await plan(options, tmp_path)).external == OWN


async def test_behind_a_nat_somebody_must_say_the_address(tmp_path: Path) -> None:
    for host in (None, "10.0.0.5", "localhost"):
        with pytest.raises(ConfigError, match="add --external-ip IP"):
            await plan(RelayOptions(ips=(INSIDE,), host=host), tmp_path)


async def test_a_machine_without_a_network_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_address, "ELSEWHERE", {socket.AF_INET: "127.0.0.1"})
    with pytest.raises(ConfigError, match="--turn-ip"):
        await plan(RelayOptions(), tmp_path)


async def test_a_proxy_speaks_to_it_over_loopback(tmp_path: Path) -> None:
    coturn = await plan(replace(PUBLIC, proxy_port=3480), tmp_path)
    assert coturn.listening == (OWN, OWN6, LOOPBACK)
    ipv6 = await plan(replace(PUBLIC, ips=(OWN6,), proxy_port=3480), tmp_path)
    assert [str(address) for address in ipv6.listening] == ["2001:db8::11", "::1"]


# Ports


@contextmanager
def taken(kind: socket.SocketKind) -> Iterator[int]:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        yield other.getsockname()[1]


def coturn_at(home: Path, port: int) -> Coturn:
    return Coturn(home, "s" * 8, "h", (LOOPBACK,), LOOPBACK, port=port)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_taken_port_is_said_with_a_way_out(
    tmp_path: Path, kind: socket.SocketKind
) -> None:
    with taken(kind) as port, pytest.raises(ConfigError) as refusal:
        check_ports(coturn_at(tmp_path, port))
    assert str(refusal.value) == (
        f"Port {port} of 127.0.0.1 is in use, perhaps by a coturn that the system"
        " started (`systemctl disable --now coturn`). Free it, or give another with"
        " --turn-port."
    )


def test_each_port_is_looked_at(tmp_path: Path) -> None:
    coturn = coturn_at(tmp_path, 0)
    with taken(socket.SOCK_STREAM) as port:
        for more, option in (
            (replace(coturn, tls=Tls(port, tmp_path, tmp_path)), "--turn-tls-port"),
            (replace(coturn, proxy_port=port), "--turn-proxy-port"),
        ):
            with pytest.raises(ConfigError, match=option):
                check_ports(more)
    check_ports(coturn)


def test_an_address_of_another_machine_is_said(tmp_path: Path) -> None:
    far = ipaddress.ip_address("192.0.2.1")
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 is no address .* --turn-ip"):
        check_ports(replace(coturn_at(tmp_path, 0), listening=(far,)))


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EACCES, "CAP_NET_BIND_SERVICE"), (errno.ENOBUFS, "cannot listen on")],
)
def test_what_else_is_in_the_way_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    class Refusing(socket.socket):
        def bind(self, _: object) -> None:
            raise OSError(number, "refused")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(ConfigError, match=said):
        check_ports(coturn_at(tmp_path, 443))
