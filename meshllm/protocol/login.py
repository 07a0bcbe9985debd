"""Pure: how client and hub prove their keys to each other (docs/protocol.md §3.1)."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from meshllm.errors import ConfigError, TrustError
from meshllm.trust.keys import PeerId, public_key

Side = Literal["client", "server"]
_PORTS: Final = {"http": 80, "https": 443}
_SCHEMES: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


def origin(url: str) -> str:
    """`scheme://host[:port]`, lower case, without a default port; ws counts as http."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"{url!r} is not an address of a signaling server.") from exc
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigError(
            f"{url!r} is not an address of a signaling server: it looks like"
            " https://signal.example.org."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    suffix = "" if port in (None, _PORTS[scheme]) else f":{port}"
    return f"{scheme}://{host}{suffix}"


def transcript(
    *,
    origin: str,
    server: PeerId,
    server_nonce: bytes,
    client: PeerId,
    client_nonce: bytes,
    ts: int,
) -> bytes:
    parts = (
        origin.encode(),
        public_key(server),
        server_nonce,
        public_key(client),
        client_nonce,
        str(ts).encode(),
    )
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def sign_login(side: Side, transcript: bytes, key: SigningKey) -> bytes:
    return key.sign(_domain(side) + transcript).signature


def check_login(side: Side, transcript: bytes, sig: bytes, signer: PeerId) -> None:
    """Raises TrustError when `signer` did not sign this transcript as this side."""
    try:
        VerifyKey(public_key(signer)).verify(_domain(side) + transcript, sig)
    except BadSignatureError as exc:
        raise TrustError("The signature over the login does not hold.") from exc


def _domain(side: Side) -> bytes:
    return f"meshllm/login-{side}/v1\0".encode()
