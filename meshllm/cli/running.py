"""Running a command's coroutine: signals, waiting that shows, a node of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click

from meshllm.cli.common import Common, logging_on
from meshllm.errors import PeerUnreachable

if TYPE_CHECKING:
    from meshllm.node import Node
    from meshllm.transport.policy import Policy

T = TypeVar("T")
JOIN_S: Final = 5.0  # local programs need not wait for a server that is away
SLOW_S: Final = 2.0  # what takes longer says what it is
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def keep() -> None:
    """What was imported stays. To look through it for garbage takes 20 ms, which every
    stream of that moment, or a connection being made, sees as a stall."""
    gc.freeze()


class Signals:
    """Ctrl-C and SIGTERM: the first asks to drain, the second ends at once.

    Until `wait` is called nothing is served yet: then the first ends at once too.
    """

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._is_serving = False
        self._task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        for number in SIGNALS:
            with contextlib.suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in SIGNALS:
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().remove_signal_handler(number)

    async def wait(self) -> None:
        """Until somebody wants us to drain."""
        self._is_serving = True
        keep()
        await self._told.wait()

    def _on_signal(self) -> None:
        if self._is_serving and not self._told.is_set():
            self._told.set()
        elif self._task is not None:
            self._task.cancel()


@contextlib.asynccontextmanager
async def shown(text: Callable[[], str]) -> AsyncIterator[None]:
    """What takes more than 2 s says so on a terminal, and goes when it is done."""
    if not sys.stderr.isatty():
        yield
        return

    async def spin() -> None:
        from rich.console import Console

        await asyncio.sleep(SLOW_S)
        with Console(stderr=True).status(text()) as status:
            while True:
                await asyncio.sleep(0.2)
                status.update(text())

    spinning = asyncio.create_task(spin())
    try:
        yield
    finally:
        spinning.cancel()
        await asyncio.wait([spinning])


@contextlib.asynccontextmanager
async def open_node(common: Common, **options: Any) -> AsyncIterator[Node]:
    """A node of this home that has joined its mesh; the options are NodeOptions'."""
    from meshllm.node import Node, NodeOptions

    with logging_on(common):
        async with Node(NodeOptions(common.home, **options)) as node:
            hub = node.membership.hub
            text = f"Connecting to {hub} …" if hub else "Looking around on the LAN …"
            async with shown(lambda: text):
                await node.joined()
            keep()
            yield node


def read_policy(relay_only: bool, direct_only: bool) -> Policy:
    """`--relay-only` and `--direct-only` as one word; UsageError for both."""
    if relay_only and direct_only:
        raise click.UsageError("--relay-only and --direct-only exclude each other.")
    return "relay" if relay_only else "direct" if direct_only else "all"


@contextlib.asynccontextmanager
async def serving_node(
    common: Common, role: str, facts: dict[str, Any], **options: Any
) -> AsyncIterator[Node]:
    """The same for a process that stays: it answers `status`, `peers` and `logs`, and
    goes on when the server is away. `facts` are part of its status."""
    from meshllm import control
    from meshllm.loglines import LogLines
    from meshllm.node import Node, NodeOptions

    logs = LogLines()
    with logging_on(common, [logs]):
        async with Node(NodeOptions(common.home, **options)) as node:
            node.watch_servers()
            state = control.State(lambda: {**node.status(), **facts}, node.peers, logs)
            async with control.serve(common.home, role, state):
                try:
                    await node.joined(JOIN_S)
                except PeerUnreachable as error:
                    common.note(f"{error} Trying on.")
                yield node
