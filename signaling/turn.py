"""Pure: TURN servers and their ephemeral credentials.

Those are the ones of the TURN REST API, which coturn calls use-auth-secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from typing import Final, Literal

from meshllm.errors import ConfigError
from meshllm.protocol.signals import Ice
from meshllm.trust.keys import PeerId

# docs/protocol.md §3.1: clients renew well before, with a second login. An allocation
# is checked when it is made; one that runs outlives its credential.
TTL_S: Final = 3600
# RFC 7064 §3.1, RFC 7065 §3.1
_URL: Final = re.compile(
    r"(?P<scheme>stuns?|turns?):(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<how>\?transport=(?:udp|tcp))?"
)


def check_url(kind: Literal["stun", "turn"], url: str) -> str:
    """The URL, if it is one of this kind. ConfigError says how to write it."""
    match = _URL.fullmatch(url)
    if (
        match is None
        or match["scheme"].rstrip("s") != kind
        or (match["how"] is not None and kind == "stun")
        or not 0 < int(match["port"] or 1) < 65_536
        or not _is_host(match["host"])
    ):
        how = "?transport=udp" if kind == "turn" else ""
        raise ConfigError(
            f"--{kind} {url}: write it like {kind}:relay.example:3478{how}."
        )
    return url


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return True
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True


def credentials(secret: bytes, peer: PeerId, now: float) -> tuple[str, str]:
    """(username, password), good until `now` + 1 h.

    The username is `expiry:tag`. coturn's user-quota counts what follows the colon, so
    the tag stands for one person; being an HMAC, it tells the relay's log nothing.
    """
    tag = hmac.new(secret, b"meshllm/turn/v1\0" + peer.encode(), hashlib.sha256)
    username = f"{int(now) + TTL_S}:{tag.hexdigest()[:32]}"
    # SHA-1 is what coturn and every other TURN server computes.
    password = hmac.new(secret, username.encode(), hashlib.sha1)
    return username, base64.b64encode(password.digest()).decode()


def ice_servers(
    stun: tuple[str, ...],
    turn: tuple[str, ...],
    secret: bytes | None,
    peer: PeerId,
    now: float,
) -> tuple[Ice, ...]:
    """What a member's welcome carries: what the operator configured, nothing else."""
    servers: list[Ice] = []
    if stun:
        servers.append(Ice(urls=stun, username=None, credential=None))
    if turn and secret:
        username, password = credentials(secret, peer, now)
        servers.append(Ice(urls=turn, username=username, credential=password))
    return tuple(servers)
