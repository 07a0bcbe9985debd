"""`python -m tests.fakes.cut FOLDER`: UDP is lost for 12 s under running answers.

For a network namespace made by CUT_OFF, which a test can enter only with a new process.
Prints what came of the answers as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.fakes.counting import Plan
from tests.fakes.program import OLLAMA, OPENAI, ask
from tests.fakes.town import Mark, Town, town

CUT_S = 12.0  # longer than the 10 s of silence after which a path is given up
STEADY = Plan(lines=1500, every_ms=10)
BULKY = Plan(lines=750, every_ms=20, pad=3000)  # 150 kB/s: both windows fill meanwhile
LATE = Plan(lines=10, head_ms=8_000)  # all that it says, it says while nothing passes

# A machine with an address of its own, whose packets find their way by rules: those of
# UDP can be sent where nobody takes them. It needs `ip` and nothing else.
NAMESPACE = """
set -e
ip link set lo up
ip link add s0 type veth peer name s1
ip addr add 10.99.0.1/24 dev s0
ip link set s0 arp off up
ip link set s1 up
ip rule add pref 10 lookup local
ip rule del pref 0
ip route add table 100 default dev s0
"""
CUT = ("ip", "rule", "add", "pref", "1", "ipproto", "udp", "lookup", "100")
MEND = ("ip", "rule", "del", "pref", "1")


async def main(root: Path) -> None:
    async with town(root) as here:
        here.meshllm.env["MESHLLM_LOOPBACK"] = ""
        backend = await here.backend()
        await here.share(backend, "anna", "--parallel", "8")
        gateway = await here.gateway()
        asked = [(STEADY, OLLAMA), (STEADY, OPENAI), (BULKY, OLLAMA), (LATE, OLLAMA)]
        mark = Mark(50)
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(ask(gateway.url, plan, api, on_number=mark))
                for plan, api in asked
            ]
            await mark.reached.wait()
            await backend.runs(len(asked))
            before = await since(here)
            await asyncio.to_thread(subprocess.run, CUT, check=True)
            await asyncio.sleep(CUT_S)
            await asyncio.to_thread(subprocess.run, MEND, check=True)
        outcomes = [task.result() for task in answers]
        found = {
            "whole": [
                outcome.is_all_of(plan)
                for outcome, (plan, _) in zip(outcomes, asked, strict=True)
            ],
            "errors": [outcome.error for outcome in outcomes],
            "begun": (await backend.counts())["begun"],
            "is_new_path": await since(here) != before,
            "path": outcomes[0].headers["Meshllm-Path"],
        }
        sys.stdout.write(json.dumps(found))


async def since(here: Town) -> int:
    """When the path that the gateway uses now was made."""
    rows = await here.told("gateway", "/peers")
    (row,) = [row for row in rows if row["direction"] == "provider"]
    found: int = row["since"]
    return found


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
