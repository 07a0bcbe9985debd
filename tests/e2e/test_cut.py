"""A lost path is not a lost answer: UDP is cut off under real processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.cut import CUT, MEND, NAMESPACE

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

ROOT = Path(__file__).parents[2]


def can_cut() -> bool:
    if sys.platform != "linux" or shutil.which("ip") is None:
        return False
    trial = f"{NAMESPACE}\n{' '.join(CUT)}\n{' '.join(MEND)}"
    argv = ("unshare", "-rn", "sh", "-c", trial)
    return subprocess.run(argv, capture_output=True).returncode == 0


def test_this_machine_can_cut_udp_off() -> None:
    """CI has what the next test needs; elsewhere it is skipped by name."""
    if not can_cut() and os.environ.get("CI") != "true":
        pytest.skip("needs ip (iproute2), and network namespaces of one's own")
    assert can_cut()


async def test_udp_lost_for_twelve_seconds_costs_no_byte(tmp_path: Path) -> None:
    if not can_cut():
        pytest.skip("needs ip (iproute2), and network namespaces of one's own")
    script = f"{NAMESPACE}\nexec {sys.executable} -m tests.fakes.cut {tmp_path}"
    process = await asyncio.create_subprocess_exec(
        *("unshare", "-rn", "sh", "-c", script),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = json.loads(out)
    assert found["whole"] == [True] * 4, found
    assert found["begun"] == 4  # nothing was asked twice
    assert found["is_new_path"]
    assert found["path"] == "host"
