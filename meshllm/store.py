"""SQLite for one home: opened the same way by every room, each with tables of its own.

Writes are few and must be on disk before we answer, so the calls are synchronous.
Several processes of one home may have it open.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from meshllm.errors import ConfigError

BUSY_S = 5.0


def open_store(path: Path, room: str, migrations: Sequence[str]) -> sqlite3.Connection:
    """The database at `path` (made 0600), with the room's tables brought up to date.

    `migrations` are SQL scripts, run once each and in order; append, never change one.
    ConfigError when the file is no database, or was written by a newer version.
    """
    try:
        _make_private(path)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            _migrate(db, path, room, migrations)
        except BaseException:
            db.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(
            f"{path} cannot be used: {error}. Move it away to begin anew."
        ) from error
    return db


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _migrate(
    db: sqlite3.Connection, path: Path, room: str, migrations: Sequence[str]
) -> None:
    db.execute("BEGIN IMMEDIATE")  # another process may be migrating too
    db.execute("CREATE TABLE IF NOT EXISTS schema (room TEXT PRIMARY KEY, version INT)")
    row = db.execute("SELECT version FROM schema WHERE room = ?", (room,)).fetchone()
    version = row[0] if row else 0
    if version > len(migrations):
        db.execute("ROLLBACK")
        raise ConfigError(
            f"{path} was written by a newer meshllm. Update this one, or move it away."
        )
    for script in migrations[version:]:
        for statement in filter(str.strip, script.split(";")):
            db.execute(statement)
    db.execute("INSERT OR REPLACE INTO schema VALUES (?, ?)", (room, len(migrations)))
    db.execute("COMMIT")
