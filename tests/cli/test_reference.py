"""docs/cli.md says what `--help` says."""

from pathlib import Path

from meshllm.cli.reference import reference
from meshllm.cli.root import commands

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_as_new_as_the_commands() -> None:
    """Else: `python -m meshllm.cli.reference > docs/cli.md`."""
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_the_page_has_every_command() -> None:
    page = reference()
    for name, _, _ in commands():
        assert f"## meshllm {name}\n" in page
