"""Links that admit: short (the hub keeps the ticket), offline, and a hub's setup link.

Everything is in the fragment, which browsers never send. docs/protocol.md §2.1.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import nacl.exceptions
from nacl.secret import SecretBox

from meshllm.errors import MeshError, TrustError
from meshllm.trust.keys import PeerId, b64decode, b64encode, read_peer_id
from meshllm.trust.signed import TOKEN_MAX
from meshllm.trust.strict import b64, nullable, parse_object, take, text

PAYLOAD_MAX = 40_960
URL_MAX = 512
NOT_A_LINK = (
    "This is no meshllm link. It looks like https://HUB/#v1.… and has to be whole; "
    "put it in quotes, because of the #."
)

# Neither a name and password, nor anything that a browser would read another way.
_HOST = re.compile(r"([\w.~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class ShortLink:
    hub: str
    id: bytes
    key: bytes

    def __str__(self) -> str:
        return f"{self.hub}/#v1.{b64encode(self.id)}.{b64encode(self.key)}"


@dataclass(frozen=True, slots=True)
class SetupLink:
    """A hub's one-time link: whoever has it may register a mesh there."""

    hub: str
    token: bytes
    server: PeerId

    def __str__(self) -> str:
        return f"{self.hub}/#s1.{b64encode(self.token)}.{self.server}"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a join link carries: the ticket, its seed, and what to trust.

    `server` is the hub's key, None when the mesh has no hub.
    """

    server: PeerId | None
    statement: str
    ticket: str
    seed: bytes

    def to_json(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "statement": self.statement,
            "ticket": self.ticket,
            "seed": b64encode(self.seed),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(
            **take(
                fields,
                {
                    "server": nullable(read_peer_id),
                    "statement": text(TOKEN_MAX, 1),
                    "ticket": text(TOKEN_MAX, 1),
                    "seed": b64(32),
                },
            )
        )


@dataclass(frozen=True, slots=True)
class OfflineLink:
    """Carries the invitation itself; `hub` is None for a LAN."""

    hub: str | None
    invitation: Invitation

    def __str__(self) -> str:
        fields = self.invitation.to_json() | {"hub": self.hub}
        return f"{self.hub or 'meshllm:'}/#v1o.{b64encode(_dump(fields))}"


def parse_link(link: str) -> ShortLink | OfflineLink | SetupLink:
    """TrustError says that it is none, and what one looks like."""
    before, _, fragment = link.strip().partition("#")
    kind, _, rest = fragment.partition(".")
    try:
        match kind, rest.split("."):
            case "v1", [id, key]:
                return ShortLink(_hub(before), b64decode(id, 8), b64decode(key, 16))
            case "s1", [token, server]:
                hub = _hub(before)
                return SetupLink(hub, b64decode(token, 16), read_peer_id(server))
            case "v1o", [payload]:
                return _offline(payload)
    except MeshError as error:
        raise TrustError(NOT_A_LINK) from error
    raise TrustError(NOT_A_LINK)


def seal_invitation(invitation: Invitation, key: bytes, nonce: bytes) -> bytes:
    """What the hub keeps: secretbox under the link's key; `nonce` has 24 bytes."""
    return bytes(_box(key).encrypt(_dump(invitation.to_json()), nonce))


def open_invitation(sealed: bytes, key: bytes) -> Invitation:
    """TrustError: the hub gave something else than what was left there.
    RemoteProtocolError: what was left there is no invitation."""
    try:
        data = _box(key).decrypt(sealed)
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise TrustError(
            "The invitation does not open with this link. Copy the link again; if that "
            "does not help, ask for a new one."
        ) from error
    return Invitation.from_json(parse_object(data, max_bytes=PAYLOAD_MAX))


def _offline(payload: str) -> OfflineLink:
    fields = parse_object(b64decode(payload), max_bytes=PAYLOAD_MAX)
    hub = nullable(text(URL_MAX, 1))(fields.pop("hub", ""))  # it has to be there
    return OfflineLink(hub and _hub(hub), Invitation.from_json(fields))


def _hub(url: str) -> str:
    """scheme://host[:port], without the slash that follows."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # "[", a port that is no number, …
        raise TrustError(NOT_A_LINK) from error
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise TrustError(NOT_A_LINK)
    if parts.path not in ("", "/") or parts.query or not _HOST.fullmatch(parts.netloc):
        raise TrustError(NOT_A_LINK)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _box(key: bytes) -> SecretBox:
    return SecretBox(hashlib.sha256(b"meshllm/link/v1\0" + key).digest())


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
