"""Pure: a coturn that relays between peers and reaches nothing else.

The options are those of coturn 4.6 (`man turnserver`); newer ones warn of some that
became their default, and take them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PORT: Final = 3478  # RFC 8656 §18
RELAY_PORTS: Final = (49152, 65535)  # RFC 8656 §7.2
REALM: Final = "meshllm"
NONCE_S: Final = 600
# Whoever may use the relay must not use it to reach what only this machine can.
DENIED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
        *("169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
        "::/96",  # unspecified, loopback, and IPv4 as IPv6 was once to carry it
        # IPv4 within IPv6 again: coturn before 4.9 compared ::ffff:127.0.0.1 only with
        # IPv6 ranges (CVE-2026-27624); then NAT64, Teredo and 6to4.
        *("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
        *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What one relay bears. An allocation is one peer connection's way through it."""

    # A provider has one for each peer it answers, used or not; a browser several.
    allocations_per_person: int = 256
    allocations: int = 2_048  # 64 KiB each, 128 MB: a small VPS
    bytes_per_s: int = 2_500_000  # each; an answer is 0.1 %, its question has pictures


DEFAULT_RELAY_LIMITS: Final = RelayLimits()


@dataclass(frozen=True, slots=True)
class Tls:
    port: int
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Coturn:
    """`host` is how peers find it. `external` is what `relay` is to the outside, where
    a 1:1 NAT stands between. With a `proxy_port` TCP is only taken there, and from a
    proxy that says who speaks (PROXY protocol v2): coturn knows no other way.
    """

    folder: Path
    secret: str
    host: str
    listening: tuple[Address, ...]
    relay: Address
    external: Address | None = None
    port: int = PORT
    tls: Tls | None = None
    proxy_port: int | None = None
    relay_ports: tuple[int, int] = RELAY_PORTS
    limits: RelayLimits = DEFAULT_RELAY_LIMITS

    @property
    def urls(self) -> tuple[str, ...]:
        """For peers, the best way first."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        found = [f"turn:{host}:{self.port}?transport={how}" for how in ("udp", "tcp")]
        if self.tls is not None:
            found.append(f"turns:{host}:{self.tls.port}?transport=tcp")
        return tuple(found)

    @property
    def stun_url(self) -> str:
        return self.urls[0].partition("?")[0].replace("turn:", "stun:", 1)


def coturn_config(coturn: Coturn) -> str:
    """The text of its turnserver.conf."""
    return "".join(f"{line}\n" for line in _lines(coturn))


def _lines(coturn: Coturn) -> Iterator[str]:
    limits, folder = coturn.limits, coturn.folder
    yield "# Written by `meshllm signal`, again at every start. It holds a secret."
    yield from (f"listening-ip={address}" for address in coturn.listening)
    yield f"listening-port={coturn.port}"
    if coturn.proxy_port is not None:
        yield f"tcp-proxy-port={coturn.proxy_port}"
    yield from _tls(coturn.tls)
    yield f"relay-ip={coturn.relay}"
    if coturn.external is not None:
        yield f"external-ip={coturn.external}/{coturn.relay}"
    yield "min-port={}\nmax-port={}".format(*coturn.relay_ports)
    yield f"realm={REALM}"
    yield "use-auth-secret"
    yield f"static-auth-secret={coturn.secret}"
    yield f"stale-nonce={NONCE_S}"
    yield f"user-quota={limits.allocations_per_person}"
    yield f"total-quota={limits.allocations}"
    yield f"max-bps={limits.bytes_per_s}"
    yield "fingerprint"
    # What nobody here needs is off.
    yield "no-tcp-relay\nno-dtls\nno-cli\nno-rfc5780"
    yield "no-stun-backward-compatibility\nno-software-attribute\nno-multicast-peers"
    # Two peers that both come through this relay meet at its own address.
    yield f"allowed-peer-ip={coturn.relay}"
    yield from (f"denied-peer-ip={_first(one)}-{one[-1]}" for one in DENIED)
    yield f"userdb={folder / 'turndb'}"
    yield f"pidfile={folder / 'turnserver.pid'}"
    yield "log-file=stdout"


def _first(network: Network) -> Address:
    """For coturn a range from 0.0.0.0 or :: on holds every address. Those two are
    refused without a range."""
    first = network[0]
    return first + 1 if first.is_unspecified else first


def _tls(tls: Tls | None) -> Iterator[str]:
    if tls is None:
        yield "no-tls"
        return
    yield f"tls-listening-port={tls.port}\ncert={tls.cert}\npkey={tls.key}"
    yield "no-tlsv1\nno-tlsv1_1"
