"""The client of a signaling server: stays logged in, comes back, asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final, NoReturn

import aiohttp
import nacl.utils

from meshllm.errors import (
    Code,
    MeshError,
    NotAllowed,
    PeerGone,
    PeerUnreachable,
    RemoteProtocolError,
    TrustError,
)
from meshllm.identity import Identity
from meshllm.protocol import signals
from meshllm.transport.signaling_socket import (
    NO_HANDLERS,
    Credentials,
    SignalingHandlers,
    SignalingSocket,
)
from meshllm.trust.keys import PeerId, b64decode, b64encode

__all__ = ["SignalingClient", "SignalingHandlers", "retry_delay_s"]

log = logging.getLogger(__name__)

PROBE_S: Final = 1.5
AGAIN_S: Final = 5  # to log in anew for an envelope that got no answer
STABLE_S: Final = 5  # a connection that lasted less counts as one more failure
BACKOFF_S: Final = 30
# TURN credentials live 1 h; a new login, which nobody notices, brings new ones.
RENEW_S: Final = 45 * 60
RENEW_AGAIN_S: Final = 60  # the hub would not: some tries before they end
# These pass by themselves; all other refusals need a person to mend something.
PASSING: Final = frozenset(
    {Code.BUSY, Code.QUOTA, Code.TIMEOUT, Code.DRAINING, Code.INTERNAL}
)


class SignalingClient:
    """`server` is the hub's pinned key, None for whichever answers (then `server` has
    it). `chain` is asked for at every login. Somebody has to `run` it."""

    def __init__(
        self,
        url: str,
        server: PeerId | None,
        identity: Identity,
        conn: bytes,
        chain: Callable[[], Sequence[str]],
        *,
        handlers: SignalingHandlers = NO_HANDLERS,
    ) -> None:
        self._who = Credentials(url, server, identity, conn)
        self._chain = chain
        self._handlers = handlers
        self._live: SignalingSocket | None = None
        self._failure: MeshError | None = None
        self._announcement: signals.Announce | None = None
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._logging_in: asyncio.Timeout | None = None  # ends it for another one
        self._reading: asyncio.Timeout | None = None  # ends it for another login
        self._sending: list[asyncio.Event] = []  # one for each, set when it is over

    @classmethod
    @contextlib.asynccontextmanager
    async def once(
        cls,
        url: str,
        server: PeerId | None,
        identity: Identity,
        *,
        chain: Sequence[str] = (),
        handlers: SignalingHandlers = NO_HANDLERS,
    ) -> AsyncIterator[SignalingClient]:
        """Logged in for as long as the block lasts; raises what a login raises."""
        conn = nacl.utils.random(16)
        client = cls(url, server, identity, conn, lambda: chain, handlers=handlers)
        async with aiohttp.ClientSession() as session:
            live = await client._log_in(session)
            reader = asyncio.create_task(client._read_once(live))
            try:
                yield client
            finally:
                client._live = None
                reader.cancel()
                await asyncio.wait([reader])
                await live.close()

    @property
    def url(self) -> str:
        return self._who.url

    @property
    def server(self) -> PeerId | None:
        """The hub's key: pinned, or seen at the first login."""
        return self._who.server

    @property
    def is_connected(self) -> bool:
        return self._live is not None

    async def wait_connected(self, timeout_s: float) -> signals.Welcome:
        """Raises at once when the hub refuses us; PeerUnreachable after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._live is None:
                    if self._failure is not None and is_lasting(self._failure):
                        raise self._failure
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as exc:
            raise self._failure or PeerUnreachable(
                f"The signaling server at {self.url} does not answer."
            ) from exc
        return self._live.welcome

    # Asking

    async def request(
        self, message: signals.Request | signals.Ping
    ) -> signals.HubMessage:
        """The answer; `re` is filled in. Raises as SignalingSocket.request."""
        if self._live is None:
            why = self._failure or f"Not connected to {self.url} yet."
            raise PeerUnreachable(str(why))
        return await self._live.request(message)

    async def announce(self, card: str | None) -> None:
        """Offer models to the mesh, or withdraw. Said again after every reconnect;
        while there is no connection this only remembers it."""
        before, self._announcement = self._announcement, signals.Announce(0, card)
        if self._live is None:
            return
        try:
            await self._live.request(self._announcement)
        except NotAllowed:
            self._announcement = before
            raise

    async def send(self, to: PeerId, conn: bytes | None, sealed: bytes) -> None:
        """Pass an envelope on. PeerUnreachable when `to` is not there.

        The network may have changed since we last heard of the hub: when no answer
        comes soon, we log in anew and send it again (who gets it twice drops one). So
        it is when the connection is lost: an offer without its candidates is no use.
        """
        message = signals.Send(0, to, conn, b64encode(sealed))
        earlier, ended = tuple(self._sending), asyncio.Event()
        self._sending.append(ended)
        try:
            if not await self._send_soon(message):
                for one in earlier:  # candidates must not pass their offer
                    await one.wait()
                await self.wait_connected(AGAIN_S)
                await self.request(message)
        finally:
            self._sending.remove(ended)
            ended.set()

    async def _send_soon(self, message: signals.Send) -> bool:
        """False when it may not have arrived."""
        live = self._live
        try:
            async with asyncio.timeout(PROBE_S):
                await self.request(message)
        except TimeoutError:
            self._abandon(live)
            return False
        except PeerGone:
            raise
        except PeerUnreachable:  # the connection was lost, before or meanwhile
            return False
        return True

    async def put_ticket(self, id: bytes, sealed: bytes, until: int) -> None:
        await self.request(signals.PutTicket(0, id, b64encode(sealed), until))

    async def get_ticket(self, id: bytes) -> bytes:
        """PeerUnreachable when it has ended or never was."""
        answer = await self.request(signals.GetTicket(0, id))
        if not isinstance(answer, signals.SealedTicket):
            raise RemoteProtocolError("The signaling server sent no ticket.")
        return b64decode(answer.sealed)

    async def leave_card(self, chain: Sequence[str]) -> None:
        await self.request(signals.LeaveCard(0, tuple(chain)))

    async def grant(self, membership: str) -> None:
        await self.request(signals.Grant(0, membership))

    async def register(self, setup: bytes | None, statement: str) -> None:
        await self.request(signals.Register(0, setup, statement))

    async def revoke(self, revocations: str) -> None:
        await self.request(signals.Revoke(0, revocations))

    async def open_mailbox(self) -> int:
        """Its number. It is open for as long as this connection, at most 600 s."""
        answer = await self.request(signals.OpenMailbox(0))
        if not isinstance(answer, signals.Mailbox):
            raise RemoteProtocolError("The signaling server opened no mailbox.")
        return answer.number

    async def join_mailbox(self, number: int) -> None:
        """PeerUnreachable when there is none, NotAllowed when others are in it."""
        await self.request(signals.JoinMailbox(0, number))

    async def post(self, letter: bytes) -> None:
        """To the other one in our mailbox."""
        await self.request(signals.Post(0, b64encode(letter)))

    async def probe(self) -> bool:
        """Whether the hub answers within 1.5 s. If not, or when there is no connection,
        logs in anew at once: for when the network changed or the machine woke up."""
        live, logging_in = self._live, self._logging_in
        if live is not None:
            with contextlib.suppress(TimeoutError, MeshError):
                async with asyncio.timeout(PROBE_S):
                    await live.request(signals.Ping(0))
                    return True
        self._abandon(live)
        self._hurry.set()
        if logging_in is not None and logging_in is self._logging_in:
            # It began in the network that was; its packets may lead nowhere now.
            self._logging_in = None
            logging_in.reschedule(asyncio.get_running_loop().time())
        return False

    def _abandon(self, live: SignalingSocket | None) -> None:
        """It may be half open. It stays until there is another: to close it first would
        tell the hub, once the network is back, that this node has ended."""
        if live is None or live is not self._live:
            return
        log.info("signaling: no answer within %g s, logging in anew", PROBE_S)
        self._live = None
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    # Staying connected

    async def run(self) -> None:
        """Connects, and reconnects, until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        async with aiohttp.ClientSession() as session:
            while True:
                since = loop.time()
                self._hurry.clear()
                try:
                    await self._stay(session)
                except MeshError as exc:
                    failures = 1 if loop.time() - since > STABLE_S else failures + 1
                    self._fail(exc)
                    await self._pause(failures, exc)

    async def _stay(self, session: aiohttp.ClientSession) -> NoReturn:
        live = await self._log_in(session)
        aside = [asyncio.create_task(self._announce_again(live, self._announcement))]
        is_fresh = True
        try:
            while True:
                renews = any(server.credential for server in live.welcome.ice)
                renew_s = RENEW_S if is_fresh else RENEW_AGAIN_S
                renewal = asyncio.timeout(renew_s if renews else None)
                try:
                    async with renewal:
                        self._reading = renewal
                        await live.read(self._handlers)
                except TimeoutError:
                    if not renewal.expired():
                        raise
                    self._reading = None
                    old, is_silent = live, self._live is None
                    live = await self._renew(session, old)
                    is_fresh = live is not old
                    if is_fresh and is_silent:
                        aside = [task for task in aside if not task.done()]
                        aside.append(asyncio.create_task(old.close()))
                    elif is_fresh:
                        await self._read_to_its_end(old)
        finally:
            self._live = self._reading = None
            for task in aside:
                task.cancel()
            await asyncio.gather(*aside, return_exceptions=True)
            await live.close()

    async def _log_in(self, session: aiohttp.ClientSession) -> SignalingSocket:
        live = await self._connect(session)
        self._who = replace(self._who, server=live.server)
        self._live, self._failure = live, None
        self._news.set()
        self._handlers.on_welcome(live.welcome)
        self._handlers.on_state(True, None)
        return live

    async def _connect(self, session: aiohttp.ClientSession) -> SignalingSocket:
        while True:
            self._logging_in = asyncio.timeout(None)
            try:
                async with self._logging_in:
                    return await SignalingSocket.connect(
                        session, self._who, self._chain()
                    )
            except TimeoutError:
                log.info("signaling: logging in anew, the network has changed")
            finally:
                self._logging_in = None

    async def _announce_again(
        self, live: SignalingSocket, announcement: signals.Announce | None
    ) -> None:
        if announcement is None:
            return
        try:
            await live.request(announcement)
        except MeshError as exc:
            log.warning("signaling: not announced: %s", exc)
            self._handlers.on_state(True, f"Not announced: {exc}")

    async def _renew(
        self, session: aiohttp.ClientSession, old: SignalingSocket
    ) -> SignalingSocket:
        """A second login with the same conn: the hub moves us over to it and closes the
        first. That one when the hub would not."""
        try:
            return await self._log_in(session)
        except MeshError as exc:
            log.info("signaling: the login could not be renewed: %s", exc)
            self._live = old
            self._news.set()
            return old

    async def _read_to_its_end(self, old: SignalingSocket) -> None:
        """So that nothing is lost that was sent before the hub moved us over."""
        with contextlib.suppress(MeshError, TimeoutError):
            async with asyncio.timeout(PROBE_S):
                await old.read(self._handlers)
        await old.close()

    async def _read_once(self, live: SignalingSocket) -> None:
        try:
            await live.read(self._handlers)
        except MeshError as exc:
            self._live = None
            self._fail(exc)
            await live.close()

    def _fail(self, why: MeshError) -> None:
        self._failure = why
        self._news.set()
        self._handlers.on_state(False, str(why))

    async def _pause(self, failures: int, why: MeshError) -> None:
        if is_lasting(why):
            failures += 8  # as slow as it gets
        delay_s = retry_delay_s(failures, random.SystemRandom().random())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._hurry.wait()


def is_lasting(why: MeshError) -> bool:
    """Whether a person has to mend something: trying again soon is useless."""
    if isinstance(why, NotAllowed):
        return why.code not in PASSING
    return isinstance(why, TrustError)


def retry_delay_s(failures: int, jitter: float) -> float:
    """How long to wait after so many failures in a row. `jitter` is from 0 to 1.

    The first retry is at once: most losses are a changed network or a restarted hub.
    From the second on, jitter spreads the clients of a hub that went away.
    """
    if failures <= 1:
        return 0
    doubled = float(1 << min(failures - 2, 10))
    return min(BACKOFF_S, doubled) * (0.5 + jitter / 2)
