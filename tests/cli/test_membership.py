"""What `init`, `invite`, `join`, `leave`, `identity` and `status` print."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meshllm.cli.root import root
from meshllm.identity import RootKey
from meshllm.joining import join


def run(home: Path, *words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(root, ["--home", str(home), *words])
    assert done.exit_code == code, done.output
    return done


def document(home: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(home, *words, "--json").stdout)
    return found


@pytest.fixture(autouse=True)
def nobody_is_on_the_lan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would answer does so in milliseconds; all the rest is waiting."""
    monkeypatch.setattr(join, "__kwdefaults__", {"wait_s": 0.1})
    monkeypatch.setattr("meshllm.nearby.nearby.LOOK_MAX_S", 0.1)


@pytest.fixture
def anna(tmp_path: Path) -> Path:
    """The home of a mesh's owner; the mesh has no server."""
    home = tmp_path / "anna"
    run(home, "init")
    return home


def test_init_shows_the_recovery_phrase_and_what_comes_next(tmp_path: Path) -> None:
    done = run(tmp_path, "init")
    shown = done.stdout.split()
    phrase = RootKey.load(tmp_path).phrase.split()
    assert any(shown[at : at + 24] == phrase for at in range(len(shown)))
    assert str(tmp_path / "root.key") in done.stdout
    assert "before an invitation ends" in done.stdout
    assert done.stdout.rpartition("Next:\n")[2].startswith("  meshllm share")


def test_the_phrase_is_never_shown_again(anna: Path) -> None:
    phrase = RootKey.load(anna).phrase.split()
    shown = run(anna, "status").output + run(anna, "identity").output
    assert " ".join(phrase[:3]) not in shown


def test_init_as_json(tmp_path: Path) -> None:
    made = document(tmp_path, "init")
    root_key = RootKey.load(tmp_path)
    assert made == {
        "mesh": root_key.id,
        "hub": None,
        "phrase": root_key.phrase,
        "root_key": str(tmp_path / "root.key"),
    }


def test_invite_prints_the_link_and_only_the_link_on_stdout(anna: Path) -> None:
    done = run(anna, "invite", "--name", "ben")
    assert done.stdout.startswith("meshllm:/#v1o.")
    assert done.stdout.count("\n") == 1
    assert "meshllm join" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_an_invitation_ends_when_it_says(anna: Path, text: str, seconds: int) -> None:
    before = int(time.time())
    invited = document(anna, "invite", "--expires", text)
    assert before + seconds <= invited["until"] <= int(time.time()) + seconds


def test_a_name_is_made_up_when_none_is_given(anna: Path) -> None:
    first, second = document(anna, "invite"), document(anna, "invite")
    assert first["name"].startswith("guest-")
    assert first["name"] != second["name"]


def test_qr_draws_the_link_too(anna: Path) -> None:
    done = run(anna, "invite", "--qr")
    assert "▀" in done.stdout or "█" in done.stdout


def test_an_offline_link_joins_without_any_server(anna: Path, tmp_path: Path) -> None:
    link = document(anna, "invite", "--name", "ben", "--role", "member")["link"]
    done = run(tmp_path / "ben", "join", link)
    assert "'ben'" in done.stdout
    assert "provisionally and as a guest" in done.stdout
    assert "becomes a member" in done.stdout
    status = document(tmp_path / "ben", "status")
    assert (status["role"], status["provisional"]) == ("guest", True)
    assert status["mesh"] == document(anna, "status")["mesh"]


def test_a_guest_is_not_told_that_it_becomes_more(anna: Path, tmp_path: Path) -> None:
    link = document(anna, "invite", "--name", "gus")["link"]
    done = run(tmp_path / "gus", "join", link)
    assert "provisionally and as a guest" in done.stdout
    assert ": its membership comes as soon as" in done.stdout
    refused = run(tmp_path / "gus", "share", code=1)
    assert refused.stdout == ""
    assert "its invitation was for a guest" in refused.stderr
    assert "`--role member`" in refused.stderr


def test_the_limits_of_an_invitation_are_in_the_card(
    anna: Path, tmp_path: Path
) -> None:
    from meshllm.membership import Membership

    link = document(anna, "invite", "--models", "a, b", "--parallel", "2")["link"]
    run(tmp_path / "ben", "join", link)
    known = Membership.load(tmp_path / "ben")
    assert known is not None
    caps = known.admission(int(time.time())).caps
    known.close()
    assert (caps.models, caps.parallel) == (("a", "b"), 2)


def test_leave_forgets_the_mesh_and_keeps_the_keys(anna: Path) -> None:
    before = document(anna, "identity")
    mesh = document(anna, "status")["mesh"]
    assert document(anna, "leave") == {"left": mesh}
    assert document(anna, "identity") == before
    assert not (anna / "mesh.json").exists()
    assert (anna / "root.key").exists()


def test_status_is_five_lines_also_when_nothing_runs(anna: Path) -> None:
    done = run(anna, "status")
    starts = [line.split()[0] for line in done.stdout.splitlines()]
    assert starts == ["node", "mesh", "server", "runs", "offers"]
    assert "try `meshllm share` or `meshllm gateway`" in done.stdout


def test_status_tells_when_ones_place_has_ended(
    anna: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = document(anna, "invite", "--expires", "1h")["link"]
    run(tmp_path / "ben", "join", link)
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    assert "has expired" in run(tmp_path / "ben", "status").stdout


def test_identity_is_the_id_and_its_file(tmp_path: Path) -> None:
    done = run(tmp_path, "identity")
    id, path = done.stdout.splitlines()
    assert len(id) == 52
    assert path == str(tmp_path / "identity.key")
    assert document(tmp_path, "identity") == {"id": id, "key_file": path}
