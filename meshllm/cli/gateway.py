"""`meshllm gateway`: the mesh as Ollama and as OpenAI on this machine."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshllm.cli.common import PORT, Common, pass_common, serving_command
from meshllm.cli.lan import lan_options, read_lan
from meshllm.cli.running import Signals, read_policy, run, serving_node

if TYPE_CHECKING:
    from meshllm.gateway import Gateway
    from meshllm.node import Node


PAGE_KEY_FILE = "page.key"  # browsers that were let in stay so over restarts


@serving_command("gateway")
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option(
    "--port",
    type=PORT,
    metavar="PORT",
    default=11434,
    show_default=True,
    help="Listen here; 11434 is Ollama's.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="Programs must send the key in this file.",
)
@click.option(
    "--allow-from", multiple=True, metavar="CIDR", help="Addresses that may ask."
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="One more name of this gateway."
)
@click.option(
    "--origin", multiple=True, metavar="O", help="Let pages of this origin in."
)
@lan_options("Use no provider of the local network.")
@click.option("--relay-only", is_flag=True, help="Hide our addresses behind a relay.")
@click.option("--direct-only", is_flag=True, help="Use no relay.")
@click.option(
    "--trust",
    multiple=True,
    default=("members",),
    show_default=True,
    metavar="owner|members|ID",
    help="Whose machines may read the prompts. May be repeated.",
)
@pass_common
def gateway(common: Common, /, **given: Any) -> None:
    """Serve the mesh's models as Ollama and OpenAI.

    Programs of this machine find both APIs at the address it prints, a browser the chat
    page by the link. Ctrl-C finishes what runs.
    """
    run(_gateway(common, **given))


async def _gateway(
    common: Common,
    *,
    peers: tuple[tuple[str, int], ...],
    no_lan: bool,
    relay_only: bool,
    direct_only: bool,
    trust: tuple[str, ...],
    **listen: Any,
) -> None:
    from meshllm.facts import of_node
    from meshllm.gateway import Gateway, PageAccess, read_options
    from meshllm.identity import local_secret

    options = read_options(**listen)
    facts: dict[str, Any] = {"url": None, "page": None}
    async with (
        Signals() as signals,
        serving_node(
            common,
            "gateway",
            facts,
            **read_lan(no_lan, peers, relay_only=relay_only),
            serves_lan=None,
            policy=read_policy(relay_only, direct_only),
            trust=trust,
        ) as node,
    ):
        access = PageAccess(local_secret(common.home, PAGE_KEY_FILE))
        server = Gateway(node.mesh, options, partial(of_node, node), access)
        await server.start()
        try:
            facts["url"], facts["page"] = server.url, server.page
            access.on_used = lambda: facts.update(page=server.page)
            _say_ready(common, node, server, listen["api_key_file"])
            await signals.wait()
        finally:
            await server.stop()


def _say_ready(
    common: Common, node: Node, server: Gateway, key_file: Path | None
) -> None:
    url, page = server.url, server.page
    names = [model.name for model in node.mesh.models()]
    common.event("ready", f"ready {url} {page}", url=url, page=page, models=names)
    if common.json:
        return
    click.echo(
        f"The mesh has {', '.join(names)}."
        if names
        else "No provider is in the mesh now; they will show up by themselves."
    )
    click.echo(f"Chat in a browser, this link opens once: {page}")
    common.next(*_next_lines(url, names[0] if names else "MODEL", key_file))


def _next_lines(url: str, model: str, key_file: Path | None) -> tuple[str, ...]:
    """Each works as it stands. Ollama's own command sends no key; its libraries do, and
    OpenAI's want one even where none is needed."""
    host, body = url.removeprefix("http://"), f'{{"model": "{model}", "prompt": "Hi!"}}'
    ask = f"{url}/api/generate -d {shlex.quote(body)}"
    openai = f"OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY="
    if key_file is None:
        return (
            f"OLLAMA_HOST={host} ollama run {model}",
            f"curl {ask}",
            f"{openai}none   # for programs that speak OpenAI",
        )
    key = f"$(cat {shlex.quote(str(key_file))})"
    return (
        f'curl -H "Authorization: Bearer {key}" {ask}',
        f'{openai}"{key}"   # for programs that speak OpenAI',
        f'OLLAMA_HOST={host} OLLAMA_API_KEY="{key}"   # for Ollama\'s libraries',
    )
