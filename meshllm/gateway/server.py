"""The gateway's listening socket: takes requests in, guards them, ends them on stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from meshllm import page
from meshllm.dialects import BadRequest
from meshllm.errors import Code, MeshError, NotAllowed, StreamReset
from meshllm.gateway import guards, routes
from meshllm.gateway.access import PageAccess
from meshllm.gateway.call import RETRY_AFTER, Call
from meshllm.gateway.idle import Idle
from meshllm.gateway.meter import Meter
from meshllm.gateway.options import Options
from meshllm.gateway.ports import address, cannot_listen, reachable
from meshllm.health import NamedServer
from meshllm.metrics import Fact, Facts
from meshllm.routing.seam import Mesh, NoRoute

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 120.0  # programs pool connections and wonder at resets when we are first
# After a refusal the program may still be sending its body: we read on that long, so
# that it sees the refusal and not a reset.
LINGER_S = 2.0
LOOK_S = 1.0  # how often connections are looked at that say nothing


class Gateway:
    """Serves `mesh` as Ollama and OpenAI from `start()` to `stop()`.

    `facts` are what /metrics tells of the node behind it; `access` knows the browsers
    that were let in to the page.
    """

    def __init__(
        self,
        mesh: Mesh,
        options: Options,
        facts: Facts = tuple,
        access: PageAccess | None = None,
    ) -> None:
        self._mesh = mesh
        self._facts = facts
        self._meter = Meter(self._all_facts)
        self._options = options
        self.access = access or PageAccess(secrets.token_bytes(32))
        self._waiting: dict[str, int] = {}
        self._own_names = _own_names()
        self._calls: dict[asyncio.Task[Any], Call] = {}
        self._idle = Idle[Any]()
        self._looking: asyncio.Task[None] | None = None
        self._runner: web.ServerRunner | None = None
        self._started_at = 0.0
        self._is_draining = False
        self.url = ""

    async def start(self) -> None:
        """Listens; `url` is then where programs of this machine find it.

        Raises ConfigError when it cannot listen there.
        """
        loop = asyncio.get_running_loop()
        server = NamedServer(
            self._serve,
            handler_cancellation=True,  # a program that hangs up stops the GPU
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGER_S,
        )
        runner = web.ServerRunner(server, shutdown_timeout=LINGER_S)
        await runner.setup()
        site = web.TCPSite(runner, self._options.host, self._options.port)
        try:
            await site.start()
        except OSError as exc:
            await runner.cleanup()
            options = self._options
            raise await cannot_listen(
                options.host, options.port, exc, has_key=options.api_key is not None
            ) from exc
        self._runner = runner
        self._looking = loop.create_task(self._look(server), name="idle connections")
        self._is_draining = False
        self._started_at = loop.time()
        port = runner.addresses[0][1]
        self.url = f"http://{address(reachable(self._options.host), port)}"

    @property
    def page(self) -> str:
        """The one-time link that opens the chat page; another one after its use."""
        return self.access.link(self.url)

    async def stop(self) -> None:
        """Refuses new requests, gives running ones `drain_s`, cancels the rest.

        When it returns every answer of the mesh is closed.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._is_draining = True
        if self._calls:
            log.info("finishing %d answers", len(self._calls))
            await asyncio.wait(self._calls, timeout=self._options.drain_s)
        for site in runner.sites:
            await site.stop()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        assert runner.server is not None
        runner.server.pre_shutdown()
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        await runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._idle.forget(request.protocol)
        uptime_s = asyncio.get_running_loop().time() - self._started_at
        id = secrets.token_hex(16)
        call = Call(
            request,
            self._mesh,
            id,
            uptime_s,
            self._meter.page,
            self.access,
            self._waiting,
        )
        self._calls[task] = call
        response: web.StreamResponse | None = None
        try:
            response = await self._answer(call)
            return response
        finally:
            self._meter.note(call, response, time.monotonic())
            del self._calls[task]
            self._idle.forget(request.protocol)

    async def _look(self, server: web.Server) -> None:
        """As long as we listen: cut what holds a file descriptor and asks nothing."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_S)
            waiting: dict[Any, int | None] = dict.fromkeys(server.connections)
            for call in self._calls.values():
                content = call.request.content
                if content.is_eof():
                    waiting.pop(call.request.protocol, None)
                else:
                    waiting[call.request.protocol] = content.total_bytes
            for connection in self._idle.due(waiting, clock()):
                if connection.transport is not None:
                    connection.transport.abort()

    def _all_facts(self) -> Iterator[Fact]:
        text = "Requests under way, this one included."
        yield Fact("meshllm_requests_running", text, len(self._calls))
        yield from self._facts()

    async def _answer(self, call: Call) -> web.StreamResponse:
        request = call.request
        try:
            refused = self._guard(call) or self._refuse_while_draining(call)
            return refused or await routes.answer(call)
        except NoRoute as exc:
            response = call.error(exc.status, str(exc), exc.code)
            if exc.retry_after_s is not None:
                response.headers["Retry-After"] = str(exc.retry_after_s)
        except BadRequest as exc:
            response = call.error(exc.status, str(exc))
        except MeshError as exc:
            response = call.error(_status(exc), str(exc))
        except Exception as exc:
            if isinstance(exc, ConnectionError) and _has_hung_up(request):
                return web.Response(status=499)  # which nobody reads
            if request.writer.output_size > 0:
                raise  # too late for an answer: aiohttp ends the connection
            log.exception("request %s failed", call.id)
            response = call.error(500, "The gateway failed; its log says why.")
        if not request.content.is_eof():
            response.force_close()  # the rest of the body is no next request
        return response

    def _refuse_while_draining(self, call: Call) -> web.Response | None:
        if not self._is_draining or call.path in ("/health", "/metrics"):
            return None
        retry = {"Retry-After": RETRY_AFTER}
        text = "This gateway is shutting down."
        response = call.error(503, text, "draining", retry)
        response.force_close()
        return response

    def _guard(self, call: Call) -> web.Response | None:
        """The answer to a preflight or a missing key. Raises BadRequest (403)."""
        request, options = call.request, self._options
        headers = request.headers
        guards.check_host(headers.getall("Host", []), options, self._own_names)
        guards.check_address(request.remote, options)
        origin = guards.check_origin(headers, call.path, options)
        if origin is not None:
            call.allow_origin(origin)
            if request.method == "OPTIONS":
                call.headers.update(guards.preflight(headers))
                return call.reply(b"", status=204)
        call.is_page = self.access.is_page(headers)
        call.has_key = call.is_page or guards.has_key(headers, options.api_key)
        is_open = call.path in guards.OPEN_PATHS or page.is_file(call.path)
        if call.has_key or is_open:
            return None
        return call.error(
            401, "This gateway needs its API key: `Authorization: Bearer KEY`."
        )


def _status(error: MeshError) -> int:
    match error:
        case StreamReset(code=Code.TIMEOUT):
            return 504
        case NotAllowed():
            return 403
    return 502


def _has_hung_up(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


def _own_names() -> frozenset[str]:
    """What this machine calls itself, whole and without its domain."""
    name = socket.gethostname().lower()
    return frozenset({name, name.partition(".")[0]})
