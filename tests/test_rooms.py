"""Imports between rooms go down only; pure rooms are pure (docs/architecture.md).

The rooms are in the order of their height: each may import what its line names, and
everything it names stands below it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "__main__": "cli",
    "cli": "*",
    "facts": "metrics node provider transport",
    "demo": "backends config founding joining processes routing",
    "doctor": "control joining nearby node protocol routing transport trust",
    "node": "backends dialects identity known membership nearby protocol provider"
    " routing transport trust",
    "pairing": "identity joining membership protocol transport trust",
    "founding": "identity joining membership transport trust",
    "joining": "control identity membership nearby transport trust",
    "conversation": "gateway routing",
    "gateway": "dialects health metrics now page pour routing store",
    "provider": "backends dialects pour protocol transport trust",
    "routing": "dialects pour protocol transport trust",
    "nearby": "identity membership protocol transport trust",
    "transport": "identity now pour protocol trust",
    "signaling": "config health identity metrics page processes protocol store trust",
    "membership": "identity meshfile store tickets trust",
    "known": "store tickets trust",
    "tickets": "store trust",
    "meshfile": "trust",
    "identity": "store trust",
    "backends": "dialects pour processes",
    "control": "health loglines store",
    "probes": "health metrics",
    "metrics": "",
    "protocol": "trust",
    "trust": "",
    "dialects": "",
    "store": "",
    "pour": "",
    "now": "",
    "processes": "",
    "loglines": "",
    "config": "",
    "health": "",
    "page": "",
    "errors": "",
}
EVERYWHERE = {"errors", "version"}  # `from meshllm import __version__`

PURE = [
    "meshllm/dialects/*.py",
    "meshllm/gateway/idle.py",
    "meshllm/doctor/nat.py",
    "meshllm/protocol/*.py",
    "meshllm/trust/*.py",
    "meshllm/routing/candidates.py",
    "meshllm/routing/choose.py",
    "meshllm/transport/verdict.py",
    "signaling/effects.py",
    "signaling/hub.py",
    "signaling/kept.py",
    "signaling/limits.py",
    "signaling/mailboxes.py",
    "signaling/meshes.py",
    "signaling/requests.py",
    "signaling/shelf.py",
    "signaling/turn.py",
]
# Everything else is a clock, a file, a socket, a thread, or chance, or might be.
PURE_MAY = {
    *("__future__", "base64", "binascii", "collections", "collections.abc"),
    *("contextlib", "dataclasses", "datetime", "enum", "hashlib", "hmac"),
    *("ipaddress", "json", "math", "orjson", "re", "struct", "types", "typing"),
    *("urllib.parse",),
    *("nacl.exceptions", "nacl.public", "nacl.secret", "nacl.signing"),
}
# What lets the world in through those: files, and what the clock or chance says.
IMPURE_CALLS = {"open", "input", "print", "eval", "exec", "__import__"}
IMPURE_METHODS = {"generate", "now", "today", "utcnow"}

# A library, and the only place that knows it.
LIBRARIES = {
    "aiortc": "meshllm/transport/",
    "aioice": "meshllm/transport/",
    "av": "meshllm/transport/",
    "pylibsrtp": "meshllm/transport/",
    "zeroconf": "meshllm/transport/lan.py",
    "click": "meshllm/cli/",
    "rich": "meshllm/cli/",
    "xllamacpp": "meshllm/backends/",
    "prometheus_client": "meshllm/metrics.py",
}

FILES = sorted(
    path.relative_to(ROOT)
    for top in ("meshllm", "signaling")
    for path in (ROOT / top).rglob("*.py")
)


def room_of(module: str) -> str | None:
    """None: not ours."""
    top, _, rest = module.partition(".")
    if top == "signaling":
        return "signaling"
    if top == "meshllm":
        return rest.partition(".")[0] or "version"
    return None


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is named, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports name the whole module"
            if node.module == "meshllm":
                yield from (
                    f"meshllm.{alias.name}" if alias.name in ROOMS else "meshllm"
                    for alias in node.names
                )
            else:
                yield node.module


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def room_at(path: Path) -> str:
    room = room_of(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    assert room is not None
    return room


def pure_files() -> list[Path]:
    return sorted(
        path.relative_to(ROOT) for pattern in PURE for path in ROOT.glob(pattern)
    )


def test_every_file_is_in_a_room_of_the_table() -> None:
    assert {room_at(path) for path in FILES} - {"version"} == set(ROOMS)


def test_the_table_itself_goes_down_only() -> None:
    order = list(ROOMS)
    for room, allowed in ROOMS.items():
        below = set(order[order.index(room) + 1 :])
        assert set(allowed.split()) <= below | {"*"}, room


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_room_imports_only_what_its_line_names(path: Path) -> None:
    room = room_at(path)
    found = {room_of(module) for module in imports(parsed(path))} - {None, room}
    allowed = set(ROOMS.get(room, "").split()) | EVERYWHERE
    if "*" in allowed:
        allowed = set(ROOMS) | EVERYWHERE

    assert found <= allowed


@pytest.mark.parametrize("room", ["protocol", "trust", "dialects"])
def test_the_pure_rooms_know_no_room_that_is_not(room: str) -> None:
    assert set(ROOMS[room].split()) <= {"protocol", "trust", "dialects"}


@pytest.mark.parametrize("path", pure_files(), ids=str)
def test_a_pure_file_takes_time_and_chance_as_values(path: Path) -> None:
    tree = parsed(path)
    others = {module for module in imports(tree) if room_of(module) is None}
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}

    assert others <= PURE_MAY
    assert not {f.id for f in called if isinstance(f, ast.Name)} & IMPURE_CALLS
    assert not {f.attr for f in called if isinstance(f, ast.Attribute)} & IMPURE_METHODS


def test_the_hub_is_pure_with_all_it_stands_on() -> None:
    pure = {path.stem for path in pure_files() if path.parts[0] == "signaling"}
    for name in pure:
        for module in imports(parsed(Path("signaling") / f"{name}.py")):
            if module.startswith("signaling."):
                assert module.partition(".")[2] in pure, (name, module)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_library_is_known_in_one_place(path: Path) -> None:
    for module in imports(parsed(path)):
        place = LIBRARIES.get(module.partition(".")[0], "")
        assert path.as_posix().startswith(place), module


def test_the_signaling_server_carries_no_webrtc() -> None:
    """PyAV alone costs 50 MB; a small rented machine has 512."""
    script = "import sys, signaling.server; print(*sorted(sys.modules))"

    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(ran.stdout.split())
    assert "signaling.hub" in loaded
    assert not loaded & {"aiortc", "aioice", "av", "meshllm.transport"}
