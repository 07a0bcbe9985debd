"""An event loop in a thread of its own, for a main thread that reads the keyboard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from meshllm.cli.running import run

T = TypeVar("T")
R = TypeVar("R")


class Background(Generic[T]):
    """Holds an async context open in that loop, from `with` to its end.

    `with` gives what the async context gives. One task enters and leaves it.
    """

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context
        self._entered: Future[T] = Future()
        self._thread = threading.Thread(target=self._main, name="event loop")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holder: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()

    def __enter__(self) -> T:
        self._thread.start()
        try:
            return self._entered.result()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Its result. Ctrl-C cancels it, and is raised once it has ended."""
        loop = self._loop
        assert loop is not None
        ended: Future[asyncio.Task[R]] = Future()
        started: list[asyncio.Task[R]] = []

        def start() -> None:
            started.append(loop.create_task(work))
            started[0].add_done_callback(ended.set_result)

        loop.call_soon_threadsafe(start)
        try:
            return ended.result().result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(lambda: started[0].cancel())
            ended.result()
            raise

    def _main(self) -> None:
        try:
            run(self._hold())
        except BaseException as error:
            if not self._entered.done():
                self._entered.set_exception(error)

    async def _hold(self) -> None:
        self._loop, self._holder = asyncio.get_running_loop(), asyncio.current_task()
        async with self._context as value:
            self._entered.set_result(value)
            await self._leave.wait()

    def _end(self) -> None:
        loop, holder = self._loop, self._holder
        if loop is not None and holder is not None and not loop.is_closed():
            is_up = self._entered.done()
            loop.call_soon_threadsafe(self._leave.set if is_up else holder.cancel)
        self._thread.join()
