"""Where a node's state lives, and the optional settings file there."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

import platformdirs

from meshllm.errors import ConfigError

FILE = "config.toml"
HOME_VARIABLE = "MESHLLM_HOME"
DEMO_VARIABLE = "MESHLLM_DEMO_FOLDER"  # set by `demo` for its children

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[Scalar]


def default_home() -> Path:
    """`MESHLLM_HOME`, else the platform's folder for a user's data."""
    if given := os.environ.get(HOME_VARIABLE):
        return Path(given).expanduser()
    return platformdirs.user_data_path("meshllm", appauthor=False)


def read_config(
    home: Path, known: Mapping[str, Collection[str]]
) -> dict[str, dict[str, Value]]:
    """The sections of `home`/config.toml; empty when there is no such file.

    `known` holds the keys that each section may have. ConfigError names the file and
    what in it is wrong: a key that nothing reads is a mistake somebody should hear of.
    """
    path = home / FILE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"{path} is no TOML: {exc}.") from exc
    return {
        name: _section(path, name, section, known) for name, section in found.items()
    }


def _section(
    path: Path, name: str, section: object, known: Mapping[str, Collection[str]]
) -> dict[str, Value]:
    if name not in known:
        sections = ", ".join(f"[{section}]" for section in known)
        raise ConfigError(
            f"{path}: unknown {'section' if isinstance(section, dict) else 'key'}"
            f" `{name}`. There are {sections}."
        )
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: `{name}` is a section: write [{name}].")
    for key, value in section.items():
        if key not in known[name]:
            near = get_close_matches(key, known[name], 1)
            meant = f" Did you mean `{near[0]}`?" if near else ""
            raise ConfigError(f"{path}: unknown key `{key}` in [{name}].{meant}")
        if not _is_value(value):
            raise ConfigError(
                f"{path}: `{key}` in [{name}] must be a text, a number, true or false,"
                " or a list of those."
            )
    return section


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str | int | float) for item in value)
    return isinstance(value, str | int | float)
