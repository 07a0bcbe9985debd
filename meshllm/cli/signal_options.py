"""The options of `meshllm signal`, read into what the server takes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from meshllm.errors import ConfigError

if TYPE_CHECKING:
    from signaling.coturn_config import Address, Tls
    from signaling.coturn_plan import RelayOptions
    from signaling.proxies import Network
    from signaling.server import ServeOptions

HTTPS: Final = 443  # the one port that every network lets out
TURNS: Final = 5349  # RFC 8656 §18
SECRET_MAX: Final = 4_096
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+")
_RANGE: Final = re.compile(r"(\d{1,5})-(\d{1,5})")


def read_options(
    home: Path,
    *,
    coturn: bool,
    relay: dict[str, Any],
    admit: str,
    stun: Sequence[str],
    turn: Sequence[str],
    turn_secret_file: Path | None,
    trusted_proxy: Sequence[str],
    **given: Any,
) -> ServeOptions:
    """`relay` is what is about --coturn alone. ConfigError says what does not fit."""
    from signaling.kept import Admit
    from signaling.server import ServeOptions
    from signaling.turn import check_url

    if turn and turn_secret_file is None and not coturn:
        raise ConfigError(
            "--turn needs --turn-secret-file: the static-auth-secret of that server."
        )
    secret = _secret(turn_secret_file) if turn_secret_file else None
    stun = tuple(check_url("stun", url) for url in stun)
    return ServeOptions(
        home=home,
        admit=Admit(admit),
        stun=stun,
        turn=tuple(check_url("turn", url) for url in turn),
        turn_secret=secret,
        relay=_relay(coturn, relay, secret, stun, given),
        trusted_proxies=tuple(_network(text) for text in trusted_proxy),
        **given,
    )


def _relay(
    coturn: bool,
    relay: dict[str, Any],
    secret: bytes | None,
    stun: tuple[str, ...],
    given: dict[str, Any],
) -> RelayOptions | None:
    from signaling.coturn_config import PORT, RELAY_PORTS
    from signaling.coturn_plan import RelayOptions

    if not coturn:
        for name, value in relay.items():
            if value:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is about --coturn: add that too.")
        return None
    ips = tuple(_address("--turn-ip", text) for text in relay["turn_ip"])
    external = relay["external_ip"]
    ports = relay["turn_relay_ports"]
    return RelayOptions(
        host=_host(relay["turn_host"], given["public_url"]),
        ips=ips,
        external=_address("--external-ip", external) if external else None,
        port=relay["turn_port"] or PORT,
        tls=_tls(relay, given),
        proxy_port=relay["turn_proxy_port"],
        relay_ports=_ports(ports) if ports else RELAY_PORTS,
        secret=secret,
        stun=stun,
    )


def _tls(relay: dict[str, Any], given: dict[str, Any]) -> Tls | None:
    """With the certificate of the server itself."""
    from signaling.coturn_config import Tls

    port, cert, key = relay["turn_tls_port"], given["tls_cert"], given["tls_key"]
    if relay["turn_proxy_port"]:
        if port:
            raise ConfigError(
                "--turn-proxy-port and --turn-tls-port exclude each other: the proxy"
                " ends TLS."
            )
        return None
    if cert is None or key is None:
        if port:
            raise ConfigError("--turn-tls-port needs --tls-cert and --tls-key.")
        return None
    if not port:
        port = TURNS if given["port"] == HTTPS else HTTPS
    return Tls(port, cert.absolute(), key.absolute())


def _host(given: str | None, public_url: str | None) -> str | None:
    if given is None:
        return urlsplit(public_url).hostname if public_url else None
    if not _HOST.fullmatch(given):
        raise ConfigError(f"--turn-host {given}: write a name or an address.")
    return given


def _address(option: str, text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as exc:
        raise ConfigError(f"{option} {text}: write one IP address.") from exc


def _ports(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None or not 1024 <= int(match[1]) <= int(match[2]) <= 65_535:
        raise ConfigError(
            f"--turn-relay-ports {text}: write two ports from 1024 on, like"
            " 49152-65535."
        )
    return int(match[1]), int(match[2])


def _secret(path: Path) -> bytes:
    from meshllm.store import read_secret

    secret = read_secret(path, SECRET_MAX).strip()
    if not secret:
        raise ConfigError(
            f"{path} is empty; it must hold the secret of the TURN server."
        )
    return secret


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigError(f"--trusted-proxy {text}: {exc}.") from exc
