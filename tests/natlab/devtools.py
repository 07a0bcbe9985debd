"""A page in a headless Chromium, driven through two pipes (the DevTools protocol).

No port, no client library; and Chromium ends when the pipes do, however we end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.natlab.net import PREFIX

log = logging.getLogger(__name__)

CHROMIUM = "chromium"
# It has roots of its own, and the laboratory's authority is not among them.
TRUST = "--ignore-certificate-errors"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", TRUST),
    "--remote-debugging-pipe",
)
READ_FD, WRITE_FD = 3, 4  # as Chromium wants them
CHUNK = 65_536
END_S = 5.0
SHORT = "/tmp"  # the path of its Unix socket has 108 bytes at most


class ChromiumEnded(Exception):
    """It has closed its pipe."""


class Page:
    """`on_told` gets each string that the page gives to its function `tell`."""

    def __init__(self, to: int, from_: int, url: str) -> None:
        self.on_told: Callable[[str], None] = lambda text: None
        self._to, self._from = to, from_
        self._rest = b""
        self._last = 0
        self._session: dict[str, str] = {}
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime"):
            self._ask(f"{domain}.enable")
        self._ask("Runtime.addBinding", name="tell")
        self._ask("Page.navigate", url=url)
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def listen(self) -> None:
        """From now on the running loop reads."""
        asyncio.get_running_loop().add_reader(self._from, self._on_readable)

    def call(self, function: str, *args: Any) -> None:
        """Calls of one page are made in order; what they throw is logged."""
        words = ", ".join(json.dumps(arg) for arg in args)
        expression = f"{function}({words})"
        self._send("Runtime.evaluate", expression=expression, awaitPromise=True)

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = self._send(method, **params)
        while (said := self._next()).get("id") != number:
            pass
        if "error" in said:
            raise RuntimeError(f"Chromium refuses {method}: {said['error']}")
        result: dict[str, Any] = said["result"]
        return result

    def _send(self, method: str, **params: Any) -> int:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        os.write(self._to, json.dumps(message | self._session).encode() + b"\0")
        return self._last

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            self._fill()
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        return message

    def _fill(self) -> None:
        data = os.read(self._from, CHUNK)
        if not data:
            raise ChromiumEnded
        self._rest += data

    def _on_readable(self) -> None:
        try:
            self._fill()
        except ChromiumEnded:
            asyncio.get_running_loop().remove_reader(self._from)
            raise
        while b"\0" in self._rest:
            self._on_message(self._next())

    def _on_message(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.bindingCalled":
            self.on_told(message["params"]["payload"])
        elif thrown := message.get("result", {}).get("exceptionDetails"):
            log.error("the page threw %s", thrown.get("exception", thrown))


@contextmanager
def chromium_page(path: Path) -> Iterator[Page]:
    """This file, open in a Chromium of its own."""
    its_read, to = os.pipe()
    from_, its_write = os.pipe()
    pipes = f'exec "$@" {READ_FD}<&{its_read} {WRITE_FD}>&{its_write}'
    with tempfile.TemporaryDirectory(
        prefix=PREFIX, dir=SHORT, ignore_cleanup_errors=True
    ) as folder:
        profile = (f"--user-data-dir={folder}/profile", "about:blank")
        with Path(folder, "errors").open("w") as errors:
            process = subprocess.Popen(
                ("sh", "-c", pipes, "sh", CHROMIUM, *FLAGS, *profile),
                pass_fds=(its_read, its_write),
                env=os.environ | {"TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        os.close(its_read)
        os.close(its_write)
        try:
            yield Page(to, from_, path.as_uri())
        except ChromiumEnded as ended:
            said = Path(errors.name).read_text()
            raise RuntimeError(f"Chromium has ended, having said:\n{said}") from ended
        finally:
            os.close(to)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(from_)
