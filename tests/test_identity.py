"""The keys of a node and of a mesh: made once, read by their owner only, never lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshllm.errors import ConfigError
from meshllm.identity import (
    IDENTITY_FILE,
    ROOT_FILE,
    Identity,
    RootKey,
    read_private,
    write_private,
)
from meshllm.trust.keys import peer_id

MAKER = """
import sys
from pathlib import Path
from meshllm.identity import Identity
print("ready", flush=True)
sys.stdin.readline()
identity = Identity.load_or_create(Path(sys.argv[1]))
print(identity.id, bytes(identity.box).hex())
"""


def test_keys_are_made_once(tmp_path: Path) -> None:
    made = Identity.load_or_create(tmp_path / "home")

    again = Identity.load_or_create(tmp_path / "home")

    assert again == made == Identity.load(tmp_path / "home")
    assert made.id == peer_id(bytes(made.signing.verify_key))
    assert stat.S_IMODE((tmp_path / "home" / IDENTITY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_processes_that_start_together_agree_on_one_identity(tmp_path: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()

    said = {maker.communicate()[0] for maker in makers}

    identity = Identity.load(tmp_path)
    assert said == {f"{identity.id} {bytes(identity.box).hex()}\n"}
    assert os.listdir(tmp_path) == [IDENTITY_FILE]


@pytest.mark.skipif(sys.platform == "win32", reason="files have no modes there")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    Identity.load_or_create(tmp_path)
    (tmp_path / IDENTITY_FILE).chmod(mode)

    with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600"):
        Identity.load_or_create(tmp_path)


GOOD = {"v": 1, "ed25519": "A" * 43, "x25519": "A" * 43}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        "[" * 4_000,
        json.dumps(GOOD)[:-1],
        json.dumps({"v": 1, "ed25519": "A" * 43}),
        json.dumps(GOOD | {"ed25519": "A" * 42}),
        json.dumps(GOOD | {"ed25519": None}),
        json.dumps(GOOD | {"v": 2}),
        json.dumps(GOOD | {"more": 1}),
        json.dumps(GOOD) + " " * 5_000,
    ],
)
def test_a_damaged_key_is_said_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / IDENTITY_FILE
    path.write_text(content)
    path.chmod(0o600)

    for read in (Identity.load, Identity.load_or_create):
        with pytest.raises(ConfigError, match=r"identity\.key is damaged.*copy"):
            read(tmp_path)
    assert path.read_text() == content


def test_a_missing_key_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no key at .*`meshllm init`"):
        Identity.load(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_key_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / IDENTITY_FILE).mkdir()

    with pytest.raises(ConfigError, match=r"identity\.key cannot be read"):
        Identity.load_or_create(tmp_path)


def test_a_home_that_is_a_file_is_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("")

    for make in (Identity.load_or_create, RootKey.create):
        with pytest.raises(ConfigError, match="no folder"):
            make(home)


def test_private_files_are_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hub.key"
    write_private(path, {"ed25519": b"k" * 32})

    with pytest.raises(FileExistsError):
        write_private(path, {"ed25519": b"x" * 32})
    assert read_private(path, ("ed25519",)) == {"ed25519": b"k" * 32}


# The root key


def test_a_root_key_comes_back_from_its_file_and_from_its_words(tmp_path: Path) -> None:
    root = RootKey.create(tmp_path)

    assert RootKey.load(tmp_path) == root
    assert len(root.phrase.split()) == 24
    assert RootKey.from_phrase(root.phrase) == root
    assert RootKey.from_phrase(f"  {root.phrase.upper()}\n") == root
    assert stat.S_IMODE((tmp_path / ROOT_FILE).stat().st_mode) == 0o600


def test_a_home_has_one_root_key(tmp_path: Path) -> None:
    root = RootKey.create(tmp_path)

    with pytest.raises(ConfigError, match=r"root\.key exists.*--home"):
        RootKey.create(tmp_path)
    assert RootKey.load(tmp_path) == root


WORDS = " ".join(["abandon"] * 23 + ["art"])  # BIP-39's own example: 32 zero bytes


def phrases() -> list[Any]:
    swapped = WORDS.split()
    swapped[0], swapped[-1] = swapped[-1], swapped[0]
    return [
        "",
        "abandon",
        WORDS.replace("art", "artt"),
        WORDS.replace("art", "zoo"),
        WORDS.rpartition(" ")[0],
        " ".join(swapped),
        " ".join(["abandon"] * 11 + ["about"]),  # sixteen bytes
    ]


def test_the_words_are_those_of_bip_39() -> None:
    assert bytes(RootKey.from_phrase(WORDS).signing) == bytes(32)


@pytest.mark.parametrize("phrase", phrases())
def test_a_misspelled_phrase_is_refused(phrase: str) -> None:
    with pytest.raises(ConfigError, match="no recovery phrase: 24 words"):
        RootKey.from_phrase(phrase)
