"""The envelopes of introductions: written, signed and sealed; opened and checked.

What stands in them is docs/protocol.md §4; `protocol.envelope` is the pure half.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import nacl.public
import nacl.utils

from meshllm.errors import Code
from meshllm.identity import Identity
from meshllm.protocol.description import Candidate, Description
from meshllm.protocol.envelope import (
    TEXT_MAX,
    Answer,
    Candidates,
    Offer,
    Refusal,
    Signal,
    open_envelope,
)
from meshllm.protocol.envelope import seal as seal_envelope
from meshllm.protocol.hello import commit
from meshllm.trust.announcement import Announcement
from meshllm.trust.keys import PeerId

VERSIONS = (1, 1)

Deliver = Callable[[PeerId, bytes | None, bytes], Awaitable[None]]
"""(to, conn or None for whoever announces, sealed envelope)."""

Kind = TypeVar("Kind", bound=Signal)


@dataclass(frozen=True, slots=True)
class Written(Generic[Kind]):
    """`digest` is the SHA-256 of the signed form, by which others refer to it."""

    signal: Kind
    sealed: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Addressee:
    """Where envelopes of one path go, and the key that opens them."""

    id: PeerId
    conn: bytes | None
    box: bytes
    deliver: Deliver

    @classmethod
    def announced(cls, target: Announcement, deliver: Deliver) -> Addressee:
        return cls(target.id, target.conn, target.box, deliver)

    @classmethod
    def offered(cls, offer: Offer, deliver: Deliver) -> Addressee:
        return cls(offer.sender, offer.conn, offer.box, deliver)

    async def send(self, sealed: bytes) -> None:
        await self.deliver(self.id, self.conn, sealed)


class Envelopes:
    """Those that one connection of a node writes and opens. `chain` is asked for each
    time: it changes when a membership comes."""

    def __init__(
        self, identity: Identity, conn: bytes, chain: Callable[[], Sequence[str]]
    ) -> None:
        self._identity = identity
        self._conn = conn
        self._chain = chain

    def offer(
        self, target: Announcement, description: Description, nonce: bytes
    ) -> Written[Offer]:
        """Of a new path. `nonce` is kept back until HELLO, and bound here."""
        offer = Offer(
            path=nacl.utils.random(16),
            sender=self._identity.id,
            to=target.id,
            ts=int(time.time()),
            conn=self._conn,
            box=self._identity.box.public_key.encode(),
            commit=commit(nonce),
            versions=VERSIONS,
            description=description,
            chain=tuple(self._chain()),
        )
        return self._seal(offer, target.box)

    def answer(
        self, offer: Offer, digest: bytes, description: Description
    ) -> Written[Answer]:
        answer = Answer(
            path=offer.path,
            sender=self._identity.id,
            to=offer.sender,
            ts=int(time.time()),
            prev=digest,
            nonce=nacl.utils.random(32),
            version=VERSIONS[1],
            description=description,
            chain=tuple(self._chain()),
        )
        return self._seal(answer, offer.box)

    def candidates(
        self,
        path: bytes,
        prev: bytes,
        to: Addressee,
        candidates: Sequence[Candidate],
        *,
        is_complete: bool,
    ) -> Written[Candidates]:
        """More of ours. `prev` is the offer's digest, whichever side we are."""
        more = Candidates(
            path=path,
            sender=self._identity.id,
            to=to.id,
            ts=int(time.time()),
            prev=prev,
            candidates=tuple(candidates),
            is_complete=is_complete,
        )
        return self._seal(more, to.box)

    def refusal(
        self, offer: Offer, digest: bytes, code: Code, text: str
    ) -> Written[Refusal]:
        refusal = Refusal(
            path=offer.path,
            sender=self._identity.id,
            to=offer.sender,
            ts=int(time.time()),
            prev=digest,
            code=code,
            text="".join(c if c.isprintable() else " " for c in text)[:TEXT_MAX],
        )
        return self._seal(refusal, offer.box)

    def open(self, sealed: bytes, sender: PeerId | None) -> tuple[Signal, bytes]:
        """The signal and its digest. `sender` as the signaling server says, None where
        nobody does. MeshError when it is not for us, or not what it claims to be."""
        return open_envelope(
            sealed,
            self._identity.box,
            me=self._identity.id,
            outer_sender=sender,
            now=int(time.time()),
        )

    def _seal(self, signal: Kind, to_box: bytes) -> Written[Kind]:
        sealed, digest = seal_envelope(
            signal,
            self._identity.signing,
            to_box,
            nacl.public.PrivateKey.generate(),
            nacl.utils.random(24),
        )
        return Written(signal, sealed, digest)
