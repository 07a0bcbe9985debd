"""What `gateway` prints to type next, typed: by the official clients, in a shell."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.commands import MESHLLM, READY_S, Commands

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

# Each asks for what needs the key, and prints no more than that it came.
OPENAI = "import openai; print(len(list(openai.OpenAI(max_retries=0).models.list())))"
OLLAMA = "import ollama; print(len(ollama.list().models))"


@asynccontextmanager
async def gateway(meshllm: Commands, *options: str) -> AsyncIterator[list[str]]:
    """The lines below `Next:`."""
    process = await asyncio.create_subprocess_exec(
        *(*MESHLLM, "--home", str(meshllm.home("anna"))),
        *("gateway", "--port", "0", *options),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **meshllm.env, "MESHLLM_GATEWAY_NO_LAN": "0"},
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(READY_S):
            while "Next:" not in lines:
                line = await process.stdout.readline()
                assert line, lines
                lines.append(line.decode().rstrip("\n"))
            shown = [(await process.stdout.readline()).decode() for _ in range(3)]
        yield [line.strip() for line in shown]
        process.send_signal(signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def typed(settings: str, script: str) -> tuple[str, str]:
    """`NAME=value … # comment` in front of a program, as a person types it."""
    settings = settings.partition("   #")[0]
    return await shell(
        f"{settings} {shlex.quote(sys.executable)} -c {shlex.quote(script)}"
    )


async def shell(line: str) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", line),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return out.decode(), err.decode()


def line_of(lines: list[str], start: str) -> str:
    return next(line for line in lines if line.startswith(start))


async def test_with_a_key_every_line_carries_it(
    meshllm: Commands, tmp_path: Path
) -> None:
    await meshllm.run("anna", "init")
    key = tmp_path / "the key's file"
    key.write_text("s3cret\n")
    key.chmod(0o600)
    async with gateway(meshllm, "--api-key-file", str(key)) as lines:
        assert not any("ollama run" in line for line in lines)
        assert await typed(line_of(lines, "OPENAI_BASE_URL="), OPENAI) == ("0\n", "")
        assert await typed(line_of(lines, "OLLAMA_HOST="), OLLAMA) == ("0\n", "")
        keyless = line_of(lines, "OLLAMA_HOST=").partition(" ")[0]
        assert "API key" in (await typed(keyless, OLLAMA))[1]
        words = await shell(
            "curl() { printf '%s\\n' \"$@\"; }; " + line_of(lines, "curl ")
        )
        assert words[0].splitlines()[:2] == ["-H", "Authorization: Bearer s3cret"]


async def test_without_one_the_ollama_command_is_told_where_to_go(
    meshllm: Commands,
) -> None:
    await meshllm.run("anna", "init")
    async with gateway(meshllm) as lines:
        assert lines[0].endswith(" ollama run MODEL")
        assert await typed(lines[0].partition(" ")[0], OLLAMA) == ("0\n", "")
        assert await typed(line_of(lines, "OPENAI_BASE_URL="), OPENAI) == ("0\n", "")
