"""The signaling server: its options, its HTTP routes, its start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import nacl.utils
from aiohttp import web
from nacl.signing import SigningKey

from meshllm import health, page
from meshllm.errors import Code, ConfigError
from meshllm.identity import read_private, write_private
from meshllm.metrics import Fact, Metrics
from meshllm.protocol import login
from meshllm.protocol.signals import Ice, Signal, Welcome
from meshllm.store import sole
from meshllm.trust.keys import PeerId
from signaling.coturn import CoturnProcess
from signaling.coturn_plan import RelayOptions, plan
from signaling.hub import Hub
from signaling.kept import Admit
from signaling.limits import DEFAULT_LIMITS, Limits
from signaling.proxies import Network, caller
from signaling.sockets import CLOSE_S, Sockets
from signaling.tables import Table
from signaling.tls import Certificate
from signaling.turn import ice_servers

log = logging.getLogger(__name__)

TICK_S: Final = 1
# Every request but a WebSocket is answered in milliseconds. What stays longer says
# nothing, or says it byte by byte, to use up our file descriptors.
IDLE_S: Final = 15
HUB_KEY_FILE: Final = "hub.key"
SECOND: Final = (
    "A signaling server runs in this home already: process {pid}. End that one, or use"
    " another home for a second one: --home DIR."
)
GREETING: Final = (
    "This is a meshllm signaling server. Browsers get the chat page here; to join a"
    " mesh from a terminal, run: meshllm join LINK\n"
)
COUNTED: Final = {
    "connections": "WebSockets that are open.",
    "members": "Those that logged in as a member of a mesh.",
    "meshes": "Meshes that are registered.",
    "providers": "Nodes that announce models.",
}


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Of `meshllm signal`. `port` 0 takes a free one. `relay` is the coturn beside it,
    whose secret is that of `turn` too."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    stun: tuple[str, ...] = ()
    turn: tuple[str, ...] = ()
    turn_secret: bytes | None = field(default=None, repr=False)
    relay: RelayOptions | None = None
    trusted_proxies: tuple[Network, ...] = ()
    admit: Admit = Admit.SETUP
    limits: Limits = DEFAULT_LIMITS


class SignalingServer:
    """`start` it, read `url` and `setup_link`, `stop` it; or use `async with`."""

    def __init__(self, options: ServeOptions) -> None:
        """ConfigError when the options do not fit together."""
        self._options = options
        self._public = login.origin(options.public_url) if options.public_url else None
        if self._public is None and not is_loopback(options.host):
            raise ConfigError(
                f"Others can reach {options.host}, so they must know this server by one"
                " address: add --public-url https://…"
            )
        self._certificate = _certificate(options)
        self._coturn: CoturnProcess | None = None
        self._stun, self._turn = options.stun, options.turn
        self._secret = options.turn_secret
        self._started = time.monotonic()
        self._metrics = Metrics(self._facts)
        self._alone = contextlib.ExitStack()
        self._draining = False
        self._port = 0

    @property
    def url(self) -> str:
        """Where clients find it."""
        if self._options.public_url:
            return self._options.public_url.rstrip("/")
        host = self._options.host
        scheme = "https" if self._certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def id(self) -> PeerId:
        """The hub's key as peer id: what clients pin."""
        return self._hub.id

    @property
    def setup_link(self) -> str | None:
        """The one-time link for `meshllm init`, until it was used."""
        token = self._hub.kept.setup_token
        return f"{self.url}/#s1.{token}.{self._hub.id}" if token else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:  # also the second Ctrl-C: no time for goodbyes
            self._sockets.cut_all()
        await self.stop()

    async def start(self) -> None:
        """Serves when it returns. ConfigError when the port or a file will not do."""
        options = self._options
        key = load_hub_key(options.home)
        async with contextlib.AsyncExitStack() as undo:
            # Two with one memory each would let a link in twice.
            self._alone.enter_context(sole(options.home / "signal.lock", SECOND))
            undo.callback(self._alone.close)
            self._table = Table(options.home / "meshllm.db")
            undo.callback(self._table.close)
            self._hub = Hub(
                key,
                admit=options.admit,
                ice=self._ice,
                rows=self._table.rows(),
                limits=options.limits,
            )
            self._sockets = Sockets(self._hub, self._table)
            await self._offer_setup()
            if options.relay is not None:
                undo.push_async_callback(await self._start_coturn(options.relay))
            self._runner = web.AppRunner(
                self._app(), access_log=None, shutdown_timeout=2 * CLOSE_S
            )
            await self._runner.setup()
            undo.push_async_callback(self._runner.cleanup)
            await self._listen()
            undo.pop_all()
        self._ticking = asyncio.create_task(self._tick(), name="hub clock")

    async def _start_coturn(self, relay: RelayOptions) -> Callable[[], Awaitable[None]]:
        """How to stop it."""
        coturn = await plan(relay, self._options.home)
        self._coturn = CoturnProcess(coturn)
        await self._coturn.start()
        self._secret = coturn.secret.encode()
        self._stun = (coturn.stun_url, *self._options.stun)
        self._turn = (*coturn.urls, *self._options.turn)
        return self._coturn.stop

    async def _offer_setup(self) -> None:
        kept = self._hub.kept
        if self._options.admit is not Admit.SETUP or kept.meshes or kept.setup_token:
            return
        self._sockets.apply(kept.offer_setup(nacl.utils.random(16)))

    async def stop(self) -> None:
        """Says goodbye to everybody; they come back to whatever starts here next. When
        cancelled it says no more, and cuts everybody off."""
        self._draining = True
        self._ticking.cancel()
        await asyncio.wait([self._ticking])
        try:
            await self._sockets.stop()
        finally:
            await self._runner.cleanup()
            if self._coturn is not None:
                await self._coturn.stop()
            self._table.close()
            self._alone.close()

    def renew_certificate(self) -> None:
        """Somebody says that the files are new."""
        self._refresh(is_told=True)

    def _refresh(self, *, is_told: bool = False) -> None:
        certificate = self._certificate
        if certificate is None or not certificate.refresh(is_told=is_told):
            return
        if self._coturn is not None:
            self._coturn.reload_certificate()

    async def _tick(self) -> None:
        seen: dict[object, float] = {}
        while True:
            await asyncio.sleep(TICK_S)
            self._sockets.tick()
            self._refresh()
            seen = self._cut_idle(seen, time.monotonic())

    def _cut_idle(self, seen: dict[object, float], now: float) -> dict[object, float]:
        """`seen` has since when each connection is here; WebSockets are not among them
        any more."""
        server = self._runner.server
        connections = server.connections if server else []
        still: dict[object, float] = {}
        for connection in connections:
            transport = connection.transport
            if transport is None:
                continue
            still[connection] = seen.get(connection, now)
            if now - still[connection] > IDLE_S:
                transport.abort()
        return still

    async def _listen(self) -> None:
        options = self._options
        site = web.TCPSite(
            self._runner,
            options.host,
            options.port,
            ssl_context=self._certificate.context if self._certificate else None,
        )
        try:
            await site.start()
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"Port {options.port} is in use."
                    f" Try `meshllm signal --port {options.port + 1}`."
                ) from exc
            raise ConfigError(
                f"Cannot listen on {options.host} port {options.port}: {exc.strerror}."
            ) from exc
        self._port = self._runner.addresses[0][1]

    def _ice(self, id: PeerId, now: float) -> tuple[Ice, ...]:
        return ice_servers(self._stun, self._turn, self._secret, id, now)

    # Routes

    def _app(self) -> web.Application:
        app = web.Application()
        app.on_response_prepare.append(health.name_server)
        app.router.add_get("/", self._greet)
        app.router.add_get("/assets/{name}", self._page)
        app.router.add_get("/icons/{name}", self._page)
        for path in page.OTHERS:
            app.router.add_get(path, self._page)
        app.router.add_get("/health", self._health)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/v1/signal", self._signal, allow_head=False)
        return app

    async def _greet(self, request: web.Request) -> web.Response:
        if "text/html" in request.headers.get("Accept", ""):
            return page.document(request, "signal")
        return web.Response(text=GREETING)

    async def _page(self, request: web.Request) -> web.Response:
        return page.file(request)

    async def _health(self, request: web.Request) -> web.Response:
        facts: dict[str, object] = {**self._hub.counts()}
        if self._coturn is not None:
            facts["coturn"] = "running" if self._coturn.is_running else "restarting"
        return health.health(request, time.monotonic() - self._started, facts)

    async def _ready(self, request: web.Request) -> web.Response:
        return health.ready(request, not self._draining, {})

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return self._metrics.page()

    def _facts(self) -> Iterator[Fact]:
        counts, said = self._hub.counts(), self._sockets.said
        for name, text in COUNTED.items():
            yield Fact(f"meshllm_hub_{name}", text, counts[name])
        yield Fact(
            "meshllm_hub_logins_total", "Logins that were let in.", said[Welcome]
        )
        yield Fact(
            "meshllm_hub_introductions_total",
            "Envelopes passed from one peer to another, unread.",
            said[Signal],
        )
        if self._coturn is not None:
            yield Fact(
                "meshllm_hub_coturn_up",
                "Whether the coturn beside the server answers.",
                self._coturn.is_running,
            )
        for code in Code:
            yield Fact(
                "meshllm_hub_refusals_total",
                "What was refused, by reason (docs/protocol.md §8).",
                self._sockets.refusals[code],
                {"reason": code.name.lower()},
            )

    async def _signal(self, request: web.Request) -> web.StreamResponse:
        if self._draining:
            raise web.HTTPServiceUnavailable(text="The server is stopping.\n")
        self._sockets.serve(request, self._origin(request), self._address(request))
        return web.Response()  # to nobody: the connection is aiohttp's no more

    def _origin(self, request: web.Request) -> str:
        """What a login is bound to. Without --public-url that is how the caller
        addressed this machine: only by a loopback name, because a page of another host
        (DNS rebinding) must not pass for us."""
        if self._public is not None:
            return self._public
        try:
            origin = login.origin(f"{request.scheme}://{request.host}")
        except ConfigError as exc:
            raise web.HTTPBadRequest(text="Bad Host header.\n") from exc
        if not is_loopback(urlsplit(origin).hostname or ""):
            raise web.HTTPForbidden(text="This server is for this machine only.\n")
        return origin

    def _address(self, request: web.Request) -> str:
        """Whose the limits are."""
        headers = request.headers
        return caller(
            request.remote or "",
            headers.getall("X-Forwarded-For", ()),
            headers.getall("Forwarded", ()),
            self._options.trusted_proxies,
        )


def load_hub_key(home: Path) -> SigningKey:
    """HOME/hub.key, made at the first start. ConfigError when it cannot be used."""
    path = home / HUB_KEY_FILE
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was first
            write_private(path, {"ed25519": SigningKey.generate().encode()})
    return SigningKey(read_private(path, ("ed25519",))["ed25519"])


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _certificate(options: ServeOptions) -> Certificate | None:
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise ConfigError("--tls-cert and --tls-key go together.")
    return Certificate(options.tls_cert, options.tls_key)
