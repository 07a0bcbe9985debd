"""`models`, `status`, `peers`, `logs`: what is there, asked of what runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshllm.cli.common import Common, command, pass_common
from meshllm.cli.running import open_node, run
from meshllm.cli.tables import gigabytes, print_table, span
from meshllm.errors import MeshError

if TYPE_CHECKING:
    from meshllm.control import Running
    from meshllm.routing.seam import Listed

HEADS = (
    *("peer", "id", "role", "is a", "path", "via", "rtt", "since", "models", "found"),
)
SIDES = ("local", "remote")
NOTHING_RUNS = (
    "Nothing of this node runs in {home}. Start `meshllm share` or `meshllm gateway`."
)


@command("models")
@pass_common
def models(common: Common) -> None:
    """List the models of the mesh, and who has them."""
    found = run(_models(common))
    if common.json:
        rows = [_model_document(model) for model in found]
        common.tell("", {"models": rows})
        return
    if not found:
        raise MeshError(
            "No model is in the mesh now. On the machine that has some: "
            "`meshllm share`."
        )
    print_table(
        ("model", "size", "context", "providers"),
        [
            (
                model.name,
                gigabytes(model.size),
                str(model.context_length or ""),
                ", ".join(holder.name for holder in model.providers),
            )
            for model in found
        ],
    )
    common.hint(f"meshllm chat {found[0].name}")


async def _models(common: Common) -> list[Listed]:
    async with open_node(common) as node:
        return sorted(node.mesh.models(), key=lambda model: model.name)


def _model_document(model: Listed) -> dict[str, Any]:
    return {
        "name": model.name,
        "size": model.size,
        "digest": model.digest,
        "context_length": model.context_length,
        "capabilities": list(model.capabilities),
        "providers": [
            {"id": holder.id, "name": holder.name} for holder in model.providers
        ],
    }


@command("status")
@pass_common
def status(common: Common) -> None:
    """Show this node in five lines."""
    from meshllm.joining import describe

    answers = run(_ask_all(common.home, "/status"))
    document = {
        "home": str(common.home),
        **describe(common.home, int(time.time())),
        "running": [
            answer | {"command": one.role, "pid": one.pid, "started": int(one.started)}
            for one, answer in answers
        ],
    }
    common.tell("\n".join(_five_lines(document)), document)


def _five_lines(node: dict[str, Any]) -> list[str]:
    """Node, mesh, server, what runs, and what it does."""
    place = node["role"] or node["problem"]
    if node["until"] is None:
        pass
    elif node["provisional"]:
        place += f", until {_day(node['until'])}, when an owner's node has confirmed it"
    else:
        place += f" until {_day(node['until'])}"
    runs = [_process(one) for one in node["running"]]
    return [
        f"node     {node['name'] or 'unnamed'}  {node['id']}",
        f"mesh     {node['mesh']}  {place}",
        f"server   {_server_line(node)}",
        "runs     "
        + (", ".join(runs) or "nothing; try `meshllm share` or `meshllm gateway`"),
        f"offers   {_offer_line(node['running'])}",
    ]


def _process(one: dict[str, Any]) -> str:
    text = f"{one['command']} (process {one['pid']})"
    if one["policy"] != "all":
        text += f" --{one['policy']}-only"
    return f"{text} for {span(time.time() - one['started'])}"


def _server_line(node: dict[str, Any]) -> str:
    lans = [address for one in node["running"] for address in _lan_addresses(one)]
    lan = f"this LAN at {', '.join(lans)}" if lans else "this LAN"
    if node["hub"] is None:
        return f"none: this mesh lives on {lan}"
    states = [one["signaling"] for one in node["running"] if one.get("signaling")]
    if not states:
        return str(node["hub"])
    if all(state["connected"] for state in states):
        since = span(time.time() - max(state["since"] for state in states))
        return f"{node['hub']}  connected for {since}"
    why = next(state["reason"] for state in states if not state["connected"])
    return f"{node['hub']}  not connected: {why or 'connecting'}"


def _lan_addresses(running: dict[str, Any]) -> list[str]:
    """Where others of the LAN reach this process."""
    return list((running.get("lan") or {}).get("addresses", ()))


def _offer_line(running: Sequence[dict[str, Any]]) -> str:
    parts = []
    for one in running:
        if shares := one.get("shares"):
            names = ", ".join(shares["models"]) or "no model"
            parts.append(
                f"{names} ({shares['backend']}), {shares['running']} of"
                f" {shares['parallel']} running, {shares['waiting']} waiting,"
                f" {shares['clients']} connected"
            )
    urls = [str(one["url"]) for one in running if one.get("url")]
    if urls:
        parts.append("the mesh's models at " + ", ".join(urls))
    parts += [f"the chat page at {one['page']}" for one in running if one.get("page")]
    return "; ".join(parts) or "no model"


def _day(until: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(until))


@command("peers")
@click.option(
    "--forget",
    metavar="NAME",
    help="The key of this provider has changed, and its owner says that is right.",
)
@pass_common
def peers(common: Common, forget: str | None) -> None:
    """List the peers this node sees, with the path to each.

    Asks the `share` and `gateway` that run in this home.
    """
    if forget is not None:
        _forget(common, forget)
        return
    answers = run(_ask_all(common.home, "/peers"))
    if not answers:
        raise _nothing_runs(common.home)
    rows = [
        {"by": one.role, "pid": one.pid, **row}
        for one, answer in answers
        for row in answer
    ]
    if common.json:
        common.tell("", {"peers": rows})
        return
    shown = _for_people(rows, _own_id(common.home))
    if not shown:
        click.echo("Nobody else is in the mesh now.")
        common.hint("meshllm invite")
        return
    print_table(HEADS, [_peer_row(row) for row in shown])
    for row in shown:
        if row.get("problem"):
            common.note(f"{row['name']}: {row['problem']}")


def _forget(common: Common, name: str) -> None:
    from meshllm.joining import loaded
    from meshllm.known import KnownKeys

    membership = loaded(common.home)
    known = KnownKeys(common.home, membership.mesh)
    try:
        was_known = known.forget(name)
    finally:
        known.close()
        membership.close()
    if not was_known:
        raise MeshError(f"No provider called {name!r} was ever seen here.")
    text = f"The key of {name!r} is forgotten; the next one that comes is taken."
    common.tell(text, {"forgot": name})


def _nothing_runs(home: Path) -> MeshError:
    """ConfigError when that is because this node is in no mesh."""
    from meshllm.joining import loaded

    loaded(home).close()
    return MeshError(NOTHING_RUNS.format(home=home))


def _own_id(home: Path) -> str:
    from meshllm.identity import Identity

    return Identity.load(home).id


def _for_people(rows: Sequence[dict[str, Any]], me: str) -> list[dict[str, Any]]:
    """Every peer once for each thing it is to us, with its path if any process has
    one; ourselves only where our own processes meet."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row.get("path") is None):
        shown = row
        if row["id"] == me:
            if row.get("path") is None:
                continue
            shown = row | {"name": f"{row['name']} (this node)"}
        found.setdefault((row["id"], row["direction"]), shown)
    return list(found.values())


def _peer_row(row: dict[str, Any]) -> tuple[str, ...]:
    rtt, since = row.get("rtt_ms"), row.get("since")
    pair = row.get("candidates") or {}
    kinds = [str(pair[side]).partition(" ")[0] for side in SIDES if pair.get(side)]
    return (
        row["name"],
        (row["id"] or "")[:8],
        row["role"] or "",
        row["direction"],
        _path(row),
        "-".join(kinds),
        "" if rtt is None else f"{rtt:.0f} ms",
        "" if since is None else span(time.time() - since),
        ", ".join(row["models"]),
        _found(row),
    )


def _path(row: dict[str, Any]) -> str:
    if row["path"] in (None, "lan"):
        return row["path"] or "none"
    return "relay" if row["relay"] else "direct"


def _found(row: dict[str, Any]) -> str:
    """By which ways, and for how long."""
    return ", ".join(
        way if since is None else f"{way} {span(time.time() - since)}"
        for way, since in row.get("found", {}).items()
    )


@command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@pass_common
def logs(common: Common, follow: bool) -> None:
    """Show the log of the share and gateway in this home."""
    run(_logs(common, follow=follow))


async def _logs(common: Common, *, follow: bool) -> None:
    from meshllm import control

    found = control.running(common.home)
    if not found:
        raise _nothing_runs(common.home)
    if not follow:
        lines = [
            (one, line) for one in found for line in await control.ask(one, "/logs")
        ]
        for one, line in sorted(lines, key=lambda pair: float(pair[1]["ts"])):
            _print_line(common, one, line)
        return
    async with asyncio.TaskGroup() as group:
        for one in found:
            group.create_task(_follow(common, one))


async def _follow(common: Common, one: Running) -> None:
    from meshllm import control

    async with aclosing(control.follow_logs(one)) as lines:
        async for line in lines:
            _print_line(common, one, line)


def _print_line(common: Common, one: Running, line: dict[str, Any]) -> None:
    at = time.strftime("%H:%M:%S", time.localtime(line["ts"]))
    text = f"{at} {one.role} {line['level']} {line['logger']}: {line['text']}"
    common.tell(text, {"by": one.role, "pid": one.pid, **line})


async def _ask_all(home: Path, path: str) -> list[tuple[Running, Any]]:
    from meshllm import control

    return [(one, await control.ask(one, path)) for one in control.running(home)]


def known_models(home: Path) -> list[str]:
    """For shell completion: the models of providers that a running process sees."""
    try:
        answers = run(_ask_all(home, "/peers"))
    except MeshError:
        return []
    names = {name for _, rows in answers for row in rows for name in row["models"]}
    return sorted(names)
