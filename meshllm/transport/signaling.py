"""The WebSocket client of a signaling server: log in, stay connected, ask, be told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

import aiohttp
import nacl.utils

from meshllm.errors import (
    Code,
    MeshError,
    NotAllowed,
    PeerUnreachable,
    RemoteProtocolError,
    TrustError,
)
from meshllm.identity import Identity
from meshllm.protocol import login, signals
from meshllm.protocol.signal_codec import decode_hub, encode
from meshllm.trust.keys import PeerId, b64decode, b64encode, short

log = logging.getLogger(__name__)

CONNECT_S: Final = 10
REQUEST_S: Final = 10
PROBE_S: Final = 1.5
HEARTBEAT_S: Final = 20
CLOSE_S: Final = 0.5  # a half-open connection answers no close
STABLE_S: Final = 5  # a connection that lasted less counts as a failure
BACKOFF_S: Final = 30
# TURN credentials in a welcome live 1 h; a new login, unseen by anyone, renews them.
RENEW_S: Final = 45 * 60
SKEW_S: Final = 300
LOST: Final = "The connection to the signaling server was lost."


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class SignalingHandlers:
    """What the hub tells us, as it comes and unverified. Called from the reader: they
    must be quick and not raise."""

    on_welcome: Callable[[signals.Welcome], None] = _ignore
    on_roster: Callable[[tuple[str, ...], tuple[PeerId, ...]], None] = _ignore
    on_signal: Callable[[PeerId, bytes, bytes], None] = _ignore
    on_card: Callable[[tuple[str, ...], bool], None] = _ignore
    on_membership: Callable[[str, str], None] = _ignore
    on_statement: Callable[[str], None] = _ignore
    on_revocations: Callable[[str], None] = _ignore
    on_state: Callable[[bool, str | None], None] = _ignore


NO_HANDLERS: Final = SignalingHandlers()


@dataclass(slots=True)
class _Live:
    """One logged-in WebSocket and the requests that wait for its answers."""

    socket: aiohttp.ClientWebSocketResponse
    welcome: signals.Welcome
    waiting: dict[int, asyncio.Future[signals.HubMessage]] = field(default_factory=dict)

    async def close(self) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(PeerUnreachable(LOST))
                future.exception()  # seen: nobody may be waiting any more
        await self.socket.close()


def retry_delay_s(failures: int, jitter: float) -> float:
    """How long to wait after this many failures in a row. `jitter` is from 0 to 1.

    The first retry is at once: most losses are a changed network or a restarted hub.
    From the second on, jitter spreads the clients of a hub that went away.
    """
    if failures <= 1:
        return 0
    doubled = float(1 << min(failures - 2, 10))
    return min(BACKOFF_S, doubled) * (0.5 + jitter / 2)


class SignalingClient:
    """`server` is the hub's pinned key; None takes the one it shows, for a short link,
    whose ticket then says which it must be. `chain` is asked at every login."""

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
        self.url = url
        self.server = server
        self._origin = login.origin(url)
        self._identity = identity
        self._conn = conn
        self._chain = chain
        self._handlers = handlers
        self._live: _Live | None = None
        self._failure: MeshError | None = None
        self._card: str | None = None
        self._announces = False
        self._last_re = 0
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()

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
            reader = asyncio.create_task(client._read(live))
            try:
                yield client
            finally:
                client._live = None
                reader.cancel()
                await asyncio.wait([reader])
                await live.close()

    @property
    def is_connected(self) -> bool:
        return self._live is not None

    async def wait_connected(self, timeout_s: float) -> signals.Welcome:
        """Raises at once when the hub refuses us; PeerUnreachable after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._live is None:
                    if self._failure is not None and _is_final(self._failure):
                        raise self._failure
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as exc:
            raise self._failure or PeerUnreachable(
                f"The signaling server at {self.url} does not answer."
            ) from exc
        return self._live.welcome

    # Asking

    async def request(self, message: signals.Request | signals.Ping) -> object:
        """Sends it with a fresh `re` and returns the answer. Raises PeerUnreachable
        when there is none, NotAllowed with the hub's code and text when it refuses."""
        live = self._live
        if live is None:
            raise PeerUnreachable(
                str(self._failure or f"Not connected to {self.url} yet.")
            )
        re, future = self._expect(live)
        try:
            async with asyncio.timeout(REQUEST_S):
                await live.socket.send_str(encode(replace(message, re=re)))
                answer = await future
        except TimeoutError as exc:
            raise PeerUnreachable("The signaling server did not answer.") from exc
        except (ConnectionError, aiohttp.ClientError) as exc:
            raise PeerUnreachable(LOST) from exc
        finally:
            live.waiting.pop(re, None)
        if isinstance(answer, signals.Refused):
            raise _refusal(answer)
        return answer

    async def announce(self, card: str | None) -> None:
        """Offer models to the mesh, or withdraw. Said again after every reconnect;
        while there is no connection this only remembers it."""
        before = self._card, self._announces
        self._card, self._announces = card, True
        if self._live is None:
            return
        try:
            await self.request(signals.Announce(0, card))
        except NotAllowed:
            self._card, self._announces = before
            raise

    async def send(self, to: PeerId, conn: bytes | None, sealed: bytes) -> None:
        """Pass an envelope on. PeerUnreachable when `to` is not there."""
        await self.request(signals.Send(0, to, conn, b64encode(sealed)))

    async def put_ticket(self, id: bytes, sealed: bytes, until: int) -> None:
        await self.request(signals.PutTicket(0, id, b64encode(sealed), until))

    async def get_ticket(self, id: bytes) -> bytes:
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

    async def probe(self) -> bool:
        """Whether the hub answers within 1.5 s. If not, or when there is no connection,
        reconnects at once: for when the network changed or the machine woke up."""
        live = self._live
        if live is not None:
            with contextlib.suppress(TimeoutError, MeshError):
                async with asyncio.timeout(PROBE_S):
                    await self.request(signals.Ping(0))
                    return True
            await live.close()
        self._hurry.set()
        return False

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
                    self._lost(exc)
                    await self._pause(failures, exc)

    async def _stay(self, session: aiohttp.ClientSession) -> NoReturn:
        live = await self._log_in(session)
        try:
            while True:
                renews = any(server.credential for server in live.welcome.ice)
                renewal = asyncio.timeout(RENEW_S if renews else None)
                try:
                    async with renewal:
                        await self._read(live)
                except TimeoutError:
                    if not renewal.expired():
                        raise
                    live = await self._renew(session, live)
        finally:
            self._live = None
            await live.close()

    async def _renew(self, session: aiohttp.ClientSession, old: _Live) -> _Live:
        """A second login with the same conn: the hub moves us over to it and closes the
        first, which is read to its end, so that nothing is lost."""
        try:
            new = await self._log_in(session)
        except MeshError as exc:
            log.info("signaling: could not renew the login: %s", exc)
            return old
        with contextlib.suppress(MeshError, TimeoutError):
            async with asyncio.timeout(PROBE_S):
                await self._read(old)
        await old.close()
        return new

    async def _pause(self, failures: int, why: MeshError) -> None:
        if _is_final(why):
            failures = max(failures, 8)  # as slow as it gets: only a person can mend it
        delay_s = retry_delay_s(failures, random.SystemRandom().random())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._hurry.wait()

    def _lost(self, why: MeshError) -> None:
        self._failure = why
        self._news.set()
        self._handlers.on_state(False, str(why))

    async def _log_in(self, session: aiohttp.ClientSession) -> _Live:
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await session.ws_connect(
                    self.url.rstrip("/") + "/v1/signal",
                    max_msg_size=signals.HUB_MESSAGE_BYTES,
                    heartbeat=HEARTBEAT_S,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
                try:
                    live = _Live(socket, await self._prove(socket))
                    await self._announce_again(live)
                except BaseException:
                    await socket.close()
                    raise
        except aiohttp.WSServerHandshakeError as exc:
            raise PeerUnreachable(
                f"{self.url} is no signaling server: it answers {exc.status}."
            ) from exc
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            raise PeerUnreachable(
                f"The signaling server at {self.url} cannot be reached"
                f" ({exc or 'no answer'})."
            ) from exc
        self._live, self._failure = live, None
        self._news.set()
        self._handlers.on_welcome(live.welcome)
        self._handlers.on_state(True, None)
        return live

    async def _prove(self, socket: aiohttp.ClientWebSocketResponse) -> signals.Welcome:
        """The login of docs/protocol.md §3.1, our side."""
        challenge = await _next(socket)
        if not isinstance(challenge, signals.Challenge):
            raise _refusal(challenge)
        self._check_server(challenge)
        me, nonce = self._identity.id, nacl.utils.random(32)
        transcript = login.transcript(
            origin=self._origin,
            server=challenge.server,
            server_nonce=challenge.nonce,
            client=me,
            client_nonce=nonce,
            ts=challenge.ts,
        )
        sig = login.sign_login("client", transcript, self._identity.signing)
        chain = tuple(self._chain())
        await socket.send_str(encode(signals.Login(me, nonce, self._conn, sig, chain)))
        welcome = await _next(socket)
        if not isinstance(welcome, signals.Welcome):
            raise _refusal(welcome)
        login.check_login("server", transcript, welcome.sig, challenge.server)
        self.server = challenge.server
        return welcome

    def _check_server(self, challenge: signals.Challenge) -> None:
        if self.server is not None and challenge.server != self.server:
            raise TrustError(
                f"The server at {self.url} is not the one this mesh was made with: its"
                f" key is {short(challenge.server)}, not {short(self.server)}. Somebody"
                " else may have its address now; ask the owner of the mesh."
            )
        low, high = challenge.versions
        if low > signals.VERSIONS[1] or high < signals.VERSIONS[0]:
            raise NotAllowed(
                f"The signaling server speaks versions {low} to {high} of the protocol,"
                " which this meshllm does not. Update the older of the two.",
                Code.VERSION,
            )
        if abs(challenge.ts - time.time()) > SKEW_S:
            log.warning(
                "signaling: the clock of %s is %d s from ours; is ours right?",
                self.url,
                challenge.ts - time.time(),
            )

    async def _announce_again(self, live: _Live) -> None:
        if not self._announces:
            return
        re, future = self._expect(live)
        future.add_done_callback(self._announced_again)
        await live.socket.send_str(encode(signals.Announce(re, self._card)))

    def _announced_again(self, future: asyncio.Future[signals.HubMessage]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        if isinstance(answer := future.result(), signals.Refused):
            log.warning("signaling: not announced: %s", answer.text)
            self._handlers.on_state(True, answer.text)

    # Being told

    def _expect(self, live: _Live) -> tuple[int, asyncio.Future[signals.HubMessage]]:
        self._last_re = self._last_re % (2**31 - 1) + 1
        future: asyncio.Future[signals.HubMessage]
        future = asyncio.get_running_loop().create_future()
        live.waiting[self._last_re] = future
        return self._last_re, future

    async def _read(self, live: _Live) -> NoReturn:
        """Until the connection ends, and then raises why."""
        while True:
            message = await _next(live.socket)
            re = getattr(message, "re", None)
            if isinstance(message, signals.Ping):
                await live.socket.send_str(encode(signals.Pong(message.re)))
            elif re is not None:
                future = live.waiting.pop(re, None)
                if future is not None and not future.done():
                    future.set_result(message)
            elif isinstance(message, signals.Refused):
                raise _refusal(message)  # the hub is about to close this socket
            else:
                self._tell(message)

    def _tell(self, message: signals.HubMessage) -> None:
        on = self._handlers
        match message:
            case signals.Roster(joined, left):
                on.on_roster(joined, left)
            case signals.Signal(sender, conn, sealed):
                on.on_signal(sender, conn, b64decode(sealed))
            case signals.CardLeft(chain, conflict):
                on.on_card(chain, conflict)
            case signals.Granted(membership, statement):
                on.on_membership(membership, statement)
            case signals.NewStatement(statement):
                on.on_statement(statement)
            case signals.Revoked(revocations):
                on.on_revocations(revocations)
            case _:
                raise RemoteProtocolError("The signaling server is confused.")


async def _next(socket: aiohttp.ClientWebSocketResponse) -> signals.HubMessage:
    """The next message of a kind we know."""
    while True:
        frame = await socket.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise PeerUnreachable(LOST)
        message = decode_hub(frame.data)
        if not isinstance(message, signals.Unknown):
            return message


def _refusal(message: signals.HubMessage) -> MeshError:
    if not isinstance(message, signals.Refused):
        return RemoteProtocolError(
            "The signaling server does not keep to the protocol."
        )
    if message.code is Code.GONE:
        return PeerUnreachable(message.text)
    return NotAllowed(message.text, message.code)


def _is_final(why: MeshError) -> bool:
    """Whether trying again soon is useless."""
    if isinstance(why, NotAllowed):
        return why.code not in (Code.BUSY, Code.QUOTA, Code.DRAINING, Code.INTERNAL)
    return isinstance(why, TrustError)
