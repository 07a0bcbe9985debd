"""`meshllm demo`: a whole mesh on this machine."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import click

from meshllm.cli.answers import check_prompt, show_answer
from meshllm.cli.common import PORT, Common, command, logging_on, pass_common
from meshllm.cli.progress import Download
from meshllm.cli.running import Signals, run, shown

if TYPE_CHECKING:
    from meshllm.demo import Demo


FREE = "Default: a free one."


# A first answer should make sense and end soon, also from a very small model.
OPTIONS: Final = {"temperature": 0, "num_predict": 256}


@command("demo")
@click.option("--once", metavar="PROMPT", help="Stream one answer, and end.")
@click.option("--signal-port", type=PORT, metavar="PORT", default=0, help=FREE)
@click.option("--gateway-port", type=PORT, metavar="PORT", default=0, help=FREE)
@pass_common
def demo(common: Common, once: str | None, signal_port: int, gateway_port: int) -> None:
    """Run a whole mesh on this machine, to try.

    Signaling, a provider and a gateway, in three processes that meet over WebRTC. The
    models are those of Ollama if it answers, else a small one that is fetched once.
    """
    if once is not None:
        check_prompt(once)
    run(_demo(common, once, signal_port, gateway_port))


async def _demo(
    common: Common, once: str | None, signal_port: int, gateway_port: int
) -> None:
    from meshllm import demo

    async with AsyncExitStack() as stack:
        stack.enter_context(logging_on(common))
        signals = await stack.enter_async_context(Signals())
        # Under --once there is one JSON object, the answer.
        watcher = Common(verbose=common.verbose) if once is not None else common
        async with shown(lambda: "Starting signaling, provider and gateway …"):
            with Download(watcher, "a small model") as download:
                running = await stack.enter_async_context(
                    demo.start(
                        signal_port=signal_port,
                        gateway_port=gateway_port,
                        progress=download,
                    )
                )
        if once is not None:
            await _answer(common, running, once)
        else:
            _say_ready(common, running)
            await _until_told(signals, running)
            async with shown(lambda: "Finishing answers. Ctrl-C again ends at once."):
                await running.drain()


async def _answer(common: Common, running: Demo, prompt: str) -> None:
    import aiohttp

    from meshllm.conversation import Conversation
    from meshllm.demo import GatewayClient

    # A small model on a busy machine may take its time: no limit but the user's.
    limits = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=limits) as session:
        client = GatewayClient(session, running.url)
        conversation = Conversation(client, running.model, OPTIONS)
        await show_answer(common, conversation, prompt)


async def _until_told(signals: Signals, running: Demo) -> None:
    waits = [
        asyncio.ensure_future(signals.wait()),
        asyncio.ensure_future(running.ended()),
    ]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waits:
            task.cancel()
        await asyncio.wait(waits)


def _say_ready(common: Common, running: Demo) -> None:
    url, model = running.url, running.model
    common.event(
        "ready",
        f"ready {url} {running.page}",
        url=url,
        page=running.page,
        signaling=running.signaling,
        backend=running.backend,
        model=model,
    )
    if common.json:
        return
    click.echo(
        f"\n  chat page    {running.page}\n"
        f"  Ollama API   {url}\n  OpenAI API   {url}/v1\n"
        f"  model        {model} ({running.backend})\n"
    )
    body = f'{{"model": "{model}", "prompt": "Name three colours."}}'
    common.next(
        f"curl {url}/api/generate -d '{body}'",
        f"OLLAMA_HOST={url.removeprefix('http://')} ollama run {model}",
    )
    if sys.stdout.isatty():
        click.echo("\nCtrl-C ends all of it.")
