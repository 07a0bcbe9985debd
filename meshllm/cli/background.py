"""An event loop in a thread of its own, for a main thread that reads the keyboard."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from meshllm.cli.running import run

START_S: Final = 1.0
T = TypeVar("T")
R = TypeVar("R")


class Background(Generic[T]):
    """Holds an async context open in that loop, from `with` to its end.

    `with` gives what the async context gives. One task enters and leaves it.
    """

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context
        self._up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = (
            Future()
        )
        self._entered: Future[T] = Future()
        self._leave = asyncio.Event()
        # A second Ctrl-C while we wait for its end must not hang the process.
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> T:
        try:
            self._thread.start()
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
        """Its result. Ctrl-C, which may come at any line here, cancels the work and is
        raised once it has ended."""
        loop, _ = self._up.result()
        ended: Future[asyncio.Task[R]] = Future()
        started: list[asyncio.Task[R]] = []

        def start() -> None:
            started.append(loop.create_task(work))
            started[0].add_done_callback(ended.set_result)

        def cancel() -> None:
            if started:
                started[0].cancel()
            else:
                work.close()
                ended.cancel()

        try:
            loop.call_soon_threadsafe(start)
            return ended.result().result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(cancel)
            wait([ended])
            raise

    def _main(self) -> None:
        try:
            run(self._hold())
        except BaseException as error:
            for future in (self._up, self._entered):
                if not future.done():
                    future.set_exception(error)

    async def _hold(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._up.set_result((asyncio.get_running_loop(), task))
        async with self._context as value:
            self._entered.set_result(value)
            await self._leave.wait()

    def _end(self) -> None:
        # Ctrl-C may have come even before the thread had begun, or after its end.
        with contextlib.suppress(Exception):
            loop, holder = self._up.result(START_S)
            has_entered = self._entered.done()
            loop.call_soon_threadsafe(self._leave.set if has_entered else holder.cancel)
        if self._thread.is_alive():
            self._thread.join()
