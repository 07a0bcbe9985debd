"""What to tell a person whose port is taken: by whom, and what to type instead."""

from __future__ import annotations

import errno
import json
import socket
from contextlib import closing
from ipaddress import ip_address

import aiohttp

from meshllm.errors import ConfigError

PROBE_S = 1.0  # whoever answers on this machine answers sooner
PROBE_BYTES = 1024
PORTS_TRIED = 100


async def cannot_listen(
    host: str, port: int, error: OSError, *, has_key: bool = False
) -> ConfigError:
    """The error of a bind as a sentence that says what to do. `has_key`: programs must
    send one, which `ollama` itself never does."""
    match error.errno:
        case errno.EADDRINUSE:
            return await _taken(host, port, has_key=has_key)
        case errno.EACCES:
            return ConfigError(
                f"Port {port} is reserved by the system. Choose one above 1023 with "
                "`--port`."
            )
        case errno.EADDRNOTAVAIL:
            return ConfigError(
                f"This machine has no address {host}. Choose one of its own, or "
                "127.0.0.1, with `--host`."
            )
    return ConfigError(
        f"The gateway cannot listen on {address(host, port)}: "
        f"{error.strerror or error}. Choose others with `--host` and `--port`."
    )


async def _taken(host: str, port: int, *, has_key: bool) -> ConfigError:
    here = reachable(host)
    who = await _who_answers(here, port)
    free = _free_port(host, port)
    if free is None:
        return ConfigError(f"Port {port} is in use{who}, and so are the next ones.")
    then = "" if has_key else f", then `OLLAMA_HOST={address(here, free)}`"
    return ConfigError(
        f"Port {port} is in use{who}. Try `meshllm gateway --port {free}`{then}."
    )


async def _who_answers(host: str, port: int) -> str:
    """` (WHO answers there)`, or nothing when we cannot tell."""
    base = f"http://{address(host, port)}"
    timeout = aiohttp.ClientTimeout(total=PROBE_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client:
            url = f"{base}/api/version"
            async with client.get(url, allow_redirects=False) as response:
                if response.headers.get("Server") == "meshllm":
                    return " (another meshllm answers there)"
                version = json.loads(await response.content.read(PROBE_BYTES))
            async with client.get(base, allow_redirects=False) as response:
                text = await response.content.read(PROBE_BYTES)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return ""
    is_ollama = isinstance(version, dict) and "version" in version
    if is_ollama and text.strip() == b"Ollama is running":
        return " (Ollama answers there)"
    return ""


def _free_port(host: str, taken: int) -> int | None:
    for port in range(taken + 1, min(taken + PORTS_TRIED, 65_536)):
        if _can_listen(host, port):
            return port
    return None


def _can_listen(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def reachable(host: str) -> str:
    """Where a program of this machine finds what listens on `host`."""
    if not host:
        return "127.0.0.1"
    try:
        listening = ip_address(host)
    except ValueError:
        return host
    if not listening.is_unspecified:
        return host
    return "127.0.0.1" if listening.version == 4 else "::1"


def address(host: str, port: int) -> str:
    """`host:port`, with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
