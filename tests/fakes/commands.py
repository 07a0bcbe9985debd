"""The real `meshllm` in processes of its own, each with its home; none outlives us."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshllm.processes import Child

READY_S = 60.0  # processes share this machine with other tests
NO_LAN = ("MESHLLM_SHARE_NO_LAN", "MESHLLM_GATEWAY_NO_LAN")
MESHLLM = (sys.executable, "-m", "meshllm")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.out, self
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Serving:
    """A command that runs, and what it said until it was ready."""

    child: Child
    said: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.said["url"])


class Commands:
    """Homes are folders under `root`, by name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._children: list[Child] = []
        # Our own settings must not reach them; temporary files stay where we look.
        self.env = {name: "" for name in os.environ if name.startswith("MESHLLM_")}
        self.env |= {"MESHLLM_LOOPBACK": "1", "TMPDIR": str(root / "tmp")}
        # Tests of the LAN clear these; others shall not meet whoever else is here.
        self.env |= dict.fromkeys(NO_LAN, "1")
        (root / "tmp").mkdir(exist_ok=True)
        cache = os.environ.get("MESHLLM_CACHE")
        if cache:
            self.env["MESHLLM_CACHE"] = cache

    def home(self, name: str) -> Path:
        return self._root / name

    async def start(
        self,
        home: str,
        command: str,
        *options: str,
        at: tuple[str, ...] = (),
        program: tuple[str, ...] = MESHLLM,
    ) -> Serving:
        """A serving command, once it is ready. BackendError says why it is not.

        `at`: what leads a command into a network namespace. `program`: one that has
        the commands of `meshllm`.
        """
        where = ("--home", str(self.home(home)))
        argv = (*at, *program, command, "--json", *where, *options)
        child = await Child.start(argv, self.env, name=command)
        self._children.append(child)
        said: dict[str, Any] = {}
        while said.get("event") != "ready":
            said |= await child.wait_json(READY_S)
        return Serving(child, said)

    async def run(
        self,
        home: str,
        *words: str,
        stdin: str | bytes = "",
        code: int | None = 0,
        at: tuple[str, ...] = (),
    ) -> Done:
        """A command that ends, and must end with `code`; `at` as for `start`."""
        process = await asyncio.create_subprocess_exec(
            *at,
            *MESHLLM,
            "--home",
            str(self.home(home)),
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.env},
        )
        typed = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            async with asyncio.timeout(READY_S):
                out, err = await process.communicate(typed)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        done = Done(process.returncode, out.decode(), err.decode())
        assert code is None or done.code == code, done
        return done

    async def stop(self) -> None:
        for child in reversed(self._children):
            await child.stop()


@asynccontextmanager
async def commands(root: Path) -> AsyncIterator[Commands]:
    running = Commands(root)
    try:
        yield running
    finally:
        await running.stop()
