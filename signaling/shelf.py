"""Pure: what the hub keeps for those who are away, bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshllm.errors import Code, NotAllowed
from signaling.effects import Forget, Row, Save
from signaling.limits import Limits


class Shelf:
    """Rows by (kind, mesh, key), with a limit for each mesh and for all of them.

    `put` and `drop` change memory and return what the store has to do.
    """

    def __init__(self, limits: Limits, rows: Iterable[Row] = ()) -> None:
        self._limits = limits
        self._rows: dict[tuple[str, str], dict[str, Row]] = {}
        self._held: dict[str, tuple[int, int]] = {}  # mesh -> rows, bytes
        self._bytes = 0
        for row in rows:
            self._place(row)

    def get(self, kind: str, mesh: str, key: str = "") -> Row | None:
        return self._rows.get((kind, mesh), {}).get(key)

    def of(self, kind: str, mesh: str) -> list[Row]:
        return list(self._rows.get((kind, mesh), {}).values())

    def all(self, kind: str) -> Iterator[Row]:
        """Every row of a kind, of every mesh."""
        for (of_kind, _), rows in self._rows.items():
            if of_kind == kind:
                yield from rows.values()

    def put(self, row: Row, *, always: bool = False) -> Save:
        """Raises NotAllowed (quota) when the mesh or the hub has no room for it.

        `always` is for what is bounded by itself and must not be refused, such as
        revocations: a full shelf may not keep anybody in.
        """
        if not always:
            self._check_room(row)
        self._place(row)
        return Save(row)

    def _check_room(self, row: Row) -> None:
        old = self.get(row.kind, row.mesh, row.key)
        rows, size = self._held.get(row.mesh, (0, 0))
        grows = row.size - (old.size if old else 0)
        if (
            rows + (old is None) > self._limits.kept_mesh_rows
            or size + grows > self._limits.kept_mesh_bytes
        ):
            raise NotAllowed(
                "This mesh has too much waiting at the signaling server; let some"
                " invites end first.",
                Code.QUOTA,
            )
        if self._bytes + grows > self._limits.kept_bytes:
            raise NotAllowed(
                "The signaling server is full; try again later.", Code.QUOTA
            )

    def drop(self, kind: str, mesh: str, key: str = "") -> list[Forget]:
        rows = self._rows.get((kind, mesh), {})
        row = rows.pop(key, None)
        if row is None:
            return []
        if not rows:
            del self._rows[kind, mesh]
        self._count(row, -1)
        return [Forget(kind, mesh, key)]

    def drop_ended(self, now: float) -> list[Forget]:
        ended = [
            row
            for rows in self._rows.values()
            for row in rows.values()
            if row.until is not None and row.until <= now
        ]
        return [
            gone for row in ended for gone in self.drop(row.kind, row.mesh, row.key)
        ]

    def _place(self, row: Row) -> None:
        rows = self._rows.setdefault((row.kind, row.mesh), {})
        if (old := rows.get(row.key)) is not None:
            self._count(old, -1)
        rows[row.key] = row
        self._count(row, 1)

    def _count(self, row: Row, sign: int) -> None:
        rows, size = self._held.get(row.mesh, (0, 0))
        self._held[row.mesh] = rows + sign, size + sign * row.size
        self._bytes += sign * row.size
        if self._held[row.mesh] == (0, 0):
            del self._held[row.mesh]
