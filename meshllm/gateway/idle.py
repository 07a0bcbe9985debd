"""Pure: which connections are cut because nothing comes of them.

Whoever reaches the port can open sockets and say nothing, or a byte a minute, until we
have no file descriptors left for those who ask.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, Generic, TypeVar

# Above aiohttp's keep-alive, which ends what has asked before.
SILENT_S: Final = 125.0
BODY_S: Final = 60.0  # without one more byte of a body that was announced
SILENT_MAX: Final = 512  # half of the 1,024 files that a process may usually have open

Key = TypeVar("Key", bound=Hashable)


class Idle(Generic[Key]):
    """Since when each connection is where it is."""

    def __init__(self) -> None:
        self._since: dict[Key, tuple[int, float]] = {}

    def due(self, waiting: Mapping[Key, int | None], now: float) -> list[Key]:
        """Those to cut. `waiting` are the connections without a whole request: how much
        of a body has come, or None where no head has."""
        since: dict[Key, tuple[int, float]] = {}
        for key, count in waiting.items():
            size = -1 if count is None else count
            known = self._since.get(key)
            same = known is not None and known[0] == size
            since[key] = known if known is not None and same else (size, now)
        self._since = since
        still = sorted(
            (k for k in since if since[k][1] < now), key=lambda k: since[k][1]
        )
        over = set(still[: max(0, len(since) - SILENT_MAX)])
        return [
            key
            for key, (size, at) in since.items()
            if key in over or now - at > (SILENT_S if size < 0 else BODY_S)
        ]

    def forget(self, key: Key) -> None:
        """It asked something: its time begins anew."""
        self._since.pop(key, None)
