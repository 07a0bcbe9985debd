"""Who may ask: names, addresses, origins and keys of a request, checked in that order.

A web page anywhere can make its reader's browser send requests to this port. It cannot
forge Host (a rebound name shows), nor Origin and Sec-Fetch-Site (a foreign page shows).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from meshllm.dialects import BadRequest
from meshllm.gateway.options import Options

LOCAL_SUFFIXES = (".local", ".localhost", ".internal")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1"})  # noqa: S104
# Desktop applications, which Ollama lets in too; no web page can have such an origin.
APP_SCHEMES = frozenset({"app", "file", "tauri", "vscode-webview", "vscode-file"})
# Say nothing about the mesh, and are asked by probes that know no key.
OPEN_PATHS = frozenset({"/", "/health", "/ready"})
PREFLIGHT_CACHE_S = 600
HEADER_NAMES = re.compile(r"[\w-]+( *, *[\w-]+)*", re.ASCII)


def check_host(values: list[str], options: Options, own_names: frozenset[str]) -> None:
    """Raises BadRequest (403) for a Host header that names somebody else."""
    if not values:  # HTTP/1.0: no browser
        return
    if len(values) == 1:
        name = host_name(values[0])
        if name in own_names or name in options.allow_hosts or _is_local_name(name):
            return
    raise BadRequest(
        f"This gateway is not called {_shown(' '.join(values))}. If that is its name, "
        "start it with `--allow-host NAME`.",
        403,
    )


@lru_cache(maxsize=64)  # programs ask under one name, over and over
def host_name(value: str) -> str:
    """The name in a Host header: lower case, without port, brackets and last dot."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.rpartition(":")[0].rstrip(".") if ":" in value else value.rstrip(".")


def _shown(value: str) -> str:
    """A stranger's header as it may stand in a sentence: short and printable."""
    return value[:100].encode("ascii", "backslashreplace").decode()


@lru_cache(maxsize=64)
def _is_local_name(name: str) -> bool:
    if name == "localhost" or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def check_address(peer: str | None, options: Options) -> None:
    """Raises BadRequest (403) when `--allow-from` leaves the peer's address out.

    This machine itself is never left out: its programs are why the gateway runs.
    """
    if not options.allow_from:
        return
    if peer is None:
        raise BadRequest("The address of this connection is not known any more.", 403)
    address = ip_address(peer.partition("%")[0])  # without the zone of fe80::
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or any(address in net for net in options.allow_from):
        return
    raise BadRequest(
        f"{address} may not use this gateway. Start it with `--allow-from {address}` "
        "to let it.",
        403,
    )


def check_origin(headers: Mapping[str, str], path: str, options: Options) -> str | None:
    """The origin whose page may read the answer; None when no page asks.

    Raises BadRequest (403) for pages of other sites.
    """
    origin = headers.get("Origin")
    if origin is None:
        if headers.get("Sec-Fetch-Site", "").lower() != "cross-site":
            return None
        if path == "/" and headers.get("Sec-Fetch-Dest", "").lower() == "document":
            return None  # somebody followed a link to us
        raise BadRequest("Other sites' pages may not use this gateway.", 403)
    if _is_allowed_origin(origin.lower(), headers.get("Host", "").lower(), options):
        return origin
    raise BadRequest(
        f"Pages of {_shown(origin)} may not use this gateway. Start it with "
        "`--origin ORIGIN` to let one.",
        403,
    )


def _is_allowed_origin(origin: str, host: str, options: Options) -> bool:
    if origin in options.origins:
        return True
    try:
        parts = urlsplit(origin)
        name = parts.hostname
    except ValueError:
        return False
    if not origin.isascii() or name is None:
        return False
    if parts.scheme in APP_SCHEMES:
        return True
    if parts.scheme not in ("http", "https"):
        return False
    return name in LOOPBACK_NAMES or name.endswith(".localhost") or parts.netloc == host


def preflight(headers: Mapping[str, str]) -> dict[str, str]:
    """What a browser wants to know before it sends a page's request on."""
    wanted = headers.get("Access-Control-Request-Headers", "")
    if HEADER_NAMES.fullmatch(wanted) is None:
        wanted = "Authorization, Content-Type"
    return {
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Allow-Headers": wanted,
        "Access-Control-Max-Age": str(PREFLIGHT_CACHE_S),
    }


def has_key(headers: Mapping[str, str], api_key: str | None) -> bool:
    """True when no key is needed, or the request carries it."""
    if api_key is None:
        return True
    scheme, _, bearer = headers.get("Authorization", "").partition(" ")
    given = [headers.get("x-api-key", "")]
    if scheme.lower() == "bearer":
        given.append(bearer.strip())
    expected = api_key.encode()
    return any(
        hmac.compare_digest(key.encode("utf-8", "surrogateescape"), expected)
        for key in given
    )
