"""What the coturn beside a signaling server will be: addresses, secret and ports."""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshllm.errors import ConfigError
from meshllm.store import read_secret, write_new
from signaling.coturn_config import PORT, RELAY_PORTS, Address, Coturn, Tls
from signaling.relay_address import external_address, own_addresses

FOLDER: Final = "coturn"
KEPT_SECRET: Final = "turn.secret"  # noqa: S105 the name of a file
SECRET_MAX: Final = 256
# The configuration takes these as they are.
_SECRET: Final = re.compile(r"[A-Za-z0-9_+/=.~-]{8,256}")


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Of `meshllm signal --coturn`. What is None or empty is found at the start."""

    host: str | None = None
    ips: tuple[Address, ...] = ()
    external: Address | None = None
    port: int = PORT
    tls: Tls | None = None
    proxy_port: int | None = None
    relay_ports: tuple[int, int] = RELAY_PORTS
    secret: bytes | None = field(default=None, repr=False)
    stun: tuple[str, ...] = ()


async def plan(options: RelayOptions, home: Path) -> Coturn:
    """What will run. Makes HOME/turn.secret at first. ConfigError says what to add."""
    listening = options.ips or tuple(own_addresses())
    relay = listening[0]
    external = options.external
    if external is None:
        external = await external_address(relay, options.stun, options.host)
    if options.proxy_port is not None:
        listening += (_loopback(relay),)
    folder = home / FOLDER
    secret = _secret(options.secret, home)
    folder.mkdir(mode=0o700, exist_ok=True)
    return Coturn(
        folder=folder,
        secret=secret,
        host=options.host or str(external or relay),
        listening=listening,
        relay=relay,
        external=None if external == relay else external,
        port=options.port,
        tls=options.tls,
        proxy_port=options.proxy_port,
        relay_ports=options.relay_ports,
    )


def _loopback(like: Address) -> Address:
    return type(like)("127.0.0.1" if like.version == 4 else "::1")


def _secret(given: bytes | None, home: Path) -> str:
    """The operator's, else our own: made once, because peers have credentials of it."""
    path = home / KEPT_SECRET
    if given is None:
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process was first
                write_new(path, secrets.token_hex(32) + "\n")
        given = read_secret(path, SECRET_MAX).strip()
    text = given.decode("ascii", errors="replace")
    if not _SECRET.fullmatch(text):
        raise ConfigError(
            "The secret for --coturn has 8 to 256 letters, digits or _+/=.~-; without"
            " --turn-secret-file one is made."
        )
    return text


def check_ports(coturn: Coturn) -> None:
    """ConfigError for one that it could not have. coturn itself shares a port with
    another one silently, or tries for ever."""
    for address in coturn.listening:
        for option, port, kind in _ports(coturn):
            _check_port(address, option, port, kind)


def _ports(coturn: Coturn) -> Iterator[tuple[str, int, socket.SocketKind]]:
    yield "--turn-port", coturn.port, socket.SOCK_DGRAM
    if coturn.proxy_port is not None:
        yield "--turn-proxy-port", coturn.proxy_port, socket.SOCK_STREAM
        return
    yield "--turn-port", coturn.port, socket.SOCK_STREAM
    if coturn.tls is not None:
        yield "--turn-tls-port", coturn.tls.port, socket.SOCK_STREAM


def _check_port(
    address: Address, option: str, port: int, kind: socket.SocketKind
) -> None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:  # what closed a minute ago is not in the way
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address), port))
        except OSError as exc:
            raise ConfigError(_no_port(exc, address, option, port)) from exc


def _no_port(exc: OSError, address: Address, option: str, port: int) -> str:
    match exc.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} of {address} is in use, perhaps by a coturn that the"
                " system started (`systemctl disable --now coturn`). Free it, or give"
                f" another with {option}."
            )
        case errno.EACCES:
            return (
                f"coturn may not listen on port {port}: below 1024 that takes root or"
                f" CAP_NET_BIND_SERVICE. Give another with {option}."
            )
        case errno.EADDRNOTAVAIL:
            return f"{address} is no address of this machine. Mend --turn-ip."
    return f"coturn cannot listen on {address} port {port}: {exc.strerror}."
