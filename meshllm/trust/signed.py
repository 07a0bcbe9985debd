"""Pure: the signed form, the one primitive for everything signed (§1.1).

`b64(body).b64(signature)`, signed over a domain string and the body's bytes exactly as
they came. Nothing is made canonical, and no header says how to verify.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from meshllm.errors import LocalProtocolError, RemoteProtocolError, TrustError
from meshllm.trust.keys import b64decode, b64encode, public_key, read_peer_id
from meshllm.trust.strict import parse_object

SIGNED_CHARS: Final = 12_288
ANNOUNCEMENT_CHARS: Final = 49_152  # it lists every model of a provider
SIGNATURE_BYTES: Final = 64


def sign(kind: str, body: Mapping[str, Any], key: SigningKey) -> str:
    """The token. LocalProtocolError when it would be larger than its kind may be."""
    data = json.dumps(
        body, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()
    token = f"{b64encode(data)}.{b64encode(key.sign(_domain(kind) + data).signature)}"
    if len(token) > _limit(kind):
        raise LocalProtocolError(
            f"A signed {kind} of {len(token)} characters; {_limit(kind)} at most."
        )
    return token


def read(
    kind: str, token: str, signer: bytes | Callable[[dict[str, Any]], bytes]
) -> dict[str, Any]:
    """The body, once its signature holds.

    `signer` is the public key, or finds it in the body when that names it. Raises
    RemoteProtocolError (malformed) or TrustError (the signature does not hold).
    """
    if len(token) > _limit(kind):
        raise RemoteProtocolError(
            f"a signed {kind} of {len(token)} characters; {_limit(kind)} at most"
        )
    body, dot, signature = token.partition(".")
    if not dot:
        raise RemoteProtocolError(f"not a signed {kind}")
    try:
        data, sig = b64decode(body), b64decode(signature, SIGNATURE_BYTES)
        if isinstance(signer, bytes):
            _verify(kind, data, sig, signer)
            return parse_object(data, max_bytes=len(data))
        # The strict parser is safe on anybody's bytes; before the signature holds,
        # nothing is taken from the body but the key that must have made it.
        fields = parse_object(data, max_bytes=len(data))
        _verify(kind, data, sig, signer(fields))
    except RemoteProtocolError as exc:
        raise RemoteProtocolError(f"a malformed {kind}: {exc}") from exc
    return fields


def named(key: str) -> Callable[[dict[str, Any]], bytes]:
    """For `read`: the signer is the peer whose id the body has under `key`."""
    return lambda fields: public_key(read_peer_id(fields.get(key)))


def _verify(kind: str, data: bytes, signature: bytes, public: bytes) -> None:
    try:
        VerifyKey(public).verify(_domain(kind) + data, signature)
    except BadSignatureError as exc:
        raise TrustError(f"The signature over the {kind} does not hold.") from exc


def _domain(kind: str) -> bytes:
    return f"meshllm/{kind}/v1\0".encode()


def _limit(kind: str) -> int:
    return ANNOUNCEMENT_CHARS if kind == "announcement" else SIGNED_CHARS
