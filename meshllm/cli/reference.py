"""`python -m meshllm.cli.reference`: docs/cli.md, made of what `--help` says."""

from __future__ import annotations

from collections.abc import Iterator

import click

from meshllm.cli.root import COMMANDS, root

WIDTH = 80
HEAD = """\
# Commands

Made of `meshllm COMMAND --help` by `python -m meshllm.cli.reference > docs/cli.md`;
a test compares the two.

Options of `signal`, `share`, `gateway` and `pair` may also come from the environment
(the names are below) and from `config.toml` in the home, where `[gateway]` and
`port = 11435` say the same as `meshllm gateway --port 11435`. The line wins over the
environment, that over the file.

Exit codes: 0 done, 1 failed with one line on stderr, 2 wrong usage, 130 interrupted.
"""


def reference() -> str:
    """The whole page."""
    sections = [HEAD, _section("meshllm", root.make_context("meshllm", ["demo"]))]
    sections += [_section(name, ctx) for name, ctx in _commands()]
    return "\n".join(sections)


def _commands() -> Iterator[tuple[str, click.Context]]:
    parent = click.Context(root, info_name="meshllm")
    for group in COMMANDS.values():
        for name, _, _ in group:
            found = root.get_command(parent, name)
            assert found is not None
            yield f"meshllm {name}", click.Context(found, parent, name)


def _section(title: str, ctx: click.Context) -> str:
    ctx.terminal_width = ctx.max_content_width = WIDTH
    ctx.help_option_names = ["-h", "--help"]
    return f"## {title}\n\n```text\n{ctx.get_help()}\n```\n"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
