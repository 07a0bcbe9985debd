"""One home's SQLite, and files that appear whole: by several processes at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from meshllm.errors import ConfigError
from meshllm.store import open_store, write_new, write_over

TABLE = "CREATE TABLE note (text TEXT NOT NULL); CREATE TABLE other (n INT);"
MORE = "ALTER TABLE note ADD COLUMN ts INT;"
WRITER = """
import sys
from pathlib import Path
from meshllm.store import open_store
print("ready", flush=True)
sys.stdin.readline()
db = open_store(Path(sys.argv[1]), "notes", ("CREATE TABLE note (text TEXT NOT NULL)",))
db.execute("INSERT INTO note VALUES (?)", (sys.argv[2],))
db.close()
"""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_home_and_its_database_are_private(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"

    open_store(home / "x.db", "notes", (TABLE,)).close()

    assert mode(home) == 0o700
    assert mode(home / "x.db") == 0o600


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    db = open_store(tmp_path / "x.db", "notes", (TABLE,))
    db.execute("INSERT INTO note VALUES ('kept')")
    db.close()

    again = open_store(tmp_path / "x.db", "notes", (TABLE,))

    assert again.execute("SELECT text FROM note").fetchall() == [("kept",)]
    again.close()


def test_it_is_on_disk_before_anyone_is_answered(tmp_path: Path) -> None:
    db = open_store(tmp_path / "x.db", "notes", (TABLE,))

    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    db.close()


def test_each_migration_runs_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_store(path, "notes", (TABLE,)).close()

    for _ in range(2):
        db = open_store(path, "notes", (TABLE, MORE))
        db.execute("INSERT INTO note VALUES ('a', 1)")
        db.close()


def test_rooms_share_a_file_and_not_their_versions(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_store(path, "notes", (TABLE, MORE)).close()

    db = open_store(path, "letters", ("CREATE TABLE letter (text TEXT)",))

    assert db.execute("SELECT room, version FROM schema ORDER BY room").fetchall() == [
        ("letters", 1),
        ("notes", 2),
    ]
    db.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.db"

    with pytest.raises(ConfigError, match="cannot be used"):
        open_store(path, "notes", (TABLE, "CREATE TABLE note (again INT)"))

    db = open_store(path, "notes", (TABLE,))  # from the start, without complaint
    db.close()


def test_a_newer_versions_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_store(path, "notes", (TABLE, MORE)).close()

    with pytest.raises(ConfigError, match="newer meshllm"):
        open_store(path, "notes", (TABLE,))
    open_store(path, "notes", (TABLE, MORE)).close()


def test_what_is_no_database_is_said_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(
        b"my shopping list, of a length that fills a header of SQLite" * 20
    )
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"x\.db cannot be used.*Move it away"):
        open_store(path, "notes", (TABLE,))
    assert path.read_bytes() == before


def test_a_home_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    with pytest.raises(ConfigError, match="no folder"):
        open_store(tmp_path / "home" / "x.db", "notes", (TABLE,))
    with pytest.raises(ConfigError, match="no folder"):
        write_new(tmp_path / "home" / "file", "text")


def test_a_database_that_stays_locked_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshllm.store.BUSY_S", 0.05)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(ConfigError, match="in use by another meshllm process"):
        open_store(tmp_path / "x.db", "notes", (TABLE,))
    other.close()


def test_one_that_another_writes_to_is_opened_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs in the middle of a write must not keep `doctor` out."""
    monkeypatch.setattr("meshllm.store.BUSY_S", 0.05)
    other = open_store(tmp_path / "x.db", "notes", (TABLE,))
    other.execute("BEGIN IMMEDIATE")

    db = open_store(tmp_path / "x.db", "notes", (TABLE,))
    assert db.execute("SELECT text FROM note").fetchall() == []
    db.close()
    other.close()


def test_processes_that_open_a_new_database_at_once_all_succeed(tmp_path: Path) -> None:
    """Each waits at a line of stdin, so that all begin together."""
    path = tmp_path / "x.db"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"

    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    ends = [writer.communicate()[1] for writer in writers]

    assert ends == ["", "", "", ""]
    db = open_store(path, "notes", ("CREATE TABLE note (text TEXT NOT NULL)",))
    assert sorted(db.execute("SELECT text FROM note")) == [(f"{n}",) for n in range(4)]
    db.close()


def test_a_new_file_is_private_and_never_replaces(tmp_path: Path) -> None:
    path = tmp_path / "home" / "file"
    write_new(path, "first")

    with pytest.raises(FileExistsError):
        write_new(path, "second")

    assert mode(path.parent) == 0o700
    assert mode(path) == 0o600
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_written_over_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("first")
    with path.open() as reader:
        write_over(path, "second")

        assert reader.read() == "first"  # whoever had it open has the whole old one
    assert path.read_text() == "second"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()

    with pytest.raises(ConfigError, match="file cannot be written"):
        write_over(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
