"""One WebSocket to a signaling server: the login, questions, and what it tells."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from meshllm.protocol import login, signals
from meshllm.protocol.signal_codec import decode_hub, encode
from meshllm.trust.keys import PeerId, b64decode, short

log = logging.getLogger(__name__)

CONNECT_S: Final = 10
REQUEST_S: Final = 10
HEARTBEAT_S: Final = 20
CLOSE_S: Final = 0.5  # a half-open connection answers no close
SKEW_S: Final = 300
LOST: Final = "The connection to the signaling server was lost."


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class SignalingHandlers:
    """What the hub tells us, as it comes and unverified. Called from the reader: they
    must be quick and not raise. `on_state` is told why a connection ended, or why what
    we announced is not announced."""

    on_welcome: Callable[[signals.Welcome], None] = _ignore
    on_roster: Callable[[tuple[str, ...], tuple[PeerId, ...]], None] = _ignore
    on_left: Callable[[bytes], None] = _ignore
    on_signal: Callable[[PeerId, bytes, bytes], None] = _ignore
    on_card: Callable[[tuple[str, ...], bool], None] = _ignore
    on_membership: Callable[[str, str], None] = _ignore
    on_statement: Callable[[str], None] = _ignore
    on_revocations: Callable[[str], None] = _ignore
    on_letter: Callable[[bytes], None] = _ignore
    on_mailbox_closed: Callable[[Code], None] = _ignore
    on_state: Callable[[bool, str | None], None] = _ignore


NO_HANDLERS: Final = SignalingHandlers()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login needs. `server` is the hub's pinned key; None takes the one that it
    shows: for a short link, whose ticket then says which it must be."""

    url: str
    server: PeerId | None
    identity: Identity
    conn: bytes


class SignalingSocket:
    """A socket that is logged in. `connect` makes one; somebody has to run `read`."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        server: PeerId,
        welcome: signals.Welcome,
    ) -> None:
        self.server = server
        self.welcome = welcome
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[signals.HubMessage]] = {}
        self._last_re = 0

    @classmethod
    async def connect(
        cls, session: aiohttp.ClientSession, who: Credentials, chain: Sequence[str]
    ) -> SignalingSocket:
        """PeerUnreachable when there is no hub, TrustError when it is another one,
        NotAllowed when it refuses us."""
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await session.ws_connect(
                    who.url.rstrip("/") + "/v1/signal",
                    max_msg_size=signals.HUB_MESSAGE_BYTES,
                    heartbeat=HEARTBEAT_S,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
                try:
                    server, welcome = await _log_in(socket, who, tuple(chain))
                except BaseException:
                    await socket.close()
                    raise
        except aiohttp.WSServerHandshakeError as exc:
            raise PeerUnreachable(
                f"{who.url} is no signaling server: it answers {exc.status}."
            ) from exc
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            raise PeerUnreachable(
                f"The signaling server at {who.url} cannot be reached: {_why(exc)}."
            ) from exc
        return cls(socket, server, welcome)

    async def close(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(PeerUnreachable(LOST))
                future.exception()  # whoever asked may have been cancelled meanwhile
        await self._socket.close()

    async def request(
        self, message: signals.Request | signals.Ping
    ) -> signals.HubMessage:
        """Sends it with a fresh `re`, returns the answer. Raises PeerGone when what was
        asked for is not there, PeerUnreachable when no answer comes, else NotAllowed
        with the hub's code and text."""
        self._last_re = re = self._last_re % (2**31 - 1) + 1
        self._waiting[re] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(REQUEST_S):
                await self._say(replace(message, re=re))
                answer = await self._waiting[re]
        except TimeoutError as exc:
            raise PeerUnreachable("The signaling server did not answer.") from exc
        finally:
            del self._waiting[re]
        if isinstance(answer, signals.Refused):
            raise _refusal(answer)
        return answer

    async def read(self, handlers: SignalingHandlers) -> NoReturn:
        """Until the connection ends, and then raises why."""
        while True:
            message = await _next(self._socket)
            re = getattr(message, "re", None)
            if isinstance(message, signals.Ping):
                await self._say(signals.Pong(message.re))
            elif re is not None:
                future = self._waiting.get(re)
                if future is not None and not future.done():
                    future.set_result(message)
            elif isinstance(message, signals.Refused):
                raise _refusal(message)  # the hub is closing this socket
            else:
                _tell(handlers, message)

    async def _say(self, message: signals.ClientMessage) -> None:
        try:
            await self._socket.send_str(encode(message))
        except (ConnectionError, aiohttp.ClientError) as exc:
            raise PeerUnreachable(LOST) from exc


async def _log_in(
    socket: aiohttp.ClientWebSocketResponse, who: Credentials, chain: tuple[str, ...]
) -> tuple[PeerId, signals.Welcome]:
    """Our side of docs/protocol.md §3.1."""
    challenge = await _next(socket)
    if not isinstance(challenge, signals.Challenge):
        raise _refusal(challenge)
    _check_challenge(challenge, who)
    me, nonce = who.identity.id, nacl.utils.random(32)
    transcript = login.transcript(
        origin=login.origin(who.url),
        server=challenge.server,
        server_nonce=challenge.nonce,
        client=me,
        client_nonce=nonce,
        ts=challenge.ts,
    )
    sig = login.sign_login("client", transcript, who.identity.signing)
    await socket.send_str(encode(signals.Login(me, nonce, who.conn, sig, chain)))
    welcome = await _next(socket)
    if not isinstance(welcome, signals.Welcome):
        raise _refusal(welcome)
    login.check_login("server", transcript, welcome.sig, challenge.server)
    return challenge.server, welcome


def _check_challenge(challenge: signals.Challenge, who: Credentials) -> None:
    if who.server is not None and challenge.server != who.server:
        raise TrustError(
            f"The server at {who.url} is not the one that this mesh was made with: its"
            f" key is {short(challenge.server)}, not {short(who.server)}. Somebody else"
            " may have its address now; ask the owner of the mesh."
        )
    low, high = challenge.versions
    if low > signals.VERSIONS[1] or high < signals.VERSIONS[0]:
        raise NotAllowed(
            f"The signaling server speaks versions {low} to {high} of the protocol,"
            " which this meshllm does not. Update the older of the two.",
            Code.VERSION,
        )
    skew_s = challenge.ts - int(time.time())
    if abs(skew_s) > SKEW_S:
        log.warning("signaling: the server's clock is %d s from ours", skew_s)


async def _next(socket: aiohttp.ClientWebSocketResponse) -> signals.HubMessage:
    """The next message of a kind we know."""
    while True:
        frame = await socket.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise PeerUnreachable(LOST)
        message = decode_hub(frame.data)
        if not isinstance(message, signals.Unknown):
            return message


def _tell(on: SignalingHandlers, message: signals.HubMessage) -> None:
    match message:
        case signals.Roster(joined, left):
            on.on_roster(joined, left)
        case signals.Left(conn):
            on.on_left(conn)
        case signals.Signal(sender, conn, sealed):
            # The hub reads no envelopes: a bad one is its sender's fault alone.
            try:
                on.on_signal(sender, conn, b64decode(sealed))
            except MeshError as exc:
                log.info("signaling: %s sent no envelope: %s", short(sender), exc)
        case signals.CardLeft(chain, conflict):
            on.on_card(chain, conflict)
        case signals.Granted(membership, statement):
            on.on_membership(membership, statement)
        case signals.NewStatement(statement):
            on.on_statement(statement)
        case signals.Revoked(revocations):
            on.on_revocations(revocations)
        case signals.Letter(letter):
            on.on_letter(b64decode(letter))
        case signals.MailboxClosed(code):
            on.on_mailbox_closed(code)
        case _:
            raise RemoteProtocolError("The signaling server begins its login anew.")


def _refusal(message: signals.HubMessage) -> MeshError:
    if not isinstance(message, signals.Refused):
        return RemoteProtocolError("The signaling server breaks the protocol.")
    if message.code is Code.GONE:
        return PeerGone(message.text)
    return NotAllowed(message.text, message.code)


def _why(error: Exception) -> str:
    """The operating system's own word, without the addresses around it."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "there is no such host"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not valid"
        case OSError(errno=int() as number):
            return os.strerror(number).lower()
        case TimeoutError():
            return "no answer"
    return str(error) or "no answer"
