"""All checks of `meshllm doctor`, in their order, each told when it is done.

Only this machine, its LAN, the mesh's signaling server, the servers that it names and
the mesh's providers are asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Final

from meshllm.doctor.check import Check, State, error, ok, skipped, warning
from meshllm.doctor.here import (
    check_addresses,
    check_node,
    check_running,
    global_ipv6,
)
from meshllm.doctor.hub import Hub
from meshllm.doctor.lan import check_lan
from meshllm.doctor.servers import Servers
from meshllm.doctor.trials import try_provider
from meshllm.errors import MeshError
from meshllm.node import Node, NodeOptions
from meshllm.protocol.signals import Ping
from meshllm.routing.roster import Provider, pinned
from meshllm.transport.addresses import Machine
from meshllm.trust.keys import PeerId

LOGIN_S: Final = 10.0
BEHIND: Final = ("stun", "turn", "ipv6", "relay", "nat", "peer")
ONE_LAN: Final = "only machines of one network find each other"
BOTH: Final = (
    "ask the owner of the signaling server to run `meshllm signal --coturn`, or to give"
    " it `--stun stun:…` and `--turn turn:…`"
)
NO_RELAY: Final[dict[str, list[str]]] = {"named": [], "answered": []}


class Examination:
    """Of the node in `home`; `wanted` names the providers to try, all when empty."""

    def __init__(self, home: Path, wanted: Sequence[str] = ()) -> None:
        self._home = home
        self._wanted = wanted
        self._done: asyncio.Queue[Check | None] = asyncio.Queue()
        self._under_way: list[str] = []
        self.checks: list[Check] = []

    @property
    def is_fine(self) -> bool:
        return all(check.state is not State.ERROR for check in self.checks)

    def doing(self) -> str:
        return f"Looking at {', '.join(self._under_way) or 'this node'} …"

    async def run(self) -> AsyncGenerator[Check, None]:
        """Each check as it ends. ConfigError when this home is in no mesh."""
        working = asyncio.create_task(self._examine(), name="examination")
        working.add_done_callback(lambda _: self._done.put_nowait(None))
        try:
            while (check := await self._done.get()) is not None:
                self.checks.append(check)
                yield check
            await working
        finally:
            working.cancel()
            await asyncio.wait([working])

    async def _examine(self) -> None:
        node = check_node(self._home, int(time.time()))
        self._report(node)
        self._report(await check_running(self._home))
        addresses, machine = check_addresses()
        self._report(addresses)
        hub = node.facts["hub"]
        if hub is None:
            text = "none: this mesh lives on this LAN; `meshllm init LINK` attaches it"
            self._report(skipped("signaling", text))
            await self._look_around(has_hub=False)
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_around(has_hub=True))
            group.create_task(self._ask_hub(str(hub), machine))

    async def _look_around(self, *, has_hub: bool) -> None:
        with self._looking_at("the LAN"):
            self._report(await check_lan(has_hub=has_hub))

    async def _ask_hub(self, url: str, machine: Machine) -> None:
        if await self._reach(url):
            await self._visit(machine)
        else:
            self._skip(("signaling", *BEHIND), "the signaling server is not reached")

    async def _reach(self, url: str) -> bool:
        with self._looking_at("the signaling server"):
            is_reached = True
            async for check in Hub(url).checks():
                self._report(check)
                is_reached &= check.name == "clock" or check.state is not State.ERROR
        return is_reached

    async def _visit(self, machine: Machine) -> None:
        """What a login opens: the servers to ask, and the providers."""
        clock = asyncio.get_running_loop().time
        # Without the LAN: what is looked at is the way that the server shows.
        async with Node(NodeOptions(self._home, lan=False)) as node:
            assert node.signaling is not None
            try:
                with self._looking_at("the login"):
                    began = clock()
                    await node.joined(LOGIN_S)
                    login_ms = (clock() - began) * 1000
                    began = clock()
                    await node.signaling.request(Ping(0))
                    rtt_ms = (clock() - began) * 1000
            except MeshError as exc:
                do = "what the sentence says; else ask an owner of the mesh"
                nothing = {"rtt_ms": None, "login_ms": None}
                self._report(error("signaling", f"login: {exc}", do, nothing))
                self._skip(BEHIND, "the signaling server names whom to ask")
                return
            text = f"logged in; {rtt_ms:.0f} ms there and back"
            facts = {"rtt_ms": round(rtt_ms, 1), "login_ms": round(login_ms, 1)}
            self._report(ok("signaling", text, facts))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask_servers(node, machine))
                for provider in self._chosen(node):
                    group.create_task(self._try(node, provider))

    async def _ask_servers(self, node: Node, machine: Machine) -> None:
        if not node.servers:
            text = "the signaling server names no STUN or TURN server"
            self._report(warning("relay", f"{text}: {ONE_LAN}", BOTH, NO_RELAY))
            self._skip(("stun", "turn", "ipv6", "nat"), text)
            return
        with self._looking_at("STUN and TURN servers"):
            ipv6 = global_ipv6(machine.hosts(None))
            await Servers(node.servers, machine.own, ipv6, self._report).examine()

    def _chosen(self, node: Node) -> list[Provider]:
        """Those that are wanted; one that is not there is an error."""
        providers = node.roster.providers
        if not self._wanted:
            if not providers:
                self._report(skipped("peer", "no provider is in the mesh now"))
            return providers
        chosen: dict[PeerId, Provider] = {}
        for name in self._wanted:
            found = pinned(providers, name)
            if not found:
                text = f"no provider '{name}' is in the mesh now"
                do = "`meshllm share` there; `meshllm peers` lists those that are here"
                facts = {"name": name, "path": None, "problem": text}
                self._report(error("peer", text, do, facts))
            chosen |= {one.id: one for one in found}
        return list(chosen.values())

    async def _try(self, node: Node, provider: Provider) -> None:
        with self._looking_at(f"the way to {provider.name}"):
            self._report(await try_provider(node, provider))

    def _report(self, check: Check) -> None:
        self._done.put_nowait(check)

    def _skip(self, names: Sequence[str], why: str) -> None:
        for name in names:
            self._report(skipped(name, f"not looked at: {why}"))

    @contextlib.contextmanager
    def _looking_at(self, what: str) -> Iterator[None]:
        self._under_way.append(what)
        try:
            yield
        finally:
            self._under_way.remove(what)
