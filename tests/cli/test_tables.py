"""Figures and tables as people read them, and as programs do."""

import os
import pty
import sys

import pytest

from meshllm.cli.tables import gigabytes, print_table, span


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, ""),
        (1, "1 MB"),
        (98_362_432, "98 MB"),
        (999_999_999, "999 MB"),
        (1_321_098_329, "1.3 GB"),
        (40_000_000_000, "40.0 GB"),
    ],
)
def test_sizes_are_ollamas(size: int, text: str) -> None:
    assert gigabytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3_599, "59 min 59 s"),
        (3_660, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_spans_have_the_two_figures_that_matter(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_without_a_terminal_fields_are_separated_by_tabs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("model", "size"), [("a", "1 MB"), ("b", "")])
    assert capsys.readouterr().out == "model\tsize\na\t1 MB\nb\t\n"


def test_on_a_terminal_a_name_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        print_table(("model",), [("[red]a[/red]",)])
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert "[red]a[/red]" in shown
