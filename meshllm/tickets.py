"""Which node used which ticket, and what was issued for it: tables of `meshllm.db`.

Everything is on disk before a call returns, and holds for all processes of the home.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from meshllm.store import open_store, unusable
from meshllm.trust.keys import PeerId, b64encode

DATABASE: Final = "meshllm.db"
CONFLICTS_MAX: Final = 16  # whoever has a stolen link can make keys without end
TABLES: Final = (
    """
    CREATE TABLE seen (ticket TEXT PRIMARY KEY, node TEXT NOT NULL, ts INT NOT NULL);
    CREATE TABLE issued (ticket TEXT PRIMARY KEY, node TEXT NOT NULL,
                         membership TEXT NOT NULL, ts INT NOT NULL);
    CREATE TABLE invited (ticket TEXT PRIMARY KEY, name TEXT NOT NULL,
                          role TEXT NOT NULL, until INT NOT NULL, ts INT NOT NULL);
    CREATE TABLE conflict (ticket TEXT NOT NULL, node TEXT NOT NULL, ts INT NOT NULL,
                           PRIMARY KEY (ticket, node))
    """,
)


class Tickets:
    """ConfigError, from every call: the database cannot be used or written."""

    def __init__(self, home: Path) -> None:
        self._path = home / DATABASE
        self._db = open_store(self._path, "membership", TABLES)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process of this home is in here, or writes, meanwhile."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    def bind(self, ticket: bytes, id: PeerId, now: int) -> bool:
        """Whether this node has the ticket; the first who asks gets it. Others are
        noted as conflicts: somebody else has the link."""
        key = b64encode(ticket)
        self._run("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", key, id, now)
        [(holder,)] = self._run("SELECT node FROM seen WHERE ticket = ?", key)
        if holder != id:
            self._run(
                "INSERT OR IGNORE INTO conflict SELECT ?1, ?2, ?3"
                " WHERE (SELECT count(*) FROM conflict WHERE ticket = ?1) < ?4",
                key,
                id,
                now,
                CONFLICTS_MAX,
            )
        return bool(holder == id)

    def invited(self, ticket: bytes, name: str, role: str, until: int, ts: int) -> None:
        row = (b64encode(ticket), name, role, until, ts)
        self._run("INSERT INTO invited VALUES (?, ?, ?, ?, ?)", *row)

    def issued(self, ticket: bytes, id: PeerId, membership: str, now: int) -> str:
        """The membership that stands for this ticket: this one, if it is the first."""
        row = (b64encode(ticket), id, membership, now)
        self._run("INSERT OR IGNORE INTO issued VALUES (?, ?, ?, ?)", *row)
        found = self._run("SELECT membership FROM issued WHERE ticket = ?", row[0])
        return str(found[0][0])

    def forget(self) -> None:
        """All of it; other rooms' tables in the same file stay."""
        for table in ("seen", "issued", "invited", "conflict"):
            self._run(f"DELETE FROM {table}")  # noqa: S608 -- names of ours

    def _run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:  # full, locked, read-only
            raise unusable(self._path, error) from error
