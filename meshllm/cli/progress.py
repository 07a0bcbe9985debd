"""A download that shows: a bar on a terminal, events for programs, else a line."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from meshllm.cli.common import Common

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Download:
    """Call it with the bytes that are here and the bytes in all; shows up to once a
    percent, and nothing when nothing is fetched."""

    def __init__(self, common: Common, what: str) -> None:
        self._common = common
        self._what = what
        self._percent = -1
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None

    def __call__(self, done: int, total: int | None) -> None:
        percent = done * 100 // total if total else 0
        if percent == self._percent:
            return
        first, self._percent = self._percent < 0, percent
        if self._common.json:
            fields: dict[str, Any] = {"what": self._what, "done": done, "total": total}
            self._common.event("progress", "", **fields)
        elif sys.stderr.isatty():
            self._draw(done, total)
        elif first:
            self._common.note(f"Fetching {self._what} …")

    def _draw(self, done: int, total: int | None) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            bar = Progress(
                TextColumn(f"Fetching {self._what}"),
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            bar.start()
            self._bar = bar, bar.add_task("", total=total)
        bar, task = self._bar
        bar.update(task, completed=done, total=total)
