"""STUN and TURN servers: their URLs, and when each is asked."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s\[\]:?]+))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?transport=(?P<transport>udp|tcp))?"
)
PORT, TLS_PORT = 3478, 5349
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class IceServer:
    """STUN and TURN servers (RFC 7064, RFC 7065) that share one credential."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    scheme: str
    address: tuple[str, int]
    transport: str
    username: str | None
    credential: str | None = field(repr=False)

    @property
    def is_relay(self) -> bool:
        return self.scheme in ("turn", "turns")

    @property
    def over(self) -> str:
        """`udp`, `tcp` or `tls`: what must pass on the way to it."""
        return "tls" if self.scheme == "turns" else self.transport

    @property
    def url(self) -> str:
        host, port = self.address
        name = f"[{host}]" if ":" in host else host
        query = f"?transport={self.transport}" if self.is_relay else ""
        return f"{self.scheme}:{name}:{port}{query}"


def read_servers(servers: Sequence[IceServer]) -> list[Server]:
    """Those we can use. One bad URL shall not take the other paths away."""
    urls = [(url, server) for server in servers for url in server.urls]
    return [found for one in urls if (found := read_url(*one)) is not None]


def read_url(url: str, of: IceServer) -> Server | None:
    """None, and a line in the log, for one that we cannot use."""
    try:
        found = _read(url, of)
    except ValueError:
        log.warning("%r is not a STUN or TURN URL; it is not used", url)
        return None
    if why := _useless(found):
        log.debug("%s is not used: %s", url, why)
        return None
    return found


def _read(url: str, of: IceServer) -> Server:
    """ValueError when it is none. An IPv6 address stands in brackets (RFC 3986)."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(url)
    scheme, transport = match["scheme"], match["transport"]
    is_tls = scheme.endswith("s")
    host = match["host"] or str(ipaddress.IPv6Address(match["v6"]))
    port = int(match["port"] or (TLS_PORT if is_tls else PORT))
    if port > PORT_MAX or (transport and scheme.startswith("stun")):
        raise ValueError(url)
    transport = transport or ("tcp" if is_tls else "udp")
    return Server(scheme, (host, port), transport, of.username, of.credential)


def _useless(server: Server) -> str | None:
    """Why we do not ask it. Browsers use what we do not, and the other way round."""
    if server.scheme == "stuns":
        return "no TLS to STUN servers here"
    if server.over == "tls" and server.transport == "udp":
        return "no DTLS to relays here"
    if server.scheme == "stun" and ":" in server.address[0]:
        # Browsers do need it: they hide what we offer as a host candidate.
        return "our own IPv6 addresses are known without it"
    return None
