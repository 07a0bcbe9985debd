"""The signaling server's table in SQLite: what the hub keeps across restarts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from meshllm.store import open_store
from signaling.effects import Effect, Forget, Row, Save

MIGRATIONS: Final = (
    """
    CREATE TABLE kept (
        kind TEXT NOT NULL,
        mesh TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        until INTEGER,
        PRIMARY KEY (kind, mesh, key)
    ) STRICT, WITHOUT ROWID
    """,
)


class Table:
    """sqlite3.Error when the disk is full or the file is not ours."""

    def __init__(self, path: Path) -> None:
        self._db = open_store(path, "signaling", MIGRATIONS)

    def rows(self) -> list[Row]:
        found = self._db.execute("SELECT kind, mesh, key, value, until FROM kept")
        return [Row(*row) for row in found]

    def write(self, effects: Iterable[Effect]) -> None:
        """The Saves and Forgets among them, all or none."""
        changes = [e for e in effects if isinstance(e, Save | Forget)]
        if not changes:
            return
        with self._db:
            self._db.execute("BEGIN")
            for change in changes:
                self._change(change)

    def _change(self, change: Save | Forget) -> None:
        match change:
            case Save(row):
                self._db.execute(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)",
                    (row.kind, row.mesh, row.key, row.value, row.until),
                )
            case Forget(kind, mesh, key):
                self._db.execute(
                    "DELETE FROM kept WHERE kind = ? AND mesh = ? AND key = ?",
                    (kind, mesh, key),
                )

    def close(self) -> None:
        self._db.close()
