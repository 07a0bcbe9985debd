"""From an open channel to a proven wire: HELLO over the certificates really seen.

docs/protocol.md §5.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshllm.identity import Identity
from meshllm.protocol import hello
from meshllm.protocol.envelope import Answer, Offer
from meshllm.protocol.frames import Hello
from meshllm.protocol.path import DETACH_S, Path
from meshllm.transport.peer import Peer
from meshllm.transport.wire import Wire
from meshllm.trust.keys import public_key

CLIENT_SILENT_S = 10.0  # pings go every 2 s, so this is four lost ones


@dataclass(frozen=True, slots=True)
class Exchanged:
    """An offer and its answer, each with the SHA-256 of its signed form."""

    offer: Offer
    offer_digest: bytes
    answer: Answer
    answer_digest: bytes


async def prove(
    peer: Peer, identity: Identity, said: Exchanged, nonce: bytes | None
) -> Wire:
    """The wire on an open peer connection, once the other side proved who it is.

    `nonce` is the offerer's own, None on the answering side. Closes the connection and
    raises NotAllowed or PeerUnreachable when it does not.
    """
    wire = Wire(
        peer,
        _path(peer, identity, said, nonce),
        silent_s=DETACH_S if nonce is None else CLIENT_SILENT_S,
    )
    try:
        await wire.said_hello()
    except BaseException:
        wire.close("HELLO failed")
        await wire.closed()
        raise
    return wire


def _path(peer: Peer, identity: Identity, said: Exchanged, nonce: bytes | None) -> Path:
    is_offerer = nonce is not None
    roles = hello.OFFERER, hello.ANSWERER
    ours, theirs = roles if is_offerer else reversed(roles)
    other = said.answer.sender if is_offerer else said.offer.sender
    seen = _transcript(peer, said, is_offerer=is_offerer)

    def check(heard: Hello) -> None:
        hello.verify(
            heard,
            role=theirs,
            transcript=seen,
            public=public_key(other),
            commit=None if is_offerer else said.offer.commit,
        )

    sig = hello.prove(ours, seen, identity.signing)
    return Path(Hello(ours, nonce or bytes(32), sig), check, is_client=is_offerer)


def _transcript(peer: Peer, said: Exchanged, *, is_offerer: bool) -> bytes:
    """Our own certificate as it is in use, the peer's as DTLS saw it."""
    fingerprints = peer.own_fingerprint, peer.observed_fingerprint
    offerers, answerers = fingerprints if is_offerer else reversed(fingerprints)
    return hello.transcript(
        path=said.offer.path,
        offerer=said.offer.sender,
        answerer=said.answer.sender,
        commit=said.offer.commit,
        answer_nonce=said.answer.nonce,
        offerer_fingerprint=offerers,
        answerer_fingerprint=answerers,
        offer_digest=said.offer_digest,
        answer_digest=said.answer_digest,
    )
