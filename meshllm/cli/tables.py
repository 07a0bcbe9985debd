"""Tables and figures for people; tab-separated lines where no terminal reads."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Without a terminal every row is a line of tab-separated fields, heads first."""
    if not sys.stdout.isatty():
        for row in (heads, *rows):
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(field) for field in row))  # names are no markup
    Console().print(table)


def gigabytes(size: int) -> str:
    """As Ollama writes it: 1.3 GB, 98 MB; nothing when unknown."""
    if size <= 0:
        return ""
    if size < 1_000_000_000:
        return f"{max(1, size // 1_000_000)} MB"
    return f"{size / 1e9:.1f} GB"


def span(seconds: float) -> str:
    """How long, in the two figures that matter."""
    left = max(0, int(seconds))
    for size, name, smaller, below in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if left >= size:
            return f"{left // size} {name} {left % size // smaller} {below}"
    return f"{left} s"
