from __future__ import annotations

from dataclasses import replace

import pytest

from meshllm.errors import Code, NotAllowed
from signaling.effects import Forget, Row, Save
from signaling.limits import DEFAULT_LIMITS, Limits
from signaling.shelf import Shelf


def row(key: str, *, mesh: str = "mesh", size: int = 100, until: int = 10) -> Row:
    return Row("ticket", mesh, key, "x" * size, until)


def roomy(**limits: int) -> Limits:
    return replace(DEFAULT_LIMITS, **limits)  # type: ignore[arg-type]


def test_what_is_put_can_be_had_and_dropped() -> None:
    shelf = Shelf(DEFAULT_LIMITS)

    assert shelf.put(row("a")) == Save(row("a"))

    assert shelf.get("ticket", "mesh", "a") == row("a")
    assert shelf.of("ticket", "mesh") == [row("a")]
    assert list(shelf.all("ticket")) == [row("a")]
    assert list(shelf.all("card")) == []
    assert shelf.drop("ticket", "mesh", "a") == [Forget("ticket", "mesh", "a")]
    assert shelf.drop("ticket", "mesh", "a") == []
    assert shelf.get("ticket", "mesh", "a") is None


def test_what_ended_is_dropped_and_the_rest_stays() -> None:
    lasting = Row("mesh", "mesh", "", "statement", None)
    shelf = Shelf(DEFAULT_LIMITS, [row("a", until=10), row("b", until=11), lasting])

    assert shelf.drop_ended(10) == [Forget("ticket", "mesh", "a")]

    assert shelf.of("ticket", "mesh") == [row("b", until=11)]
    assert shelf.get("mesh", "mesh") == lasting


def test_each_mesh_has_room_for_so_many_rows() -> None:
    shelf = Shelf(roomy(kept_mesh_rows=2), [row("a")])
    shelf.put(row("b"))

    with pytest.raises(NotAllowed) as refusal:
        shelf.put(row("c"))

    assert refusal.value.code is Code.QUOTA
    shelf.put(row("b", until=99))
    shelf.put(row("c", mesh="other"))
    shelf.put(row("c"), always=True)


def test_each_mesh_has_room_for_so_many_bytes() -> None:
    shelf = Shelf(roomy(kept_mesh_bytes=row("a").size + 5), [row("a")])

    with pytest.raises(NotAllowed):
        shelf.put(row("b"))

    shelf.put(row("a", size=105))
    with pytest.raises(NotAllowed):
        shelf.put(row("a", size=106))
    shelf.put(row("b", mesh="other"))


def test_all_meshes_together_have_room_for_so_many_bytes() -> None:
    shelf = Shelf(roomy(kept_bytes=2 * row("a").size))
    shelf.put(row("a"))
    shelf.put(row("a", mesh="mes2"))

    with pytest.raises(NotAllowed) as refusal:
        shelf.put(row("a", mesh="mes3"))

    assert refusal.value.code is Code.QUOTA
    shelf.drop("ticket", "mes2", "a")
    shelf.put(row("a", mesh="mes3"))
