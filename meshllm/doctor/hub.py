"""The way to the signaling server, step by step: name, TCP, TLS, HTTP, clock.

Each step has its own sentence, so that what fails is what is mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from meshllm.doctor.check import Check, State, error, ok, skipped, warning
from meshllm.errors import PeerUnreachable
from meshllm.transport.addresses import is_loopback
from meshllm.transport.probe import Address, resolve, why

STEP_S: Final = 5.0
SKEW_WARNING_S: Final = 60
SKEW_ERROR_S: Final = 300  # older envelopes are refused (docs/protocol.md)
CERTIFICATE_S: Final = 14 * 86_400
STEPS: Final = ("dns", "tcp", "tls", "http", "clock")
IS_IT_UP: Final = (
    "ask the server's owner whether it runs, and whether a firewall is in front"
)
SET_CLOCK: Final = "let the system set its clock from the network, then try again"


class Hub:
    """Steps that build on each other."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = url.rstrip("/")
        self._is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._is_tls else 80)
        self._addresses: list[Address] = []
        self._skew_s: float | None = None

    async def checks(self) -> AsyncIterator[Check]:
        """All of STEPS; behind one that fails they are `skipped`."""
        steps = (self._dns, self._tcp, self._tls, self._http, self._clock)
        failed: str | None = None
        for name, step in zip(STEPS, steps, strict=True):
            if failed is not None:
                yield skipped(name, f"not looked at: {failed} failed")
                continue
            check = await step()
            failed = name if check.state is State.ERROR else None
            yield check

    async def _dns(self) -> Check:
        try:
            self._addresses = await resolve(self._host, self._port)
        except PeerUnreachable as exc:
            return error(
                "dns",
                f"the name {self._host} of the signaling server: {exc}",
                "check this machine's network and its DNS; else ask the server's owner"
                " whether the name has changed",
                {"host": self._host, "addresses": []},
            )
        hosts = [host for host, _ in self._addresses]
        text = f"{self._host} is {', '.join(hosts)}"
        if hosts == [self._host]:
            text = f"{self._host} needs no looking up"
        return ok("dns", text, {"host": self._host, "addresses": hosts})

    async def _tcp(self) -> Check:
        tries = [self._connect(host) for host, _ in self._addresses]
        found = await asyncio.gather(*tries)
        hosts = [host for host, _ in self._addresses]
        fine = [host for host, problem in zip(hosts, found, strict=True) if not problem]
        bad = {host: text for host, text in zip(hosts, found, strict=True) if text}
        facts: dict[str, Any] = {"port": self._port, "reached": fine, "failed": bad}
        failures = ", ".join(f"{host}: {text}" for host, text in bad.items())
        if not fine:
            self._addresses = []
            return error("tcp", f"port {self._port} of {failures}", IS_IT_UP, facts)
        self._addresses = [(host, self._port) for host in fine]
        if bad:
            return warning(
                "tcp",
                f"connected to {fine[0]} port {self._port}, but not to {failures}",
                "connecting may be slow at first; mend the kind of address (IPv4 or"
                " IPv6) that fails, here or in the server's DNS",
                facts,
            )
        return ok("tcp", f"connected to {fine[0]} port {self._port}", facts)

    async def _connect(self, host: str) -> str:
        """Why not; nothing when it went well."""
        try:
            async with asyncio.timeout(STEP_S):
                _, writer = await asyncio.open_connection(host, self._port)
        except OSError as exc:
            return why(exc)
        await _hang_up(writer)
        return ""

    async def _tls(self) -> Check:
        if not self._is_tls:
            if all(is_loopback(host) for host, _ in self._addresses):
                return ok("tls", "not needed on this machine", {"version": None})
            return warning(
                "tls",
                "the server's address is http: whoever is on the way sees who talks to"
                " whom, though no prompt",
                "ask the server's owner to put it behind https",
                {"version": None},
            )
        try:
            async with asyncio.timeout(STEP_S):
                _, writer = await asyncio.open_connection(
                    self._addresses[0][0],
                    self._port,
                    ssl=ssl.create_default_context(),
                    server_hostname=self._host,
                )
        except OSError as exc:
            return error(
                "tls",
                f"the signaling server: {why(exc)}",
                "ask the server's owner to renew the certificate; if others reach it,"
                " somebody stands between (a company's proxy, a hotel's page)",
                {"version": None},
            )
        check = _certificate(writer)
        await _hang_up(writer)
        return check

    async def _http(self) -> Check:
        began, asked_at = time.monotonic(), time.time()
        problem, body = "", None
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(STEP_S)) as session,
                session.get(
                    f"{self._url}/health",
                    headers={"Accept": "application/json"},
                    ssl=ssl.create_default_context(),
                ) as response,
            ):
                took_s = time.monotonic() - began
                self._skew_s = _skew_s(response.headers.get("Date"), asked_at, took_s)
                body = await response.json(content_type=None)
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            problem = why(exc) if isinstance(exc, OSError) else "it speaks no HTTP"
        except ValueError:
            problem = "what answers there is another kind of page"
        match body:
            case {"status": "healthy", "version": str() as version}:
                text = f"it is a meshllm signaling server, version {version}"
                return ok("http", text, {"version": version})
        return error(
            "http",
            f"{self._url} is no signaling server: {problem or 'another one answers'}",
            f"open {self._url} in a browser: is it the page of a hotel or a company?"
            " Else ask the server's owner",
            {"version": None},
        )

    async def _clock(self) -> Check:
        if self._skew_s is None:
            return skipped("clock", "the server does not say what time it is")
        skew_s = self._skew_s
        text = (
            f"{abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} the server's"
        )
        if abs(skew_s) > SKEW_ERROR_S:
            text += "; more than 300 s, so that others refuse what this node sends"
            return error("clock", text, SET_CLOCK, {"skew_s": skew_s})
        if abs(skew_s) > SKEW_WARNING_S:
            return warning("clock", text, SET_CLOCK, {"skew_s": skew_s})
        return ok("clock", "as the server's, to a second or two", {"skew_s": skew_s})


def _certificate(writer: asyncio.StreamWriter) -> Check:
    tls = writer.get_extra_info("ssl_object")
    ends = ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"])
    left_s = ends - time.time()
    facts = {"version": tls.version(), "ends": int(ends)}
    days = int(left_s // 86_400)
    lasts = f"{days} {'day' if days == 1 else 'days'}"
    text = f"{tls.version()}, the certificate lasts {lasts}"
    if left_s < CERTIFICATE_S:
        return warning(
            "tls", text, "ask the server's owner to see that it is renewed", facts
        )
    return ok("tls", text, facts)


def _skew_s(date: str | None, asked_at: float, took_s: float) -> float | None:
    """The server's clock minus ours. Dates are whole seconds, cut off."""
    try:
        parsed = email.utils.parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return round(parsed.timestamp() + 0.5 - (asked_at + took_s / 2), 1)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
