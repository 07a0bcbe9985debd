"""A download that shows: as events, as a bar, as one line, or not at all."""

from __future__ import annotations

import json
import os
import pty
import sys

import pytest

from meshllm.cli.common import Common
from meshllm.cli.progress import Download

TOTAL = 1000


def fetch(common: Common) -> None:
    with Download(common, "a model") as download:
        for done in range(0, TOTAL + 1, 5):
            download(done, TOTAL)


def test_programs_get_an_event_a_percent(capsys: pytest.CaptureFixture[str]) -> None:
    fetch(Common(json=True))
    shown = capsys.readouterr()
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [event["done"] * 100 // TOTAL for event in events] == list(range(101))
    assert events[0] == {
        "event": "progress", "what": "a model", "done": 0, "total": TOTAL
    }  # fmt: skip
    assert shown.err == ""


def test_without_a_terminal_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    fetch(Common())
    assert capsys.readouterr() == ("", "Fetching a model …\n")


def test_nothing_is_said_when_nothing_is_fetched(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Download(Common(), "a model"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_size_that_nobody_knows_does_no_harm(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Download(Common(json=True), "a model") as download:
        download(5, None)
    assert json.loads(capsys.readouterr().out)["total"] is None


def test_on_a_terminal_it_is_a_bar_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        fetch(Common())
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "Fetching a model" in shown
    assert capsys.readouterr().out == ""
