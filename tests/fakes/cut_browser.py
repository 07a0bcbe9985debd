"""`python -m tests.fakes.cut_browser FOLDER`: UDP is lost under a browser's answers.

For a network namespace made by NAMESPACE, as `cut` is. First for 6 s, so that other
paths are tried beside one that is silent; then for 12 s, so that it is given up. Prints
what came of it as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fakes.browser import Page, build_harness, chromium, serve
from tests.fakes.counting import MODEL, Plan, text_of
from tests.fakes.cut import CUT, MEND
from tests.fakes.town import Town, town

SHORT_S, LONG_S = 6.0, 12.0
STEADY = Plan(lines=2_600, every_ms=10)
BULKY = Plan(lines=1_300, every_ms=20, pad=3_000)  # both windows fill meanwhile
GAP_S = 2.0


async def main(root: Path) -> None:
    async with town(root) as here, chromium() as browser:
        here.meshllm.env["MESHLLM_LOOPBACK"] = ""
        backend = await here.backend()
        await here.share(backend, "anna", "--parallel", "8")
        folder = root / "harness"
        await build_harness(folder)
        async with serve(folder) as url:
            page = await browser.open(url)
            await join(here, page)
            plans = {"steady": STEADY, "bulky": BULKY}
            for name, plan in plans.items():
                await page.call("ask", name, MODEL, plan.prompt)
            reading = {name: asyncio.create_task(page.read(name)) for name in plans}
            await cut(SHORT_S)
            after_short = await page.call("peerConnections")
            await asyncio.sleep(GAP_S)
            await cut(LONG_S)
            answers = {name: await task for name, task in reading.items()}
            found = {
                "whole": [is_all_of(answers[name], plans[name]) for name in plans],
                "begun": (await backend.counts())["begun"],
                "after_short": after_short,
                "after_long": await page.call("peerConnections"),
                "errors": browser.errors,
            }
    sys.stdout.write(json.dumps(found))


async def join(here: Town, page: Page) -> None:
    link = (await here.meshllm.run("anna", "invite")).out.strip()
    await page.call("join", link)
    await page.call("connect")
    await page.call("models")


async def cut(seconds: float) -> None:
    await asyncio.to_thread(subprocess.run, CUT, check=True)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(subprocess.run, MEND, check=True)


def is_all_of(answer: bytes, plan: Plan) -> bool:
    lines: list[dict[str, Any]] = [json.loads(line) for line in answer.splitlines()]
    said = [line["message"]["content"] for line in lines]
    return said == [*(text_of(plan, number) for number in range(plan.lines)), ""]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
