"""The whole suite, in two lanes side by side: what loads the machine, what is idle.

`make test`. The output of each step is printed whole when it ends; one that fails stops
no other. Tests that leave the machine idle while a cable is pulled or a name is heard
are in a lane of their own, and take a tenth of a core from the rest; after them the
page's run there, beside processes that nobody times.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
GATED = ("tests/protocol", "tests/trust", "tests/signaling")
COVERED = "meshllm/protocol/*,meshllm/trust/*,signaling/hub.py"
TIMED = (
    *("tests/e2e/test_chaos.py", "tests/e2e/test_silence.py"),
    *("tests/e2e/test_strain.py", "tests/natlab"),
)
IDLE = (
    *("tests/browser/test_cut.py", "tests/e2e/test_cut.py", "tests/nearby"),
    *("tests/natlab/test_lan.py", "tests/natlab/test_pair.py"),
)
PYTEST = (sys.executable, "-m", "pytest", "--quiet")


def but(*paths: str) -> tuple[str, ...]:
    return tuple(f"--ignore={path}" for path in paths)


# Name and command of each step; a lane runs its own one after the other.
LOADS = {
    "the gated rooms": (
        *(sys.executable, "-m", "coverage", "run"),
        *("-m", "pytest", "--quiet", *GATED),
    ),
    "their coverage": (
        *(sys.executable, "-m", "coverage", "report", f"--include={COVERED}"),
        *("--fail-under=100", "--show-missing", "--skip-covered"),
    ),
    "the other rooms": (*PYTEST, "-m", "not real", *but(*GATED, *TIMED, *IDLE)),
    "real processes": (*PYTEST, "-m", "real", *but(*GATED, *TIMED, *IDLE)),
    "real processes, timed": (*PYTEST, *TIMED, *but(*IDLE)),
}
IDLES = {
    "what waits for real time": (*PYTEST, *IDLE),
    "the page": (str(ROOT / ".ci" / "web"), "test"),  # done before the timed ones begin
}


async def lane(steps: Mapping[str, Sequence[str]]) -> list[str]:
    """Those of its steps that failed."""
    failed = []
    for name, command in steps.items():
        began = time.monotonic()
        code, output = await run(command)
        sys.stdout.buffer.write(b"\n== %s ==\n" % name.encode() + output)
        took = time.monotonic() - began
        print(f"== {name}: exit {code} after {took:.0f} s", flush=True)
        if code:
            failed.append(name)
    return failed


async def run(command: Sequence[str]) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is ours to pass on, once
    )
    ending = asyncio.ensure_future(process.communicate())
    try:
        output, _ = await asyncio.shield(ending)
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        sys.stdout.buffer.write((await ending)[0])
        raise
    assert process.returncode is not None
    return process.returncode, output


async def main() -> int:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    lanes = await asyncio.gather(lane(LOADS), lane(IDLES))
    failed = [name for one in lanes for name in one]
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nAll passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    # A shell's background job ignores it, and so would all that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if chosen := sys.argv[1:]:  # these alone, as they come, without a gate
        os.execv(sys.executable, (sys.executable, "-m", "pytest", *chosen))
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
