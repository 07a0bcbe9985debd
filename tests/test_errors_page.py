"""docs/errors.md quotes what the code says, and nothing that it no longer says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
LEAST = 3  # letters: "…" and a full stop are in every sentence


def quoted() -> Iterator[str]:
    """Every sentence of the tables' columns of what one sees."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| ") or cells[0] in ("you see", "status", "---"):
            continue
        is_http = re.fullmatch(r"\d{3}", cells[0])
        yield from cells[1 if is_http else 0].split(" · ")


def said() -> str:
    """Every string of the code, a line each, with … where a value goes."""
    lines = []
    for path in (*ROOT.glob("meshllm/**/*.py"), *ROOT.glob("signaling/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.JoinedStr(values):
                    parts = [
                        v.value if isinstance(v, ast.Constant) else "…" for v in values
                    ]
                    lines.append("".join(map(str, parts)))
                case ast.Constant(value=str(text)):
                    lines.append(text)
    return "\n".join(" ".join(line.split()) for line in lines).lower()


SAID = said()


@pytest.mark.parametrize("sentence", sorted(set(quoted())))
def test_what_the_page_quotes_is_said(sentence: str) -> None:
    parts = [part.strip(" .'") for part in sentence.lower().split("…")]
    parts = [part for part in parts if len(part) >= LEAST]
    assert parts
    assert [part for part in parts if part not in SAID] == []


def test_the_page_is_read() -> None:
    assert len(list(quoted())) > 50
