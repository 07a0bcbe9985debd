"""Runs a coturn beside the signaling server: starts it, and keeps it running."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
from collections import deque
from typing import Final

from meshllm.errors import ConfigError
from meshllm.processes import Child, guarded
from meshllm.store import write_over
from signaling import stun
from signaling.coturn_config import Coturn, coturn_config
from signaling.coturn_plan import check_ports

log = logging.getLogger(__name__)

COMMAND: Final = "turnserver"
READY_S: Final = 15
POLL_S: Final = 0.05
STOP_S: Final = 3
STABLE_S: Final = 60  # one that ran less failed once more
BACKOFF_S: Final = 60
LAST_LINES: Final = 20
# How the lines begin that say what is wrong, rather than what happened next.
_TROUBLE: Final = re.compile(r"error|cannot|fatal|invalid|fail|denied", re.IGNORECASE)
INSTALL: Final = (
    "coturn is not installed, and --coturn needs it: `apt install coturn` (then"
    " `systemctl disable --now coturn`: Debian starts one of its own),"
    " `dnf install coturn`, or `brew install coturn`."
)


class CoturnProcess:
    """`start` it, `stop` it; meanwhile it is started again whenever it ends."""

    def __init__(self, coturn: Coturn) -> None:
        self._coturn = coturn
        self._child: Child | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._is_ready = False

    @property
    def is_running(self) -> bool:
        return self._is_ready

    async def start(self) -> None:
        """Serves when it returns. ConfigError says why it does not."""
        try:
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._keeping = asyncio.create_task(self._keep(), name="coturn")

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        self._is_ready = False
        if self._child is not None:
            await self._child.stop(STOP_S)

    def reload_certificate(self) -> None:
        """For new connections; those that are open stay."""
        if self._child is not None and self._is_ready:
            self._child.send_signal(signal.SIGUSR2)

    async def _launch(self) -> None:
        if shutil.which(COMMAND) is None:
            raise ConfigError(INSTALL)
        coturn = self._coturn
        check_ports(coturn)
        path = coturn.folder / "turnserver.conf"
        write_over(path, coturn_config(coturn))
        self._last.clear()
        child = self._child = await Child.start(
            guarded([COMMAND, "-c", str(path)]), name="coturn", on_line=self._on_line
        )
        answering = asyncio.create_task(self._answers())
        ending = asyncio.create_task(child.wait())
        try:
            await asyncio.wait((answering, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            answering.cancel()
            await asyncio.wait((answering, ending))
        if child.returncode is not None:
            raise ConfigError(f"coturn ended at once. {self._why()}")
        if answering.cancelled() or not answering.result():
            await child.stop(STOP_S)
            raise ConfigError(f"coturn does not answer. {self._why()}")
        self._is_ready = True

    async def _answers(self) -> bool:
        address = self._coturn.listening[0]
        found = await stun.ask(
            (str(address), self._coturn.port),
            address,
            again_s=POLL_S,
            tries=int(READY_S / POLL_S),
        )
        return found is not None

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            since = loop.time()
            if self._is_ready and self._child is not None:
                code = await self._child.wait()
                self._is_ready = False
                failures = 0 if loop.time() - since > STABLE_S else failures
                log.warning("coturn ended with %s; starting it again", code)
            await asyncio.sleep(min(BACKOFF_S, float(1 << min(failures, 10))))
            failures += 1
            try:
                await self._launch()
            except (ConfigError, OSError) as exc:
                log.warning("coturn cannot be started again yet: %s", exc)

    def _on_line(self, line: str) -> None:
        if line := line.strip():
            self._last.append(line)
            log.debug("coturn: %s", line)

    def _why(self) -> str:
        """The line that tells most of why it failed."""
        stderr = self._child.stderr_tail.splitlines() if self._child else []
        lines = [*stderr, *self._last] or ["It wrote no reason."]
        telling = [line for line in lines if _TROUBLE.search(line)] or lines
        return f"It says: {telling[-1]}"
