"""Which key each provider's name had when it was first seen: a table of `meshllm.db`.

Names are given by owners, so a name whose key changes is a machine that was set up
anew, or somebody who uses an invitation that was not theirs. A person has to say which.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from meshllm.errors import Code, NotAllowed
from meshllm.store import open_store, unusable
from meshllm.tickets import DATABASE
from meshllm.trust.admission import Admission
from meshllm.trust.keys import PeerId, short

NAMES_MAX: Final = 1_024
TABLES: Final = (
    "CREATE TABLE known (mesh TEXT NOT NULL, name TEXT NOT NULL, node TEXT NOT NULL,"
    " PRIMARY KEY (mesh, name))",
)


class KeyChanged(NotAllowed):
    """A known provider's name comes with another key: nothing is sent there."""

    def __init__(self, name: str, before: PeerId, now: PeerId) -> None:
        super().__init__(
            f"The key of {name} has changed: it was {short(before)}, is {short(now)} "
            "now. Nothing is sent there. If its owner says that the machine was set up "
            f"anew: `meshllm peers --forget '{name}'`.",
            Code.AUTH,
        )
        self.name = name
        self.id = now


class KnownKeys:
    """`is_revoked`: an owner put that key out of the mesh, so its name is free again.
    ConfigError, from every call: the database cannot be used."""

    def __init__(self, home: Path, mesh: PeerId) -> None:
        self._path = home / DATABASE
        self._mesh = mesh
        self._db = open_store(self._path, "known", TABLES)

    def close(self) -> None:
        self._db.close()

    def vet(self, admission: Admission, is_revoked: Callable[[PeerId], bool]) -> None:
        """Remembers a new name. KeyChanged when the name was another key's."""
        name, id = admission.name, admission.id
        rows = self._run(
            "SELECT node FROM known WHERE mesh = ? AND name = ?", self._mesh, name
        )
        before = PeerId(rows[0][0]) if rows else None
        if before == id:
            return
        if before is not None and not is_revoked(before):
            raise KeyChanged(name, before, id)
        self._run(
            "INSERT OR REPLACE INTO known SELECT ?1, ?2, ?3"
            " WHERE (SELECT count(*) FROM known WHERE mesh = ?1) < ?4",
            self._mesh,
            name,
            id,
            NAMES_MAX,
        )

    def forget(self, name: str) -> bool:
        """Whether the name was known. The next key that comes with it will be."""
        found = name in self.names.values()
        self._run("DELETE FROM known WHERE mesh = ? AND name = ?", self._mesh, name)
        return found

    @property
    def names(self) -> Mapping[PeerId, str]:
        rows = self._run("SELECT node, name FROM known WHERE mesh = ?", self._mesh)
        return {PeerId(node): name for node, name in rows}

    def _run(self, statement: str, *values: str | int) -> list[tuple[str, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            raise unusable(self._path, error) from error
