"""Introductions under attack: whatever a carrier alters, nobody is fooled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import nacl.utils
import pytest
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.errors import Code, MeshError, NotAllowed, PeerUnreachable
from meshllm.identity import Identity
from meshllm.protocol import envelope
from meshllm.protocol.description import Description
from meshllm.protocol.envelope import Offer, open_envelope
from meshllm.transport import attempt, introduce
from meshllm.transport.introduce import Deliver, Introduced, Introducer
from meshllm.transport.peer import Peer
from meshllm.trust.admission import Admission, admit
from meshllm.trust.announcement import Announcement
from meshllm.trust.grants import Owner, Statement
from meshllm.trust.keys import PeerId, peer_id


def identity() -> Identity:
    return Identity(SigningKey.generate(), PrivateKey.generate())


@dataclass
class World:
    """A mesh of two owners, Ann who asks and Bob who provides, and what lies between.

    `carry` may alter each envelope on its way; None loses it.
    """

    ann: Identity = field(default_factory=identity)
    bob: Identity = field(default_factory=identity)
    made: list[Peer] = field(default_factory=list)
    met: list[Introduced] = field(default_factory=list)
    carried: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = SigningKey.generate()
        self.mesh = peer_id(root.verify_key.encode())
        owners = (Owner(self.ann.id, "ann"), Owner(self.bob.id, "bob"))
        self.chain = (Statement(self.mesh, 1, owners, 0).sign(root),)
        self.asks = self.introducer(self.ann, b"a" * 16)
        self.provides = self.introducer(self.bob, b"b" * 16)
        self.provides.on_path = self.met.append

    def introducer(self, who: Identity, conn: bytes) -> Introducer:
        return Introducer(
            who,
            conn,
            chain=lambda: self.chain,
            servers=lambda: (),
            decide=self.decide,
        )

    def decide(self, chain: Sequence[str], id: PeerId) -> Admission:
        return admit(chain, id=id, mesh=self.mesh, now=int(time.time()))

    def announcement(self, who: Identity) -> Announcement:
        return Announcement(
            mesh=self.mesh,
            id=who.id,
            conn=b"b" * 16,
            box=who.box.public_key.encode(),
            versions=(1, 1),
            backend="scripted",
            parallel=1,
            models=(),
            chain=self.chain,
            ts=0,
        )

    async def to_bob(self, to: PeerId, conn: bytes | None, sealed: bytes) -> None:
        self.carried.append(sealed)
        self.provides.receive(self.ann.id, sealed, self.to_ann)

    async def to_ann(self, to: PeerId, conn: bytes | None, sealed: bytes) -> None:
        self.carried.append(sealed)
        self.asks.receive(self.bob.id, sealed, self.to_bob)

    async def dial(self, deliver: Deliver | None = None) -> Introduced:
        return await self.asks.dial(self.announcement(self.bob), deliver or self.to_bob)


@asynccontextmanager
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Every answering peer connection that is made is written down in `made`."""
    here = World()
    answer = Peer.answer

    async def counted(*args: object, **kwargs: object) -> Peer:
        peer = await answer(*args, **kwargs)  # type: ignore[arg-type]
        here.made.append(peer)
        return peer

    monkeypatch.setattr(Peer, "answer", counted)
    monkeypatch.setattr(attempt, "CONNECT_S", 0.7)
    try:
        yield here
    finally:
        await here.asks.close()
        await here.provides.close()
        for introduced in here.met:
            introduced.wire.close("the test is over")
            await introduced.wire.closed()
        for peer in here.made:
            await peer.close()


async def test_two_who_belong_together_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(monkeypatch) as here:
        introduced = await here.dial()
        assert introduced.admission.name == "bob"
        while not here.met:
            await asyncio.sleep(0.001)
        assert here.met[0].admission.name == "ann"
        introduced.wire.close("done")
        await introduced.wire.closed()


async def test_a_stranger_gets_no_peer_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(monkeypatch) as here:
        here.ann = identity()  # the chain does not name this one
        here.asks = here.introducer(here.ann, b"a" * 16)
        with pytest.raises(NotAllowed, match="no owner") as refused:
            await here.dial()
        assert refused.value.code is Code.AUTH
        assert here.made == []


async def test_no_byte_of_an_envelope_can_be_altered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(monkeypatch) as here:
        introduced = await here.dial()
        introduced.wire.close("done")
        await introduced.wire.closed()
        made = len(here.made)
        offer = here.carried[0]
        for at in range(0, len(offer), 97):
            altered = bytearray(offer)
            altered[at] ^= 1
            here.provides.receive(here.ann.id, bytes(altered), here.to_ann)
        await asyncio.sleep(0)
        assert len(here.made) == made


async def test_whoever_does_not_answer_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(monkeypatch) as here:

        async def lost(to: PeerId, conn: bytes | None, sealed: bytes) -> None:
            """The server took it, the provider never got it."""

        with pytest.raises(PeerUnreachable, match=r"within 0\.7 s: the peer has not"):
            await here.dial(lost)


async def test_a_server_that_takes_no_offer_is_not_the_peers_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(monkeypatch) as here:
        monkeypatch.setattr(introduce, "DELIVER_S", 0.01)

        async def stuck(to: PeerId, conn: bytes | None, sealed: bytes) -> None:
            await asyncio.Event().wait()

        with pytest.raises(PeerUnreachable, match="server did not pass the offer on"):
            await here.dial(stuck)


async def test_a_path_that_opens_for_neither_has_a_reason_on_both_sides(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(monkeypatch) as here:
        real = Peer.accept

        async def deaf(peer: Peer, remote: Description) -> None:
            await real(peer, replace(remote, pwd="x" * 22))

        monkeypatch.setattr(Peer, "accept", deaf)
        with pytest.raises(PeerUnreachable, match="names no STUN or TURN server"):
            await here.dial()
        while not caplog.text:
            await asyncio.sleep(0.01)
        assert "names no STUN or TURN server" in caplog.text


async def test_a_replayed_offer_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(monkeypatch) as here:
        introduced = await here.dial()
        introduced.wire.close("done")
        await introduced.wire.closed()
        made = len(here.made)
        for _ in range(3):
            here.provides.receive(here.ann.id, here.carried[0], here.to_ann)
        await here.provides.close()
        assert len(here.made) == made


async def test_who_offers_too_often_is_told_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envelope, "SEEN_PER_PEER", 1)
    async with world(monkeypatch) as here:
        introduced = await here.dial()
        introduced.wire.close("done")
        await introduced.wire.closed()
        made, carried = len(here.made), len(here.carried)
        with pytest.raises(NotAllowed, match="in 15 minutes") as refused:
            await here.dial()
        assert refused.value.code is Code.BUSY
        offer, refusal = here.carried[carried:]
        assert len(refusal) <= len(offer)
        assert len(here.made) == made


async def test_another_sender_cannot_pass_an_offer_off_as_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(monkeypatch) as here:

        async def from_mallory(to: PeerId, conn: bytes | None, sealed: bytes) -> None:
            mallory = identity()
            here.provides.receive(mallory.id, sealed, here.to_ann)

        with pytest.raises(PeerUnreachable, match="No connection"):
            await here.dial(from_mallory)
        assert here.made == []


async def test_a_server_that_swaps_the_fingerprint_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server even has a key of its own: it opens, alters, signs and seals again."""
    async with world(monkeypatch) as here:
        mallory = identity()
        posing = replace(
            here.announcement(here.bob), box=mallory.box.public_key.encode()
        )

        async def swap(to: PeerId, conn: bytes | None, sealed: bytes) -> None:
            offer, _ = open_envelope(
                sealed,
                mallory.box,
                me=here.bob.id,
                outer_sender=here.ann.id,
                now=int(time.time()),
            )
            assert isinstance(offer, Offer)
            swapped = replace(
                offer, description=replace(offer.description, fingerprint=bytes(32))
            )
            again, _ = envelope.seal(
                swapped,
                mallory.signing,
                here.bob.box.public_key.encode(),
                PrivateKey.generate(),
                nacl.utils.random(24),
            )
            await here.to_bob(to, conn, again)

        with pytest.raises(PeerUnreachable):
            await here.asks.dial(posing, swap)
        assert here.made == []


async def test_hello_refuses_another_certificate_when_dtls_let_it_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if the fingerprint check of the library had a bug."""
    async with world(monkeypatch) as here:
        monkeypatch.setattr(
            Peer, "observed_fingerprint", property(lambda peer: bytes(32))
        )
        with pytest.raises(MeshError, match="saw another connection"):
            await here.dial()
        assert here.met == []


async def test_a_clock_that_is_wrong_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(monkeypatch) as here:
        real = time.time
        introduced = await here.dial()
        introduced.wire.close("done")
        await introduced.wire.closed()
        monkeypatch.setattr(time, "time", lambda: real() + 3600)
        here.provides.receive(here.ann.id, here.carried[0], here.to_ann)
        assert "clocks of this machine" in caplog.text
