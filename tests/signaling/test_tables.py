from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from signaling.effects import Forget, Row, Save, Send
from signaling.tables import Table
from tests.fakes.hubs import World

ONE = Row("ticket", "mesh", "one", "sealed", 10)
TWO = Row("ticket", "mesh", "two", "sealed", None)


def test_rows_survive_the_process(tmp_path: Path) -> None:
    table = Table(tmp_path / "meshllm.db")
    table.write([Save(ONE), Save(TWO)])
    table.write([Save(Row("ticket", "mesh", "one", "newer", 11))])
    table.write([Forget("ticket", "mesh", "two")])
    table.close()

    again = Table(tmp_path / "meshllm.db")

    assert again.rows() == [Row("ticket", "mesh", "one", "newer", 11)]
    again.close()


def test_effects_of_one_call_are_stored_all_or_none(tmp_path: Path) -> None:
    table = Table(tmp_path / "meshllm.db")
    broken = Row("ticket", "mesh", "three", None, None)  # type: ignore[arg-type]

    with pytest.raises(sqlite3.IntegrityError):
        table.write([Save(ONE), Save(broken)])

    assert table.rows() == []
    table.write([Save(TWO)])
    assert table.rows() == [TWO]
    table.close()


def test_what_is_only_sent_is_not_stored(tmp_path: Path) -> None:
    world = World()
    [challenge] = world.hub.connected(1, "https://hub", "192.0.2.1", bytes(32), 0)
    assert isinstance(challenge, Send)
    table = Table(tmp_path / "meshllm.db")

    table.write([challenge])

    assert table.rows() == []
    table.close()
