"""The chat page, as `meshllm signal` serves it, in a Chromium on an asker's machine.

It is used through what it shows. For each question it is opened anew, so that it knows
no path.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.browser import Browser, Page, chromium
from tests.natlab import net

# It has roots of its own, and the laboratory's authority is not among them.
TRUST = "--ignore-certificate-errors"
SCRIPT = Path(__file__).with_name("visit.js").read_text()
WAYS = {"direct": "direct", "local network": "lan", "through a relay": "relay"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page showed of an answer: `path` beside it, `facts` in the panel."""

    text: str
    problem: str | None
    path: str | None
    first_ms: float
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def candidates(self) -> str:
        """Their kinds, the page's own first."""
        ends = (self.facts.get(f"{whose} end") for whose in ("Your", "Their"))
        return "-".join(end.split()[0] if end else "?" for end in ends)


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody with the page, who is in the mesh."""

    browser: Browser
    page: Page
    url: str

    async def ask(self, model: str, prompt: str) -> Shown:
        """A first question, to the only provider with this model."""
        await self._do("remember", model)
        await self.page.goto(self.url)
        await self._do("chosen", model)
        said = await self._do("ask", prompt)
        facts = {} if said["problem"] else await self._do("path")
        carried = said["carried"].split(" · ")
        return Shown(
            said["text"],
            said["problem"] or next(iter(self.browser.errors), None),
            next((WAYS[part] for part in carried if part in WAYS), None),
            said["firstMs"],
            facts,
        )

    async def hide_address(self) -> None:
        """From providers; the page is opened anew."""
        await self.page.follow(f"{SCRIPT}\nawait hideAddress()")

    async def join(self) -> None:
        problem = await self._do("joined")
        if problem is not None:
            raise RuntimeError(f"the page did not come in: {problem}")

    async def _do(self, function: str, *arguments: Any) -> Any:
        given = ", ".join(json.dumps(argument) for argument in arguments)
        return await self.page.run(f"{SCRIPT}\nreturn await {function}({given})")


@asynccontextmanager
async def visit(name: str, link: str) -> AsyncIterator[Visit]:
    """The invitation's link, opened in this namespace."""
    async with chromium(TRUST, at=net.entered(name)) as browser:
        page = await browser.open(link)
        made = Visit(browser, page, link.partition("#")[0])
        await made.join()
        yield made
