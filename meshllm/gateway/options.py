"""Where the gateway listens and whom it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from meshllm.errors import ConfigError
from meshllm.store import read_secret

DEFAULT_PORT = 11434  # Ollama's: programs find us where they look for it
KEY_FILE_LIMIT = 4096  # bytes; a longer file is hardly a key


@dataclass(frozen=True, slots=True)
class Options:
    """`allow_from` and `api_key` are what guards an address beyond loopback.

    `allow_hosts` and `origins` are lower case, origins as a browser sends them.
    `drain_s` is how long running answers may go on once the gateway stops.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_key: str | None = field(default=None, repr=False)
    allow_from: tuple[IPv4Network | IPv6Network, ...] = ()
    allow_hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    drain_s: float = 600.0  # the second signal ends at once

    def __post_init__(self) -> None:
        if not (is_loopback(self.host) or self.api_key or self.allow_from):
            raise ConfigError(
                f"Anyone who reaches {self.host} could use this gateway. Say who may: "
                "`--api-key-file FILE` or `--allow-from CIDR`, or listen on 127.0.0.1."
            )


def read_options(
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    api_key_file: Path | None = None,
    allow_from: Iterable[str] = (),
    allow_host: Iterable[str] = (),
    origin: Iterable[str] = (),
) -> Options:
    """The options as a person types them. Raises ConfigError."""
    return Options(
        host=host,
        port=port,
        api_key=None if api_key_file is None else _read_key(api_key_file),
        allow_from=tuple(_network(text) for text in allow_from),
        allow_hosts=frozenset(name.lower().rstrip(".") for name in allow_host),
        origins=frozenset(_origin(text) for text in origin),
    )


def is_loopback(host: str) -> bool:
    """True for `localhost` and loopback addresses; other names may point anywhere."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read_key(path: Path) -> str:
    try:
        data = read_secret(path, KEY_FILE_LIMIT)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no API key file {path}. Write a long random key into it, on one "
            "line, for you alone to read (`chmod 600`)."
        ) from None
    if len(data) > KEY_FILE_LIMIT:
        raise ConfigError(
            f"{path} is larger than {KEY_FILE_LIMIT} bytes: it holds no API key."
        )
    if not data.strip():
        raise ConfigError(
            f"{path} is empty. Write a long random key into it, on one line."
        )
    try:
        key = data.decode("ascii").strip()
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{path} is no text: the API key is one line of plain ASCII."
        ) from exc
    lines = len(key.splitlines())
    if lines > 1:
        raise ConfigError(f"{path} holds {lines} lines: the API key is only one.")
    if not key.isprintable():
        raise ConfigError(
            f"{path} holds control characters: the API key is one line of plain ASCII."
        )
    return key


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as exc:
        raise ConfigError(
            f"--allow-from {text} is no address range. Write it like 192.168.1.0/24."
        ) from exc


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if not (parts.scheme and parts.netloc) or parts.path.strip("/") or parts.query:
        raise ConfigError(
            f"--origin {text} is no origin. Write it like https://chat.example.org."
        )
    return f"{parts.scheme}://{parts.netloc}".lower()
