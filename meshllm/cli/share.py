"""`meshllm share`: this node becomes a provider."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshllm.cli.common import PORT, Common, pass_common, serving_command
from meshllm.cli.lan import lan_options, read_lan
from meshllm.cli.progress import Download
from meshllm.cli.running import Signals, read_policy, run, serving_node

if TYPE_CHECKING:
    from meshllm.node import Node
    from meshllm.provider.host import Host

NO_MODEL = {
    "ollama": "Ollama has no model yet: `ollama pull llama3.2` gets one.",
    "openai": "The model server at {url} lists no model.",
}


@serving_command("share")
@click.option(
    "--backend",
    type=click.Choice(["auto", "ollama", "openai", "embedded"]),
    default="auto",
    show_default=True,
    help="The model server. auto: what answers here, else a small model of our own.",
)
@click.option("--url", metavar="URL", help="Where the model server is.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="M",
    help="Share only this model. May be repeated; FILE.gguf is served by us.",
)
@click.option(
    "--model-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Serve this GGUF file ourselves.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 1000),
    help="Answers at once. Default: OLLAMA_NUM_PARALLEL, else 1.",
)
@click.option(
    "--queue",
    type=click.IntRange(0, 100_000),
    default=512,
    show_default=True,
    help="Requests that may wait.",
)
@click.option(
    "--health-port",
    type=PORT,
    metavar="PORT",
    help="Serve /health, /ready and /metrics here.",
)
@lan_options("Do not offer them to the local network.")
@click.option(
    "--lan-port",
    type=PORT,
    default=0,
    metavar="PORT",
    help="Be found by others' --peer here. Default: a free one.",
)
@click.option("--relay-only", is_flag=True, help="Hide our addresses behind a relay.")
@click.option("--direct-only", is_flag=True, help="Use no relay.")
@pass_common
def share(common: Common, /, **given: Any) -> None:
    """Offer this machine's models to the mesh.

    The first Ctrl-C finishes what runs; the second ends at once.
    """
    run(_share(common, **given))


async def _share(
    common: Common,
    *,
    backend: str,
    url: str | None,
    models: tuple[str, ...],
    model_file: Path | None,
    parallel: int | None,
    queue: int,
    health_port: int | None,
    no_lan: bool,
    peers: tuple[tuple[str, int], ...],
    lan_port: int,
    relay_only: bool,
    direct_only: bool,
) -> None:
    from meshllm.backends.find import open_backend
    from meshllm.facts import measure, of_node
    from meshllm.metrics import Metrics
    from meshllm.probes import probe_port

    files = [Path(name) for name in models if name.lower().endswith(".gguf")]
    async with AsyncExitStack() as stack:
        signals = await stack.enter_async_context(Signals())
        node = await stack.enter_async_context(
            serving_node(
                common,
                "share",
                {},
                **read_lan(no_lan, peers, relay_only=relay_only),
                serves_lan=True,
                lan_port=lan_port,
                policy=read_policy(relay_only, direct_only),
            )
        )
        node.check_may_share()  # before a model is fetched for nothing
        with Download(common, "a small model") as download:
            found = await open_backend(
                backend,
                url,
                parallel=parallel,
                model_file=model_file or (files[0] if files else None),
                progress=download,
            )
        stack.push_async_callback(found.aclose)
        host = await node.share(
            found,
            parallel=parallel or _parallel(found.parallel),
            queue=queue,
            models=() if files else models,
        )
        health = None
        if health_port is not None:
            metrics = Metrics(partial(of_node, node))
            measure(host, metrics)
            probes = probe_port(health_port, node.mesh.health, host.ready, metrics)
            health = await stack.enter_async_context(probes)
        _say_ready(common, node, host, health)
        await signals.wait()
        await _drain(common, node, host)


def _parallel(told: int | None) -> int:
    text = os.environ.get("OLLAMA_NUM_PARALLEL", "")
    return int(text) if text.isdecimal() and int(text) else told or 1


def _say_ready(common: Common, node: Node, host: Host, health: str | None) -> None:
    names = [model.name for model in host.models]
    kind, url, parallel = host.backend.kind, host.backend.url, host.slots.parallel
    if not names:
        common.note(NO_MODEL.get(kind, "There is no model to share.").format(url=url))
    urls = [one for one in (node.membership.hub, health) if one]
    lan = node.nearby.describe()["addresses"] if node.nearby else []
    common.event(
        "ready",
        f"ready {' '.join(urls) or _on_lan(lan)}",
        url=urls[0] if urls else None,
        health=health,
        lan=lan,
        backend=kind,
        backend_url=url,
        models=names,
        parallel=parallel,
    )
    if common.json:
        return
    at_once = "one answer" if parallel == 1 else f"{parallel} answers"
    click.echo(
        f"Sharing {', '.join(names) or 'no model'} of {_where(kind, url)},"
        f" {at_once} at a time."
    )
    common.next(
        "meshllm invite       # a link for somebody who may use them",
        "meshllm gateway      # use them here, as Ollama and OpenAI",
    )


def _on_lan(addresses: list[str]) -> str:
    """One of them, for `--peer`."""
    return f"on this LAN at {addresses[0]}" if addresses else "on this LAN"


def _where(kind: str, url: str) -> str:
    return "the embedded engine" if kind == "embedded" else f"{kind} at {url}"


async def _drain(common: Common, node: Node, host: Host) -> None:
    running = host.slots.running + host.slots.waiting
    if running and not common.json:
        common.note(f"Finishing {running} answers. Ctrl-C again ends at once.")
    await node.drain()
