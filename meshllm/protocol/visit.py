"""What two nodes say to each other on a LAN before an offer (docs/protocol.md §11.2).

A stranger may ask for a `Contact`, which names no mesh and nobody in it. Who knows the
mesh recognises it there, and shows its chain in a `Visit` that only that node can open;
the `Reply` is sealed to the visitor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.errors import Code, NotAllowed, TrustError
from meshllm.protocol import sealing
from meshllm.protocol.envelope import SKEW_S, TEXT_MAX
from meshllm.trust import signed
from meshllm.trust.announcement import chain
from meshllm.trust.keys import PeerId, b64encode, public_key, read_peer_id, short
from meshllm.trust.link import URL_MAX
from meshllm.trust.strict import (
    b64,
    integer,
    nested,
    nullable,
    parse_object,
    take,
    text,
)

CONTACT_MAX = 1_024
VISIT_MAX = 65_536
REPLY_MAX = 131_072
PREFIX = 4
_long = text(signed.LONG_TOKEN_MAX, 1)
_short = text(signed.TOKEN_MAX, 1)


@dataclass(frozen=True, slots=True)
class Contact:
    """`box` is what visits are sealed to; `mesh` the mesh, for those who know it."""

    id: PeerId
    box: bytes
    salt: bytes
    mesh: bytes

    @classmethod
    def of(cls, id: PeerId, box: bytes, salt: bytes, mesh: PeerId) -> Self:
        """`salt`: 16 random bytes."""
        return cls(id, box, salt, _tag(mesh, salt))

    def is_in(self, mesh: PeerId) -> bool:
        """It says so; its chain has to prove it."""
        return self.mesh == _tag(mesh, self.salt)

    def sign(self, key: SigningKey) -> str:
        body = {
            "id": self.id,
            "box": b64encode(self.box),
            "salt": b64encode(self.salt),
            "mesh": b64encode(self.mesh),
        }
        return signed.sign("contact", body, key)

    @classmethod
    def read(cls, token: str) -> Self:
        """Signed by the node that it names."""
        fields = signed.read_naming("contact", token, "id")
        readers = {"id": read_peer_id, "box": b64(32), "salt": b64(16), "mesh": b64(32)}
        return cls(**take(fields, readers))


@dataclass(frozen=True, slots=True)
class Visit:
    """Who comes to see `to`, and where the reply is sealed to. `nonce` is repeated in
    it: only who opened the visit can."""

    sender: PeerId
    to: PeerId
    box: bytes
    nonce: bytes
    ts: int
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Server:
    """The signaling server of the mesh, for nodes that joined when it had none."""

    url: str
    key: PeerId

    def to_json(self) -> dict[str, Any]:
        return {"url": self.url, "key": self.key}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(**take(fields, {"url": text(URL_MAX, 1), "key": read_peer_id}))


@dataclass(frozen=True, slots=True)
class Refused:
    code: Code
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"code": int(self.code), "text": self.text}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        readers = {"code": integer(0, 65_535), "text": text(TEXT_MAX)}
        read = take(fields, readers)
        known = read["code"] in list(Code)
        return cls(Code(read["code"]) if known else Code.INTERNAL, read["text"])


@dataclass(frozen=True, slots=True)
class Reply:
    """What the node is and knows: each token signed by whom it is about, none trusted
    because of who passed it on. Of a refusal everything else is None."""

    nonce: bytes
    announcement: str | None = None
    statement: str | None = None
    revocations: str | None = None
    membership: str | None = None
    server: Server | None = None
    refused: Refused | None = None


def seal_visit(
    visit: Visit,
    revocations: str | None,
    key: SigningKey,
    to_box: bytes,
    ephemeral: PrivateKey,
    nonce: bytes,
) -> bytes:
    """`revocations`: the newest list that the visitor knows, if it may be news."""
    body = {
        "from": visit.sender,
        "to": visit.to,
        "box": b64encode(visit.box),
        "nonce": b64encode(visit.nonce),
        "ts": visit.ts,
        "chain": list(visit.chain),
    }
    said = {"visit": signed.sign("visit", body, key), "revocations": revocations}
    return _seal(said, to_box, ephemeral, nonce, VISIT_MAX)


def open_visit(
    sealed: bytes, box: PrivateKey, *, me: PeerId
) -> tuple[Visit, str | None]:
    """The visit, its signature verified, and the list that came with it.

    TrustError or RemoteProtocolError when it is nothing that can be answered. Its time
    is `check_clock`'s to judge: a visit that comes again teaches nobody anything.
    """
    fields = take(
        _unseal(sealed, box, VISIT_MAX),
        {"visit": _short, "revocations": nullable(_long)},
    )
    read = take(
        signed.read_naming("visit", fields["visit"], "from"),
        {
            "from": read_peer_id,
            "to": read_peer_id,
            "box": b64(32),
            "nonce": b64(32),
            "ts": integer(),
            "chain": chain,
        },
    )
    visit = Visit(sender=read.pop("from"), **read)
    if visit.to != me:
        raise TrustError("a visit to somebody else")
    return visit, fields["revocations"]


def check_clock(visit: Visit, now: int) -> None:
    """NotAllowed (`clock_skew`): no offer between these two would be taken."""
    if abs(now - visit.ts) > SKEW_S:
        raise NotAllowed(
            f"The clocks of this machine and {short(visit.to)} differ by "
            f"{abs(now - visit.ts)} s; set them right ({SKEW_S} s are allowed).",
            Code.CLOCK_SKEW,
        )


def seal_reply(
    reply: Reply, to_box: bytes, ephemeral: PrivateKey, nonce: bytes
) -> bytes:
    said = {
        "nonce": b64encode(reply.nonce),
        "announcement": reply.announcement,
        "statement": reply.statement,
        "revocations": reply.revocations,
        "membership": reply.membership,
        "server": reply.server and reply.server.to_json(),
        "refused": reply.refused and reply.refused.to_json(),
    }
    return _seal(said, to_box, ephemeral, nonce, REPLY_MAX)


def open_reply(sealed: bytes, box: PrivateKey, visit: Visit) -> Reply:
    """TrustError: not from who was visited. NotAllowed: it does not know us."""
    reply = Reply(
        **take(
            _unseal(sealed, box, REPLY_MAX),
            {
                "nonce": b64(32),
                "announcement": nullable(_long),
                "statement": nullable(_short),
                "revocations": nullable(_long),
                "membership": nullable(_short),
                "server": nullable(nested(Server.from_json)),
                "refused": nullable(nested(Refused.from_json)),
            },
        )
    )
    if reply.nonce != visit.nonce:
        raise TrustError("a reply to another visit")
    if reply.refused is not None:
        raise NotAllowed(reply.refused.text, reply.refused.code)
    return reply


def _seal(
    said: Mapping[str, Any],
    to_box: bytes,
    ephemeral: PrivateKey,
    nonce: bytes,
    most: int,
) -> bytes:
    data = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    return sealing.seal(data, to_box, ephemeral, nonce, most=most, prefix=PREFIX)


def _unseal(sealed: bytes, box: PrivateKey, most: int) -> dict[str, Any]:
    data = sealing.unseal(sealed, box, most=most, prefix=PREFIX)
    return parse_object(data, max_bytes=most)


def _tag(mesh: PeerId, salt: bytes) -> bytes:
    """Names a mesh to those who know it already."""
    return hashlib.sha256(b"meshllm/lan/v1\0" + salt + public_key(mesh)).digest()
