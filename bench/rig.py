"""Starts what is measured: the model server, the relay, a mesh of real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs: an address, and what leads a command there."""

    host: str = "127.0.0.1"
    port: int = 0  # of the hub: whoever has an address of its own may choose
    entered: tuple[str, ...] = ()


HERE = Place()


@dataclass
class Way:
    """One way to the model server: the URL that is asked and who works on it."""

    name: str
    url: str
    pids: list[int] = field(default_factory=list)

    def cpu_s(self) -> float:
        """Processor seconds of its processes, the model server's not counted."""
        return sum(cpu_s(pid) for pid in self.pids)


class Rig:
    """Use it as a context manager; everything it started ends with it.

    The gateway is at `asker`, the relay's broker and the hub are `between`, all others
    beside the model server.
    """

    def __init__(
        self, asker: Place = HERE, between: Place = HERE, model: Place = HERE
    ) -> None:
        self._asker, self._between, self._model = asker, between, model
        self._stack = ExitStack()
        self.homes = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="meshllm-"))
        )

    def __enter__(self) -> Self:
        try:
            at = self._model
            model = self._start(at, "-m", "bench.model_server", at.host)
            self.direct = Way("direct", model["url"])
            there = self._between
            broker = self._start(there, "-m", "bench.relay", "broker", there.host)
            relayed = ("connector", broker["url"], model["url"])
            connector = self._start(at, "-m", "bench.relay", *relayed)
            relay_pids = [broker["pid"], connector["pid"]]
            self.relay = Way("relay", broker["url"], relay_pids)
            self.mesh = self._start_mesh(model["url"])
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def ways(self) -> list[Way]:
        return [self.direct, self.relay, self.mesh]

    def _start_mesh(self, model_url: str) -> Way:
        asker, between, model = self._asker, self._between, self._model
        listen = ["--host", between.host, "--port", str(between.port)]
        if between is not HERE:
            listen += ["--public-url", f"http://{between.host}:{between.port}"]
        hub = self._meshllm(between, "hub", "signal", *listen, event="setup")
        self._run(model, "home", "init", hub["link"])
        link = self._run(model, "home", "invite", "--name", "asker")["link"]
        self._run(asker, "away", "join", link)
        parallel = ["--parallel", "256", "--no-lan"]
        backend = ["--backend", "ollama", "--url", model_url]
        share = self._meshllm(model, "home", "share", *backend, *parallel)
        self.share_pid = share["pid"]
        gateway = self._meshllm(asker, "away", "gateway", "--port", "0", "--no-lan")
        return Way("meshllm", gateway["url"], [share["pid"], gateway["pid"]])

    def _meshllm(
        self, place: Place, home: str, *args: str, event: str = "ready"
    ) -> dict[str, Any]:
        argv = ("-m", "meshllm", "--json", "--home", str(self.homes / home), *args)
        return self._start(place, *argv, event=event)

    def _run(self, place: Place, home: str, *args: str) -> dict[str, Any]:
        argv = [*place.entered, sys.executable, "-m", "meshllm", "--json"]
        argv += ["--home", str(self.homes / home), *args]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout or "{}"))

    def _start(
        self, place: Place, *argv: str, event: str | None = None
    ) -> dict[str, Any]:
        return start(self._stack, [*argv], event, place)


def start(
    stack: ExitStack, argv: list[str], event: str | None, place: Place = HERE
) -> dict[str, Any]:
    """A process of Python that ends with `stack`: its first line of JSON (the first
    with this `event`), and its `pid`."""
    process = subprocess.Popen(
        [*place.entered, sys.executable, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(_stop, process)
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        if event is None or said.get("event") == event:
            return {**said, "pid": process.pid}
    raise RuntimeError(f"{' '.join(argv)} ended before it was ready")


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def rss_kib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def udp_dropped(pids: list[int]) -> int:
    """Datagrams thrown away because a buffer was full, of the sockets open now."""
    links = [link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = {os.readlink(link) for link in links if link.is_symlink()}
    rows = [
        row.split()
        for table in ("/proc/net/udp", "/proc/net/udp6")
        for row in Path(table).read_text().splitlines()[1:]
    ]
    inode, drops = 9, 12  # columns
    return sum(int(row[drops]) for row in rows if f"socket:[{row[inode]}]" in sockets)


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S
