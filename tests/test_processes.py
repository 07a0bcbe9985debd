"""Children end with us, and say why when they end early."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from meshllm.errors import BackendError
from meshllm.processes import Child, exit_when_parent_dies, guarded

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="waits for a stranger's end by pidfd (Linux)"
)

CHILD = """
import sys, threading
from meshllm.processes import exit_when_parent_dies
exit_when_parent_dies({before})
print('{{"ready": true}}', flush=True)
threading.Event().wait()
"""
# A child that will not hear of SIGTERM.
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + CHILD


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def ended(pid: int) -> None:
    """Until a process is gone that need not be our child."""
    fd = os.pidfd_open(pid)
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def test_a_child_says_it_is_ready_and_stops_when_asked() -> None:
    child = await Child.start(python(CHILD.format(before="None")))
    assert await child.wait_json(10) == {"ready": True}
    assert child.returncode is None
    assert await child.stop() == -signal.SIGTERM
    assert child.returncode == -signal.SIGTERM
    assert await child.stop() == -signal.SIGTERM  # stopping twice is allowed


async def test_a_child_that_will_not_stop_is_killed() -> None:
    child = await Child.start(python(STUBBORN.format(before="None")))
    await child.wait_json(10)
    assert await child.stop(timeout_s=0.1) == -signal.SIGKILL


async def test_a_child_that_dies_early_says_why() -> None:
    code = "import sys; sys.stderr.write('first\\nno such model\\n'); sys.exit(3)"
    child = await Child.start(python(code), name="The engine")
    with pytest.raises(BackendError, match="The engine ended with 3: no such model"):
        await child.wait_json(10)
    assert child.stderr_tail == "first\nno such model"
    await child.stop()


async def test_lines_before_the_json_are_passed_over() -> None:
    code = "print('loading'); print('[1]'); print('{\"a\": 1}'); print('more')"
    child = await Child.start(python(code))
    assert await child.wait_json(10) == {"a": 1}
    assert await child.wait_line(10) == "more"
    await child.stop()


async def test_a_child_that_says_nothing_is_not_waited_for_for_ever() -> None:
    child = await Child.start(python("input()"), name="The engine")
    with pytest.raises(BackendError, match="The engine did not say in time"):
        await child.wait_line(0.05)
    await child.stop()


async def test_only_the_end_of_what_it_complains_is_kept() -> None:
    code = "import sys; sys.stderr.write('x' * 1_000_000 + 'END'); print('{}')"
    child = await Child.start(python(code))
    await child.wait_json(10)
    await child.wait()
    assert child.stderr_tail.endswith("END")
    assert len(child.stderr_tail) < 10_000
    await child.stop()


async def test_a_child_that_prints_on_does_not_block() -> None:
    code = "print('{}', flush=True)\nfor _ in range(300_000): print('on and on')"
    child = await Child.start(python(code))
    await child.wait_json(10)
    assert await child.wait() == 0
    await child.stop()


async def test_a_line_without_end_does_not_block_it_either() -> None:
    child = await Child.start(python("print('x' * 5_000_000)"))
    assert await child.wait() == 0
    await child.stop()


async def test_the_environment_is_ours_and_more() -> None:
    code = "import os; print(os.environ['MORE'] + os.environ['MESHLLM_PARENT_PIPE'])"
    child = await Child.start(python(code), {"MORE": "yes"})
    assert await child.wait_line(10) == "yes1"
    await child.stop()


async def test_who_wants_each_line_is_told_it() -> None:
    told: list[str] = []
    code = "for n in range(1000): print(n)"
    child = await Child.start(python(code), on_line=told.append)
    assert await child.wait() == 0
    assert told == [str(n) for n in range(1000)]
    await child.stop()


# Programs that know nothing of us: the shell around them does the watching.
FOREIGN = """
import os, signal, sys, threading
signal.signal(signal.SIGUSR2, lambda *_: print("renewed", flush=True))
print('{"pid": %d}' % os.getpid(), flush=True)
while True: signal.pause()
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + FOREIGN


async def test_a_guarded_program_hears_signals_and_its_end_is_told() -> None:
    child = await Child.start(guarded(python(FOREIGN)))
    pid = (await child.wait_json(10))["pid"]
    child.send_signal(signal.SIGUSR2)
    assert await child.wait_line(10) == "renewed"
    child.send_signal(signal.SIGUSR2)
    assert await child.wait_line(10) == "renewed"
    os.kill(pid, signal.SIGKILL)
    assert await child.wait() == 128 + signal.SIGKILL
    child.send_signal(signal.SIGUSR2)  # to nobody
    await child.stop()


async def test_a_guarded_program_is_stopped_and_says_why_it_ended() -> None:
    child = await Child.start(guarded(python(FOREIGN)))
    await child.wait_json(10)
    assert await child.stop() == 128 + signal.SIGTERM
    code = "import sys; sys.stderr.write('no such thing\\n'); sys.exit(7)"
    child = await Child.start(guarded(python(code)), name="it")
    assert await child.wait() == 7
    assert child.why() == "it ended with 7: no such thing"
    await child.stop()


@pytest.mark.parametrize("code", [FOREIGN, DEAF], ids=["willing", "deaf"])
async def test_a_guarded_program_ends_when_we_are_killed(code: str) -> None:
    parent_code = f"""
import asyncio, json
from meshllm.processes import Child, guarded
async def main():
    child = await Child.start(guarded({python(code)!r}))
    print(json.dumps(await child.wait_json(10)), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await Child.start(python(parent_code))
    pid = (await parent.wait_json(10))["pid"]
    waiting = asyncio.ensure_future(ended(pid))
    await asyncio.sleep(0)
    try:
        os.kill(parent.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            await asyncio.shield(waiting)
    finally:
        if not waiting.done():
            os.kill(pid, signal.SIGKILL)
        await waiting
    await parent.stop()


@pytest.mark.parametrize("child_code", [CHILD, STUBBORN], ids=["willing", "stubborn"])
async def test_a_child_ends_when_its_parent_is_killed(
    child_code: str, tmp_path: Path
) -> None:
    """SIGKILL: nothing in the parent can clean up."""
    mark = tmp_path / "mark"
    before = f"lambda: open({str(mark)!r}, 'w').close(), grace_s=0.2"
    parent_code = f"""
import asyncio, json
from meshllm.processes import Child
async def main():
    child = await Child.start({python(child_code.format(before=before))!r})
    await child.wait_json(10)
    print(json.dumps({{"pid": child.pid}}), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await Child.start(python(parent_code))
    pid = (await parent.wait_json(10))["pid"]
    waiting = asyncio.ensure_future(ended(pid))
    await asyncio.sleep(0)  # it holds the pidfd now: the pid cannot be another's
    try:
        os.kill(parent.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            await asyncio.shield(waiting)
    finally:
        if not waiting.done():
            os.kill(pid, signal.SIGKILL)
        await waiting
    assert mark.exists()  # what the parent could not do, the child did
    await parent.stop()


def test_without_a_parent_of_ours_nothing_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MESHLLM_PARENT_PIPE", raising=False)

    def never() -> None:
        raise AssertionError("there is no parent to die")

    exit_when_parent_dies(never)
