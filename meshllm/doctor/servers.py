"""The STUN and TURN servers that the mesh names, and what they show of the NAT here.

One socket asks them all, so that its addresses can be compared. Nobody else is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from meshllm.doctor.check import Check, error, ok, skipped, warning
from meshllm.doctor.nat import judge, spell, spelled
from meshllm.doctor.observe import observe
from meshllm.errors import PeerUnreachable
from meshllm.transport.addresses import is_ipv4
from meshllm.transport.probe import (
    Address,
    Allocation,
    Reflected,
    StunSocket,
    allocated,
    resolve,
)
from meshllm.transport.servers import IceServer, Server, read_url
from meshllm.transport.verdict import RUN_TURN

ANY: Final = "0.0.0.0"  # noqa: S104  # so that the system chooses the way out
ANY6: Final = "::"
ASK_OWNER: Final = "ask the owner of the signaling server to look at it"
ASK_UDP: Final = f"if nat says that UDP is blocked here, that is why; else {ASK_OWNER}"
UNUSED: Final = "meshllm does not use this kind of URL"
Report = Callable[[Check], None]


@dataclass(slots=True)
class Servers:
    """Asked by `examine`; `report` gets each check as it is done."""

    named: Sequence[IceServer]
    own: frozenset[str]
    ipv6: Sequence[str]
    report: Report
    reflected: list[Reflected] = field(default_factory=list)
    relays: list[Server] = field(default_factory=list)  # that gave us an address
    udp_asked: int = 0

    async def examine(self) -> None:
        pairs = [(url, server) for server in self.named for url in server.urls]
        found = [(url, read_url(url, server)) for url, server in pairs]
        for url, server in found:
            if server is None:
                self.report(skipped("server", f"{url}: {UNUSED}", about=url))
        usable = {url: server for url, server in found if server is not None}
        async with StunSocket.bound(ANY) as here:
            async with asyncio.TaskGroup() as group:
                for url, server in usable.items():
                    if server.is_relay:
                        group.create_task(self._turn(url, server))
                    if server.over == "udp":
                        group.create_task(self._stun(url, server, here))
                group.create_task(self._ipv6(list(usable.values())))
            self.report(self._relay(list(usable.values())))
            self.report(await self._nat(here, list(usable.values())))

    async def _nat(self, here: StunSocket, usable: Sequence[Server]) -> Check:
        if not self.udp_asked:
            return skipped("nat", "there is no STUN or TURN server over UDP to ask")
        nat = await observe(here, self.reflected, self.relays, self.own)
        named = [server.over for server in usable if server.is_relay]
        return judge(nat, [server.over for server in self.relays], named)

    async def _stun(self, url: str, server: Server, here: StunSocket) -> None:
        """A TURN server answers as well, and has a line of its own."""
        problem = "it has no IPv4 address"
        answers: list[Reflected] = []
        try:
            addresses = await resolve(*server.address)
        except PeerUnreachable as exc:
            addresses, problem = [], str(exc)
        for address in filter(lambda one: is_ipv4(one[0]), addresses):
            self.udp_asked += 1
            try:
                answers.append(await here.ask(address))
            except PeerUnreachable as exc:
                problem = str(exc)
        self.reflected += answers
        if server.is_relay:
            return
        if not answers:
            self.report(
                warning(
                    "stun",
                    f"{url}: {problem}",
                    ASK_UDP,
                    {"ms": None, "sees": None},
                    about=url,
                )
            )
            return
        first = answers[0]
        text = f"{url} answers in {first.ms:.0f} ms"
        facts = {"ms": round(first.ms, 1), "sees": spell(first.mapped)}
        self.report(ok("stun", text, facts, about=url))

    async def _turn(self, url: str, server: Server) -> None:
        try:
            async with allocated(server) as relay:
                self.relays.append(server)
                check = _judge_relay(url, server, relay)
        except PeerUnreachable as exc:
            facts = {"via": server.over, "ms": None, "relayed": None}
            text = f"{url}: {exc}"
            do = ASK_UDP if server.over == "udp" else ASK_OWNER
            check = warning("turn", text, do, facts, about=url)
        self.report(check)

    async def _ipv6(self, servers: Sequence[Server]) -> None:
        """Whether STUN gets through over IPv6; ICE itself needs none there."""
        mine = ", ".join(self.ipv6)
        facts: dict[str, Any] = {"addresses": self.ipv6, "sees": None}
        if not self.ipv6:
            self.report(ok("ipv6", "none here, which IPv4 makes up for", facts))
            return
        addresses: list[Address] = []
        for server in servers:
            with contextlib.suppress(PeerUnreachable):
                found = await resolve(*server.address)
                addresses += [one for one in found if not is_ipv4(one[0])]
        if not addresses:
            text = f"{mine}; no STUN or TURN server has an IPv6 address to try it with"
            self.report(ok("ipv6", text, facts))
            return
        server_host = addresses[0][0]
        try:
            async with StunSocket.bound(ANY6) as here:
                answer = await here.ask(addresses[0])
        except PeerUnreachable as exc:
            text = (
                f"{mine}, but {server_host} is not reached: {exc}; IPv4 makes up for it"
            )
            self.report(ok("ipv6", text, facts))
            return
        facts["sees"] = answer.mapped[0]
        text = f"{mine} works: {server_host} answers in {answer.ms:.0f} ms"
        self.report(ok("ipv6", text, facts))

    def _relay(self, usable: Sequence[Server]) -> Check:
        """All TURN servers together: is there a way when no direct one is?"""
        named = sorted({server.over for server in usable if server.is_relay})
        answered = sorted({server.over for server in self.relays})
        facts = {"named": named, "answered": answered}
        if not named:
            text = "the signaling server names no TURN server: where no direct path"
            text += " exists there is none at all"
            do = f"ask the owner of the signaling server to {RUN_TURN}"
            return warning("relay", text, do, facts)
        if not answered:
            text = "no TURN server gave us a relay: where no direct path exists there"
            return error("relay", f"{text} is none at all", ASK_OWNER, facts)
        text = f"a relay is there over {spelled(answered)}"
        if answered == ["udp"] and "tls" not in named:
            text += "; over TLS there is none, for networks that block UDP"
        return ok("relay", text, facts)


def _judge_relay(url: str, server: Server, relay: Allocation) -> Check:
    host = relay.relayed[0]
    text = f"{url} gives a relay in {relay.ms:.0f} ms"
    facts = {
        "via": server.over,
        "ms": round(relay.ms, 1),
        "relayed": spell(relay.relayed),
    }
    if _is_private(host) and not _is_private(relay.server[0]):
        text += f", at {host}, which only its own network reaches"
        do = "its owner must tell it its public address (coturn: external-ip)"
        return warning("turn", text, do, facts, about=url)
    return ok("turn", text, facts, about=url)


def _is_private(host: str) -> bool:
    return ipaddress.ip_address(host).is_private
