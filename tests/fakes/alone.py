"""`python -m tests.fakes.alone`: `demo --once` beside a scripted Ollama, on its own.

For a network namespace, which a test can enter only with a new process.
"""

from __future__ import annotations

import asyncio
import os
import sys

from tests.fakes.commands import MESHLLM
from tests.fakes.scripted_ollama import ScriptedOllama


async def main() -> int:
    async with ScriptedOllama() as ollama:
        process = await asyncio.create_subprocess_exec(
            *MESHLLM,
            *("demo", "--once", "hi", "--json"),
            env={**os.environ, "OLLAMA_HOST": ollama.url},
        )
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
