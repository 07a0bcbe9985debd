"""The control socket: what a running process tells, to whom, and what it leaves."""

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from meshllm import control
from meshllm.control import Running, State
from meshllm.errors import ConfigError, MeshError
from meshllm.loglines import LogLines

HOLDER = """
import asyncio, sys
from pathlib import Path
from meshllm import control
from meshllm.loglines import LogLines

async def main():
    state = control.State(dict, list, LogLines())
    async with control.serve(Path(sys.argv[1]), "share", state):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def state(logs: LogLines | None = None) -> State:
    return State(
        status=lambda: {"name": "anna"},
        peers=lambda: [{"name": "ben"}],
        logs=logs or LogLines(),
    )


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


async def test_a_running_share_tells_its_status_and_peers(tmp_path: Path) -> None:
    async with control.serve(tmp_path, "share", state()):
        [one] = control.running(tmp_path)
        assert (one.role, one.pid) == ("share", os.getpid())
        assert await control.ask(one, "/status") == {"name": "anna"}
        assert await control.ask(one, "/peers") == [{"name": "ben"}]
    assert control.running(tmp_path) == []


async def test_nobody_else_may_come_near_the_socket(tmp_path: Path) -> None:
    async with control.serve(tmp_path, "share", state()):
        [one] = control.running(tmp_path)
        assert mode(tmp_path / "run") == 0o700
        assert mode(one.socket) == 0o600


async def test_a_home_that_is_not_there_yet_is_made_private(tmp_path: Path) -> None:
    async with control.serve(tmp_path / "new", "share", state()):
        assert mode(tmp_path / "new") == 0o700


async def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    async with control.serve(tmp_path, "share", state()):
        assert mode(tmp_path / "run") == 0o700


async def test_share_and_gateway_run_side_by_side(tmp_path: Path) -> None:
    async with (
        control.serve(tmp_path, "gateway", state()),
        control.serve(tmp_path, "share", state()),
    ):
        assert [one.role for one in control.running(tmp_path)] == ["share", "gateway"]


async def test_a_home_too_deep_for_a_socket_works_as_well(tmp_path: Path) -> None:
    home = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6)
    async with control.serve(home, "share", state()):
        [one] = control.running(home)
        folder = Path(one.socket).parent
        assert not folder.is_relative_to(home)
        assert mode(folder) == 0o700
        assert await control.ask(one, "/status") == {"name": "anna"}
    assert not folder.exists()


async def test_log_lines_come_as_a_list(tmp_path: Path) -> None:
    logs = LogLines()
    logs.handle(record("hello"))
    async with control.serve(tmp_path, "share", state(logs)):
        [one] = control.running(tmp_path)
        assert [line["text"] for line in await control.ask(one, "/logs")] == ["hello"]


async def test_a_follower_of_the_log_hears_more_until_the_end(tmp_path: Path) -> None:
    logs = LogLines()
    logs.handle(record("hello"))
    is_following, heard = asyncio.Event(), []

    async def listen(one: Running) -> None:
        async with aclosing(control.follow_logs(one)) as lines:
            async for line in lines:
                heard.append(line["text"])
                is_following.set()

    async with (
        asyncio.TaskGroup() as group,
        control.serve(tmp_path, "share", state(logs)),
    ):
        [one] = control.running(tmp_path)
        group.create_task(listen(one))
        await is_following.wait()
        logs.handle(record("and more"))
        await asyncio.to_thread(int)  # a turn of the loop, which adds the line
    assert heard == ["hello", "and more"]


async def test_what_a_killed_process_left_is_cleaned_up(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    dead = folder / "share.sock"
    dead.touch()
    pointer = folder / "share.json"
    pointer.write_text(json.dumps({"pid": 1, "socket": str(dead), "started": 1.0}))
    assert control.running(tmp_path) == []
    control.remove_stale(tmp_path)
    assert not pointer.exists()
    assert not dead.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"pid": 1}', '{"pid": "x"}', "\xff"])
def test_a_pointer_that_is_none_of_ours_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "share.json").write_text(text, encoding="latin-1")
    assert control.running(tmp_path) == []


async def test_a_process_that_just_ended_is_named(tmp_path: Path) -> None:
    gone = Running("share", 4711, str(tmp_path / "share.sock"), 1.0)
    with pytest.raises(MeshError, match=r"`meshllm share` \(process 4711\)"):
        await control.ask(gone, "/status")


async def test_a_second_share_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        with pytest.raises(ConfigError, match=f"process {first.pid}.*--home"):
            async with control.serve(tmp_path, "share", state()):
                raise AssertionError("two shares in one home")
        [one] = control.running(tmp_path)
        assert one.pid == first.pid  # the second did not touch the first's files
        assert first.stdin is not None
        first.stdin.close()
        first.wait()
    async with control.serve(tmp_path, "share", state()):
        assert [one.pid for one in control.running(tmp_path)] == [os.getpid()]


async def test_a_killed_share_does_not_block_the_next(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        first.kill()
        first.wait()
    assert control.running(tmp_path) == []
    async with control.serve(tmp_path, "share", state()):
        [one] = control.running(tmp_path)
        assert await control.ask(one, "/status") == {"name": "anna"}


def holder(home: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("meshllm", logging.INFO, "", 0, text, None, None)
