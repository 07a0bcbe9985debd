"""This node and this machine: what can be said without asking anybody else."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from meshllm import __version__, control
from meshllm.doctor.check import Check, error, ok, warning
from meshllm.errors import MeshError
from meshllm.joining import describe
from meshllm.transport.addresses import (
    LOOPBACK_ENV,
    Machine,
    interfaces_of,
    is_forced,
    is_loopback,
    machine_of,
    read_adapters,
    read_ways_out,
)
from meshllm.trust.keys import PeerId, short

SOON_S: Final = 7 * 86_400
UNIQUE_LOCAL: Final = ipaddress.ip_network("fc00::/7")
Interface = tuple[str, str]
"""Its name, and one address."""


def check_node(home: Path, now: int) -> Check:
    """ConfigError when this home is in no mesh."""
    node = describe(home, now)
    facts = {key: node[key] for key in NODE_FACTS} | {
        "home": str(home),
        "meshllm": __version__,
    }
    who = f"{node['name'] or 'unnamed'} ({short(PeerId(node['id']))}) in {home}"
    if node["role"] is None:
        return error("node", f"{who}: {node['problem']}", NEW_LINK, facts)
    text = f"{who}, {node['role']} of the mesh {short(PeerId(node['mesh']))}"
    until = node["until"]
    if until is not None:
        text += f" until {time.strftime('%Y-%m-%d', time.localtime(until))}"
    text += f"; meshllm {__version__}"
    if node["provisional"]:
        do = "an owner's node must be online once before then: ask for it"
        return warning("node", f"{text}; not confirmed yet", do, facts)
    if until is not None and until - now < SOON_S:
        return warning("node", text, NEW_LINK, facts)
    return ok("node", text, facts)


NODE_FACTS: Final = ("id", "name", "role", "provisional", "until", "mesh", "hub")
NEW_LINK: Final = (
    "ask an owner of the mesh for a new link, then `leave` and `join LINK`"
)


async def check_running(home: Path) -> Check:
    """What the control sockets of this home say."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for one in control.running(home):
        row: dict[str, Any] = {"command": one.role, "pid": one.pid}
        try:
            status = await control.ask(one, "/status")
        except MeshError as exc:
            problems.append(str(exc))
            rows.append(row | {"connected": None, "policy": None})
            continue
        signaling = status["signaling"]
        rows.append(
            row | {"connected": signaling["connected"], "policy": status["policy"]}
        )
        if signaling["url"] and not signaling["connected"]:
            why = signaling["reason"] or "it is connecting"
            problems.append(f"{one.role} is not at the signaling server: {why}")
    if not rows:
        text = "nothing runs in this home; `meshllm share` and `meshllm gateway` would"
        return ok("running", text, {"processes": rows})
    text = ", ".join(_process(row) for row in rows)
    if problems:
        text = f"{text}; {'; '.join(problems)}"
        do = "if it stays so, end it and start it again; `meshllm logs` says more"
        return warning("running", text, do, {"processes": rows})
    return ok("running", text, {"processes": rows})


def _process(row: dict[str, Any]) -> str:
    only = {"relay": " with --relay-only", "direct": " with --direct-only"}
    return f"{row['command']} (process {row['pid']}){only.get(row['policy'], '')}"


def check_addresses() -> tuple[Check, Machine]:
    found = read_adapters()
    machine = machine_of(found, read_ways_out())
    interfaces = interfaces_of(found)
    return judge_addresses(interfaces, machine, is_forced=is_forced()), machine


def judge_addresses(
    found: Sequence[Interface], machine: Machine, *, is_forced: bool
) -> Check:
    offered = machine.hosts(None)
    names = {address: name for name, address in found}
    left_out = [
        {"interface": name, "address": address, "why": why}
        for name, address in found
        if (why := _why_not(address, machine, offered, is_forced=is_forced))
    ]
    facts = {
        "offered": offered,
        "left_out": left_out,
    }
    if machine.is_alone and not is_forced:
        text = "this machine has no network, only itself"
        do = "connect it; Wi-Fi, cable and VPN all count"
        return warning("addresses", text, do, facts)
    text = "offers " + ", ".join(
        f"{host} ({names[host]})" if host in names else host for host in offered
    )
    if left_out:
        text += "; leaves out " + ", ".join(
            f"{one['address']} ({one['interface']}, {one['why']})" for one in left_out
        )
    return ok("addresses", text, facts)


def _why_not(
    address: str, machine: Machine, offered: Sequence[str], *, is_forced: bool
) -> str | None:
    if address in offered or is_loopback(address):
        return None
    if is_forced:
        return f"{LOOPBACK_ENV}=1"
    if address in machine.usable:
        return f"{len(offered)} are enough"
    return "virtual or of a VPN"


def global_ipv6(hosts: Iterable[str]) -> list[str]:
    """Those that the world could reach; documentation's, in laboratories, as well."""
    found = [(host, ipaddress.ip_address(host)) for host in hosts]
    return [
        host
        for host, address in found
        if address.version == 6
        and not (address.is_link_local or address.is_loopback)
        and address not in UNIQUE_LOCAL
    ]
