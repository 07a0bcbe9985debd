"""UDP is cut off under a real browser: its answers come whole, and once."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.cut import CUT, MEND, NAMESPACE

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]


def can_cut() -> bool:
    """tests/e2e/test_cut.py demands it in CI."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return False
    trial = f"{NAMESPACE}\n{' '.join(CUT)}\n{' '.join(MEND)}"
    argv = ("unshare", "-rn", "sh", "-c", trial)
    return subprocess.run(argv, capture_output=True).returncode == 0


async def test_udp_lost_twice_costs_a_page_no_byte(tmp_path: Path) -> None:
    if not can_cut():
        pytest.skip("needs ip (iproute2), and network namespaces of one's own")
    script = f"{NAMESPACE}\nexec {sys.executable} -m tests.fakes.cut_browser {tmp_path}"
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
    assert found["whole"] == [True, True], found
    assert found["begun"] == 2  # nothing was asked twice
    assert found["after_short"] > 1  # silence was answered with another path
    assert found["errors"] == []
