"""Settings: where the home is, and which files are refused, naming file and key."""

from pathlib import Path

import pytest

from meshllm.config import default_home, read_config
from meshllm.errors import ConfigError

KNOWN = {"signal": ["host", "port"], "share": ["model", "queue"]}


def write(home: Path, text: str) -> Path:
    path = home / "config.toml"
    path.write_text(text)
    return path


def test_the_environment_names_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESHLLM_HOME", str(tmp_path))
    assert default_home() == tmp_path


def test_without_the_environment_it_is_a_folder_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MESHLLM_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    home = default_home()
    assert home.name == "meshllm"
    assert home.is_relative_to(tmp_path)


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert read_config(tmp_path, KNOWN) == {}


def test_sections_come_with_their_values(tmp_path: Path) -> None:
    write(tmp_path, '[signal]\nport = 9000\n[share]\nmodel = ["a", "b"]\n')
    assert read_config(tmp_path, KNOWN) == {
        "signal": {"port": 9000},
        "share": {"model": ["a", "b"]},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[signal]\nprot = 1", "unknown key `prot` in [signal]. Did you mean `port`?"),
        ("[signal]\nxyz = 1", "unknown key `xyz` in [signal]."),
        ("[sginal]\nport = 1", "unknown section `sginal`. There are [signal], [share]"),
        ("port = 1", "unknown key `port`. There are [signal], [share]."),
        ("signal = 1", "`signal` is a section: write [signal]."),
        ("[signal]\nport = 1979-05-27", "`port` in [signal] must be a text, a number"),
        ("[signal.port]\na = 1", "`port` in [signal] must be a text, a number"),
        ("[share]\nmodel = [[1]]", "`model` in [share] must be a text, a number"),
        ("[signal\nport = 1", "is no TOML: Expected ']'"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path, KNOWN)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_bytes_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml is no TOML"):
        read_config(tmp_path, KNOWN)
    assert path.exists()


def test_a_folder_in_its_place_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read"):
        read_config(tmp_path, KNOWN)
