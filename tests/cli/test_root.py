"""`meshllm` itself: finding commands, ending them, and what it leaves unloaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from meshllm import __version__
from meshllm.cli.common import Common, command, pass_common
from meshllm.cli.root import COMMANDS, commands, root
from meshllm.errors import ConfigError, MeshError

# Each costs a tenth of a second or more, or 50 MB.
HEAVY = (
    "{'aiortc', 'av', 'aiohttp', 'rich', 'uvloop', 'cryptography', 'signaling.hub', "
    "'prometheus_client'}"
)
LOADED = """
import sys
HEAVY = {heavy}
from meshllm.cli.root import root
try:
    root({words!r})
except SystemExit:
    pass
print(sorted(HEAVY & set(sys.modules)), file=sys.stderr)
"""


USAGE = "Usage: meshllm status [OPTIONS]\nTry 'meshllm status --help' for help.\n\n"


def run(*words: str) -> Result:
    return CliRunner().invoke(root, list(words))


def test_help_names_every_command_with_its_own_words() -> None:
    shown = " ".join(run("--help").output.split())
    for heading in COMMANDS:
        assert f"{heading}:" in shown
    for name, _, text in commands():
        assert f"{name} {text}" in shown


@pytest.mark.parametrize("name", [name for name, _, _ in commands()])
def test_the_list_says_what_the_command_says_of_itself(name: str) -> None:
    said = next(text for found, _, text in commands() if found == name)
    found = root.get_command(click.Context(root), name)
    assert found is not None
    assert found.name == name
    assert (found.help or "").partition("\n")[0].rstrip(".") + "." == said
    assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize("words", [["--help"], ["identity"], ["share", "--help"]])
def test_what_needs_no_network_loads_none(words: list[str], tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(words=words, heavy=HEAVY)],
        capture_output=True,
        text=True,
        env={**os.environ, "MESHLLM_HOME": str(tmp_path)},
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_run_is_chat() -> None:
    ctx = click.Context(root)
    assert root.get_command(ctx, "run") is root.get_command(ctx, "chat")


def test_the_version_is_told_anywhere() -> None:
    for words in (["--version"], ["share", "--version"], ["join", "--version"]):
        assert run(*words).output == f"meshllm {__version__}\n"


def test_a_misspelled_command_is_exit_2_and_a_suggestion() -> None:
    done = run("gatway")
    assert done.exit_code == 2
    assert "No such command 'gatway'. Is it `gateway`?" in done.stderr


def test_an_unknown_option_is_exit_2() -> None:
    assert run("share", "--nonsense").exit_code == 2


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """What is put in the list is raised by `meshllm status`."""
    errors: list[BaseException] = []

    @command("status")
    @pass_common
    def status(_: Common) -> None:
        raise errors[0]

    monkeypatch.setattr("meshllm.cli.look.status", status)
    yield errors


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MeshError("It broke. Mend it."), 1, "It broke. Mend it.\n"),
        (MeshError("two\nlines"), 1, "two lines\n"),
        (
            ExceptionGroup(
                "", [ValueError("x"), ExceptionGroup("", [ConfigError("y")])]
            ),
            1,
            "y\n",
        ),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied.\n"),
        (ValueError("odd"), 1, "ValueError: odd (a bug; -v shows where)\n"),
        (click.BadParameter("bad"), 2, "Error: Invalid value: bad\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_every_end_has_its_code_and_its_line(
    failing: list[BaseException], error: BaseException, code: int, said: str
) -> None:
    failing.append(error)
    done = run("status")
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.removeprefix(USAGE) == said


def test_verbose_shows_where_an_error_arose(failing: list[BaseException]) -> None:
    failing.append(MeshError("It broke."))
    for words in (("-v", "status"), ("status", "-v")):
        done = run(*words)
        assert "Traceback" in done.stderr
        assert done.stderr.endswith("\nIt broke.\n")


def test_a_reader_that_had_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "meshllm", "completion", "bash"]
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_MESHLLM_COMPLETE" in done.output


def test_a_shell_completes_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        env = {"_MESHLLM_COMPLETE": "bash_complete", **words}
        done = CliRunner().invoke(root, [], env=env, prog_name="meshllm")
        return [one.partition(",")[2] for one in done.output.splitlines()]

    assert completed("meshllm ga") == ["gateway"]
    assert "--relay-only" in completed("meshllm share --re")
