"""Click commands, a file per group: parse, call one room, print."""

from __future__ import annotations


def main() -> None:
    """The `meshllm` command."""
    from meshllm.cli.root import root

    root(prog_name="meshllm")
