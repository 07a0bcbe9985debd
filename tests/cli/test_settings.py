"""Where a serving command's options come from, and which of them wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from meshllm.cli.common import CONFIGURED, Common, ConfiguredCommand
from meshllm.cli.root import root
from meshllm.errors import ConfigError


def parsed(home: Path, name: str, *words: str) -> dict[str, Any]:
    """What the command would run with."""
    with root.make_context("meshllm", ["--home", str(home), name], obj=Common()) as ctx:
        found = root.get_command(ctx, name)
        assert found is not None
        return found.make_context(name, list(words), parent=ctx).params


def settings(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text)


def test_the_line_wins_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parsed(tmp_path, "gateway")["port"] == 11434
    settings(tmp_path, "[gateway]\nport = 1\n")
    assert parsed(tmp_path, "gateway")["port"] == 1
    monkeypatch.setenv("MESHLLM_GATEWAY_PORT", "2")
    assert parsed(tmp_path, "gateway")["port"] == 2
    assert parsed(tmp_path, "gateway", "--port", "3")["port"] == 3


def test_lists_and_flags_come_from_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[share]\nmodel = ["a", "b"]\nrelay-only = true\n[gateway]\norigin = "x"\n'
    settings(tmp_path, text)
    share = parsed(tmp_path, "share")
    assert (share["models"], share["relay_only"]) == (("a", "b"), True)
    assert parsed(tmp_path, "gateway")["origin"] == ("x",)
    monkeypatch.setenv("MESHLLM_SHARE_MODEL", "c d")
    monkeypatch.setenv("MESHLLM_SHARE_DIRECT_ONLY", "1")
    share = parsed(tmp_path, "share")
    assert (share["models"], share["direct_only"]) == (("c", "d"), True)


def test_the_hub_to_pair_at_may_be_known(tmp_path: Path) -> None:
    settings(tmp_path, '[pair]\nhub = "https://mesh.example"\n')
    assert parsed(tmp_path, "pair", "412")["hub"] == "https://mesh.example"


def test_a_command_reads_its_own_section(tmp_path: Path) -> None:
    settings(tmp_path, "[signal]\nport = 1\n")
    assert parsed(tmp_path, "gateway")["port"] == 11434


@pytest.mark.parametrize("name", CONFIGURED)
def test_every_option_of_a_configured_command_has_an_alias_that_help_names(
    name: str,
) -> None:
    found = root.get_command(click.Context(root), name)
    assert isinstance(found, ConfiguredCommand)
    shown = CliRunner().invoke(root, [name, "--help"], terminal_width=200).output
    for option in found.own_options.values():
        assert f"MESHLLM_{name.upper()}_" in str(option.envvar)
        assert f"env var: {option.envvar}" in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[gateway]\nprot = 1",
            "unknown key `prot` in [gateway]. Did you mean `port`?",
        ),
        ("[share]\nport = 1", "unknown key `port` in [share]."),
        ("[gateway]\nhome = 'x'", "unknown key `home` in [gateway]."),
        ("[chat]\nmodel = 'x'", "unknown section `chat`."),
        ("[gateway]\nport = 'http'", "`port` in [gateway]: 'http' is not a valid"),
        ("[gateway]\nport = 99999", "`port` in [gateway]: 99999 is not in the range"),
        ("[gateway]\nport = [1]", "`port` in [gateway] takes one value."),
    ],
)
def test_a_wrong_setting_names_file_and_key(
    tmp_path: Path, text: str, said: str
) -> None:
    settings(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        parsed(tmp_path, "gateway")
    assert str(caught.value).startswith(f"{tmp_path / 'config.toml'}: ")
    assert said in str(caught.value)


def test_a_wrong_setting_does_not_stand_in_the_way_of_help(tmp_path: Path) -> None:
    settings(tmp_path, "nonsense")
    done = CliRunner().invoke(root, ["--home", str(tmp_path), "gateway", "--help"])
    assert done.exit_code == 0


def test_the_home_after_the_command_wins_over_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    settings(tmp_path / "c", "[gateway]\nport = 7\n")
    monkeypatch.setenv("MESHLLM_HOME", str(tmp_path / "a"))
    found = parsed(tmp_path / "b", "gateway", "--home", str(tmp_path / "c"))
    assert found["port"] == 7


def test_the_home_before_the_command_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHLLM_HOME", str(tmp_path / "a"))
    runner = CliRunner()
    done = runner.invoke(root, ["--home", str(tmp_path / "b"), "identity"])
    assert str(tmp_path / "b") in done.output
    assert str(tmp_path / "a") in runner.invoke(root, ["identity"]).output
