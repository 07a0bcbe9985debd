"""Pure: ephemeral TURN credentials (the TURN REST API, as coturn's use-auth-secret)."""

from __future__ import annotations

import base64
import hashlib
import hmac

from meshllm.protocol.signals import Ice
from meshllm.trust.keys import PeerId

TTL_S = 3600


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
