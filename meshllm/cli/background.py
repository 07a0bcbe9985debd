"""An event loop in a thread of its own, for a main thread that reads the keyboard."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, Generic, TypeVar

from meshllm.cli.running import run

START_S: Final = 1.0
T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def told_of_interrupts(on_interrupt: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C calls `on_interrupt` and is raised at the end; the second one at once.

    By itself it is raised between any two instructions, also those of a lock that is
    just being taken: nobody could then take that lock any more.
    """
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        on_interrupt()

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield
    except BaseException:
        if count == 1:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, former)
    if count:
        raise KeyboardInterrupt


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
            loop, holder = self._up.result()
            give_up = partial(loop.call_soon_threadsafe, holder.cancel)
            with told_of_interrupts(give_up):
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
        """Its result. Ctrl-C cancels the work and is raised once it has ended."""
        loop, _ = self._up.result()
        ended: Future[asyncio.Task[R]] = Future()
        started: list[asyncio.Task[R]] = []

        def start() -> None:
            started.append(loop.create_task(work))
            started[0].add_done_callback(ended.set_result)

        def cancel() -> None:  # runs after `start`: calls keep their order
            started[0].cancel()

        loop.call_soon_threadsafe(start)
        with told_of_interrupts(lambda: loop.call_soon_threadsafe(cancel)):
            task = ended.result()
        return task.result()

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
