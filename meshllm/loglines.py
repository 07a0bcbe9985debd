"""The latest log lines of this process, kept in memory for `meshllm logs`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

KEPT = 2000  # lines; an hour or so of a busy provider, well under 1 MiB
UNREAD = 500  # lines one slow follower may lag behind before it loses the oldest


class LogLines(logging.Handler):
    """Make it inside a running event loop: followers are told there."""

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._loop = asyncio.get_running_loop()
        self._lines: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._followers: set[_Follower] = set()
        self._is_over = False

    def emit(self, record: logging.LogRecord) -> None:
        """From any thread."""
        try:
            line = {
                "ts": round(record.created, 3),
                "level": record.levelname.lower(),
                "logger": record.name,
                "text": record.getMessage(),
            }
            self._loop.call_soon_threadsafe(self._add, line)
        except RuntimeError:  # the loop has ended: nobody is left to ask
            pass
        except Exception:
            self.handleError(record)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """`{ts, level, logger, text}`, oldest first."""
        return list(self._lines)

    async def follow(self) -> AsyncGenerator[dict[str, Any], None]:
        """What is kept and then what comes, until `end`."""
        follower = _Follower(self._lines)
        if self._is_over:
            follower.is_over = True
        self._followers.add(follower)
        try:
            while (line := await follower.next()) is not None:
                yield line
        finally:
            self._followers.discard(follower)

    def end(self) -> None:
        """Lets every follower read what is left, and end."""
        self._is_over = True
        for follower in self._followers:
            follower.is_over = True
            follower.news.set()

    def _add(self, line: dict[str, Any]) -> None:
        self._lines.append(line)
        for follower in self._followers:
            follower.unread.append(line)
            follower.news.set()


class _Follower:
    def __init__(self, kept: deque[dict[str, Any]]) -> None:
        self.unread = deque(kept, maxlen=KEPT + UNREAD)
        self.news = asyncio.Event()
        self.is_over = False

    async def next(self) -> dict[str, Any] | None:
        while not self.unread:
            if self.is_over:
                return None
            self.news.clear()
            await self.news.wait()
        return self.unread.popleft()
