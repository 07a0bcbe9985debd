"""Which pairs of addresses are tried, which is used, and whether it still works.

Upstream's checks, but that no relay takes the place of a direct path, and that behind a
relay direct ones go on being tried; that a check which a NAT swallowed is repeated at
once; that a peer whose NAT gives it another address is followed, and that it is told
soon when ours has (`pulse`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import aioice
import aioice.ice
import aioice.stun

from meshllm.transport.pair import COMPONENT, Pair, from_aioice, kind_of
from meshllm.transport.pulse import TICK_S, Pulse

log = logging.getLogger(__name__)

PACE_S = 0.02  # between two first checks (RFC 8445 §14.2 asks for no less than 5 ms)
IMPROVE_S = 40.0  # a check is repeated for 32 s
PATIENCE_S = 2.0  # from the first check that ended, before there is no way

State = aioice.ice.CandidatePair.State
UNCHECKED = (State.FROZEN, State.WAITING)


class Checks(aioice.Connection):
    """The part of an ICE connection that knows its pairs."""

    def __init__(
        self, *, controlling: bool, transport_policy: aioice.TransportPolicy
    ) -> None:
        super().__init__(ice_controlling=controlling, transport_policy=transport_policy)
        self._checks: dict[aioice.ice.CandidatePair, aioice.stun.Message] = {}
        self._forbidden: set[tuple[str, int]] = set()
        self._patience: asyncio.TimerHandle | None = None
        self._has_waited = False
        self._news = asyncio.Event()  # other pairs, or other states of theirs
        self._is_heard = False
        self._pulse = Pulse()
        self.on_stall: Callable[[], None] = lambda: None

    @property
    def is_heard(self) -> bool:
        """Whether checks, or answers to ours, came in from the peer."""
        return self._is_heard

    @property
    def selected(self) -> Pair | None:
        pair = self._nominated.get(COMPONENT)
        if pair is None:
            return None
        return Pair(
            from_aioice(pair.local_candidate), from_aioice(pair.remote_candidate)
        )

    @property
    def kind(self) -> str | None:
        """Of `selected`, without the rest: asked for with each answer."""
        if (pair := self._nominated.get(COMPONENT)) is None:
            return None
        return kind_of(pair.local_candidate.type, pair.remote_candidate.type)

    def _is_unnamed(self, pair: aioice.ice.CandidatePair | None) -> bool:
        """The peer may still say what this is."""
        is_reflexive = pair is not None and pair.remote_candidate.type == "prflx"
        return is_reflexive and not self._remote_candidates_end

    async def _improve(self) -> None:
        """A direct pair may only be late: what opens one NAT comes out of the other.

        Ends with the checks themselves, which are repeated for half a minute; the
        peer's own can still show a way after that.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + IMPROVE_S
        while self.kind == "relay":
            fresh = [
                pair
                for pair in self._check_list
                if pair.state in UNCHECKED and not is_relayed(pair)
            ]
            if fresh:
                self.check_start_task(fresh[0])
                await asyncio.sleep(PACE_S)
                continue
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return
        log.info("moved from the relay to a direct path (%s)", self.kind)

    def _end_checks(self) -> None:
        for pair in self._check_list:
            if pair.task is not None:
                pair.task.cancel()

    def check_incoming(
        self,
        message: aioice.stun.Message,
        addr: tuple[str, int],
        protocol: aioice.ice.StunProtocol,
    ) -> None:
        if addr in self._forbidden:
            return
        # Its sender knows our password. Its DTLS may arrive before our own check is
        # answered; dropping that would cost a second.
        self._is_heard = True
        super().check_incoming(message, addr, protocol)
        self._check_again(addr, protocol)

    def _check_again(
        self, addr: tuple[str, int], protocol: aioice.ice.StunProtocol
    ) -> None:
        """RFC 8445 §7.3.1.4: what the peer's NAT dropped may pass now that it has sent.

        The same request once more, so that the answer to either will do.
        """
        for pair, check in self._checks.items():
            is_waiting = check.transaction_id in protocol.transactions
            if is_waiting and pair.protocol is protocol and pair.remote_addr == addr:
                protocol.send_stun(check, addr)

    def build_request(
        self, pair: aioice.ice.CandidatePair, nominate: bool
    ) -> aioice.stun.Message:
        """Whoever controls names the pair in use also when it only asks for consent: a
        peer that missed a change, or sees us at a new address, follows."""
        nominate = nominate or self._nominated.get(COMPONENT) is pair
        check = self._checks[pair] = super().build_request(pair, nominate)
        return check

    def check_complete(self, pair: aioice.ice.CandidatePair) -> None:
        """Upstream takes whichever pair was nominated last, and then tries no other."""
        pair.task = None
        self._news.set()
        if pair.state is State.SUCCEEDED:
            self._is_heard = True
            if pair.nominated:
                self._select(pair)
            if self._check_list_maybe_complete():
                return
            for other in self._check_list:  # RFC 8445 §7.2.5.3.3
                is_like = other.local_candidate.foundation == (
                    pair.local_candidate.foundation
                )
                if is_like and other.state is State.FROZEN:
                    self.check_state(other, State.WAITING)
        self._check_list_maybe_fail()

    def _check_list_maybe_fail(self) -> None:
        """Not at once (RFC 8863): ours may be answered from another address than they
        went to, which upstream takes for failed, while the peer's own find the way."""
        if self._has_waited:
            super()._check_list_maybe_fail()
            self._news.set()
        elif self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(PATIENCE_S, self._end_patience)

    def _end_patience(self) -> None:
        self._has_waited = True
        self._check_list_maybe_fail()

    def _select(self, pair: aioice.ice.CandidatePair) -> None:
        former = self._nominated.get(COMPONENT)
        may_be_relay = is_relayed(pair) or self._is_unnamed(pair)
        if former is not None and may_be_relay and not is_relayed(former):
            return
        self._nominated[COMPONENT] = pair
        for other in list(self._check_list):
            if other.state in UNCHECKED and (is_relayed(other) or not may_be_relay):
                if other.task is not None:
                    other.task.cancel()
                self._check_list.remove(other)

    def _check_periodic(self) -> bool:
        """False once every pair has its check: connect() then awaits the outcome.

        Upstream sleeps 20 ms first, also when that was the only pair.
        """
        return super()._check_periodic() and (
            self._remote_candidates_expected() or self._has_unchecked
        )

    @property
    def _has_unchecked(self) -> bool:
        return any(p.task is None and p.state in UNCHECKED for p in self._check_list)

    async def _next_turn(self) -> None:
        """Until another pair may be tried, or there is a way, or no way any more.

        Upstream looks every 20 ms: a pair that came in a pause, or the outcome, then
        waits for 10 ms on average. Here only what comes in quick succession does.
        """
        loop = asyncio.get_running_loop()
        paced = loop.time() + PACE_S
        while not self._check_list_done:
            self._news.clear()
            is_more = self._has_unchecked or not self._remote_candidates_expected()
            try:
                async with asyncio.timeout_at(paced if is_more else None):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _watch(self) -> None:
        """Check the pair in use when a stream breaks off, whoever controls. Without an
        answer it is stalled."""
        while True:
            await asyncio.sleep(TICK_S)
            pair = self._nominated.get(COMPONENT)
            if pair is None or not self._pulse.tick():
                continue
            assert self.remote_password is not None
            try:
                await pair.protocol.request(
                    self.build_request(pair, nominate=False),
                    pair.remote_addr,
                    integrity_key=self.remote_password.encode(),
                    retransmissions=1,  # for 1.5 s
                )
            except aioice.stun.TransactionError:
                self._stall("no answer where a stream was")
            else:
                self._pulse.answer()

    def _stall(self, why: str) -> None:
        if not self._pulse.is_stalled:
            log.info("a path is stalled: %s", why)
            self._pulse.miss()
            self.on_stall()

    @property
    def is_stalled(self) -> bool:
        """A stream broke off here, and nothing has been heard since."""
        return self._pulse.is_stalled


def is_relayed(pair: aioice.ice.CandidatePair) -> bool:
    return "relay" in (pair.local_candidate.type, pair.remote_candidate.type)
