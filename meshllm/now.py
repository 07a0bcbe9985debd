"""Runs a coroutine of a library's that, as we use it, never waits."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


def run_now(work: Coroutine[Any, Any, None]) -> None:
    """To its end, in this call. RuntimeError when it does wait."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError(f"{work} waits, which it did not in the version we know")
