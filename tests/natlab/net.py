"""Network namespaces: made, entered, and deleted whatever happens.

A namespace is called `mlab<pid>-<name>`: a later run sweeps away what a killed one left
behind, and leaves alone what another laboratory is using.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = f"mlab{os.getpid()}-"
OURS = re.compile(r"mlab(\d+)-")
NAMED = Path("/run/netns")
CLONE_NEWNET = 0x40000000
COMMANDS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}


def missing(**more: str) -> str | None:
    """Why there can be no laboratory here; None when there can. `more`: packages by
    the command that is needed of them."""
    if sys.platform != "linux":
        return "needs Linux, for network namespaces"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    wanted = (COMMANDS | more).items()
    lacking = {package for name, package in wanted if not shutil.which(name)}
    if lacking:
        return f"needs {', '.join(sorted(lacking))}"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    if subprocess.run(("unshare", "--net", "true"), capture_output=True).returncode:
        return "needs to be allowed network namespaces"
    return None


@contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Each with its loopback up, and nothing else; gone in the end with all in them."""
    sweep()
    try:
        for name in names:
            _run("ip", "netns", "add", PREFIX + name)
            ip(name, "link set lo up")
        yield
    finally:
        _delete(PREFIX + name for name in names)


def sweep() -> None:
    """Delete what laboratories left that were killed: namespaces with all who are in
    them, and the folder of `make natlab`."""
    _delete(path.name for path in _left_in(NAMED))
    for folder in _left_in(Path(tempfile.gettempdir())):
        shutil.rmtree(folder, ignore_errors=True)


def _left_in(folder: Path) -> Iterator[Path]:
    found = list(folder.iterdir()) if folder.exists() else []
    for path in found:
        match = OURS.match(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            yield path


def ip(name: str, *lines: str) -> None:
    """What `ip -batch` takes, within the namespace."""
    _run("ip", "-n", PREFIX + name, "-batch", "-", stdin="\n".join(lines))


def nft(name: str, rules: str) -> None:
    """Add these rules to those of the namespace."""
    _run(*entered(name, "nft", "-f", "-"), stdin=rules)


def sysctl(name: str, **values: int) -> None:
    """Keys below /proc/sys/net, with `__` for the slash."""
    with inside(name):
        for key, value in values.items():
            path = Path("/proc/sys/net", *key.split("__"))
            path.write_text(str(value))


def addresses(name: str) -> set[str]:
    """All of them, IPv4 and IPv6."""
    devices = json.loads(_run("ip", "-n", PREFIX + name, "-json", "addr"))
    return {one["local"] for device in devices for one in device["addr_info"]}


def veth(name: str, device: str, peer_name: str, peer: str) -> None:
    """A cable without delay between two namespaces, down at both ends."""
    other = f"netns {PREFIX}{peer_name}"
    ip(name, f"link add name {device} type veth peer name {peer} {other}")


def entered(name: str, *argv: str) -> tuple[str, ...]:
    """The command, run within the namespace; its process id is the command's own."""
    return ("nsenter", f"--net={NAMED / (PREFIX + name)}", *argv)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """What this thread opens or starts belongs to the namespace. Never await in it."""
    with open("/proc/thread-self/ns/net") as home, open(NAMED / (PREFIX + name)) as to:
        _setns(to.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def bound(
    name: str, kind: socket.SocketKind, host: str, port: int = 0
) -> socket.socket:
    """A socket of the namespace, for asyncio, bound to an address there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with inside(name):
        made = socket.socket(family, kind)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((host, port))
    return made


def _setns(fd: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _delete(names: Iterator[str]) -> None:
    for name in names:
        if not (NAMED / name).exists():
            continue
        pids = _run("ip", "netns", "pids", name).split()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        # One that another laboratory has swept meanwhile is gone as well.
        with suppress(RuntimeError):
            _run("ip", "netns", "delete", name)


def _run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{_shown(argv)} failed: {done.stderr.strip()}\n{stdin}")
    return done.stdout


def _shown(argv: Sequence[str]) -> str:
    return " ".join(argv)
