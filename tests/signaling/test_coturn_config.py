"""The configuration: what it lets through is tried on a real coturn in tests/natlab."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from signaling.coturn_config import Address, Coturn, Tls, coturn_config

OWN = ipaddress.ip_address("198.51.100.11")
BASE = Coturn(
    folder=Path("/home/hub/coturn"),
    secret="s" * 64,
    host="turn.example.org",
    listening=(OWN, ipaddress.ip_address("2001:db8::11")),
    relay=OWN,
)


def values(coturn: Coturn) -> dict[str, list[str]]:
    """By option; one without a value has []."""
    found: dict[str, list[str]] = {}
    for line in coturn_config(coturn).splitlines():
        if not line.startswith("#"):
            name, has_value, value = line.partition("=")
            found.setdefault(name, []).extend([value] if has_value else [])
    return found


def test_peers_are_told_every_way_and_the_best_first() -> None:
    assert BASE.stun_url == "stun:turn.example.org:3478"
    assert BASE.urls == (
        "turn:turn.example.org:3478?transport=udp",
        "turn:turn.example.org:3478?transport=tcp",
    )
    tls = Tls(443, Path("/c.pem"), Path("/k.pem"))
    named = replace(BASE, host="2001:db8::11", port=3500, tls=tls)
    assert named.stun_url == "stun:[2001:db8::11]:3500"
    assert named.urls[2] == "turns:[2001:db8::11]:443?transport=tcp"


def test_only_who_has_a_credential_of_the_secret_is_served() -> None:
    found = values(BASE)
    assert found["use-auth-secret"] == []
    assert found["static-auth-secret"] == ["s" * 64]
    assert not found.keys() & {
        "no-auth",
        "user",
        "lt-cred-mech",
        "allow-loopback-peers",
    }


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254"),
        *("172.31.0.1", "192.168.0.1", "224.0.0.1", "255.255.255.255", "::1"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a00:1", "fd00::1", "fe80::1"),
    ],
)
def test_what_is_inside_is_denied(address: str) -> None:
    assert any(_holds(one, address) for one in values(BASE)["denied-peer-ip"])


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "203.0.113.1", "2001:db8::1", "2606::1"]
)
def test_what_is_outside_is_not(address: str) -> None:
    assert not any(_holds(one, address) for one in values(BASE)["denied-peer-ip"])


def test_no_range_begins_where_coturn_takes_it_for_everything() -> None:
    starts = {one.partition("-")[0] for one in values(BASE)["denied-peer-ip"]}
    assert not starts & {"0.0.0.0", "::"}


def test_behind_a_nat_both_addresses_are_known() -> None:
    inside = ipaddress.ip_address("10.0.0.5")
    found = values(replace(BASE, listening=(inside,), relay=inside, external=OWN))
    assert found["external-ip"] == ["198.51.100.11/10.0.0.5"]
    assert found["allowed-peer-ip"] == found["relay-ip"] == ["10.0.0.5"]
    assert "external-ip" not in values(BASE)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert values(BASE)["no-tls"] == []
    tls = Tls(5349, Path("/c.pem"), Path("/k.pem"))
    found = values(replace(BASE, tls=tls))
    assert "no-tls" not in found
    assert (found["tls-listening-port"], found["cert"], found["pkey"]) == (
        ["5349"],
        ["/c.pem"],
        ["/k.pem"],
    )


def test_ports_are_as_asked() -> None:
    found = values(replace(BASE, port=3500, proxy_port=3501, relay_ports=(5000, 5100)))
    ports = ("listening-port", "tcp-proxy-port", "min-port", "max-port")
    assert [found[name] for name in ports] == [["3500"], ["3501"], ["5000"], ["5100"]]
    assert "tcp-proxy-port" not in values(BASE)


def test_coturn_knows_every_option() -> None:
    """It passes over those it does not know, with a line in its log."""
    if (command := shutil.which("turnserver")) is None:
        pytest.skip("needs coturn")
    said = subprocess.run([command, "-h"], capture_output=True, text=True)
    options = values(replace(BASE, proxy_port=1, external=OWN)).keys()
    tls = values(replace(BASE, tls=Tls(1, Path("/c"), Path("/k")))).keys()
    known = said.stdout + said.stderr
    assert [name for name in options | tls if f"--{name}" not in known] == []


def _holds(text: str, address: str) -> bool:
    first, _, last = text.partition("-")
    lowest, highest = ipaddress.ip_address(first), ipaddress.ip_address(last)
    asked: Address = ipaddress.ip_address(address)
    if asked.version != lowest.version:
        return False
    return int(lowest) <= int(asked) <= int(highest)
