"""The keys of a node, and the root key of a mesh: files that only their owner reads.

A node has an Ed25519 key, which is who it is, and an X25519 key, which receives what is
sealed to it. docs/protocol.md §1.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mnemonic import Mnemonic
from nacl.public import PrivateKey
from nacl.signing import SigningKey

from meshllm.errors import ConfigError, MeshError
from meshllm.store import read_secret, write_new
from meshllm.trust.keys import PeerId, b64encode, peer_id
from meshllm.trust.strict import b64, integer, parse_object, take

IDENTITY_FILE = "identity.key"
ROOT_FILE = "root.key"
PHRASE_WORDS = 24
VERSION = 1  # of the files
FILE_MAX = 4_096
_key = b64(32)


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's keys. `id` is its name on the wire."""

    signing: SigningKey
    box: PrivateKey

    @property
    def id(self) -> PeerId:
        return peer_id(self.signing.verify_key.encode())

    @classmethod
    def load(cls, home: Path) -> Self:
        """ConfigError: missing, damaged, or readable by others."""
        path = home / IDENTITY_FILE
        fields = read_private(path, ("ed25519", "x25519"))
        return cls(SigningKey(fields["ed25519"]), PrivateKey(fields["x25519"]))

    @classmethod
    def load_or_create(cls, home: Path) -> Self:
        """The keys of this home, made on first use; a damaged file is not replaced.
        ConfigError: as `load`, or it cannot be written."""
        path = home / IDENTITY_FILE
        if not path.exists():
            keys = {
                "ed25519": SigningKey.generate().encode(),
                "x25519": PrivateKey.generate().encode(),
            }
            with contextlib.suppress(FileExistsError):  # another process was first
                write_private(path, keys)
        return cls.load(home)


@dataclass(frozen=True, slots=True)
class RootKey:
    """Names a mesh and its owners. It may leave the machine, as a file or as words."""

    signing: SigningKey

    @property
    def id(self) -> PeerId:
        return peer_id(self.signing.verify_key.encode())

    @property
    def phrase(self) -> str:
        """24 words of BIP-39, from which the key can be made again."""
        return str(Mnemonic("english").to_mnemonic(self.signing.encode()))

    @classmethod
    def create(cls, home: Path) -> Self:
        """ConfigError when this home has one already."""
        root = cls(SigningKey.generate())
        path = home / ROOT_FILE
        try:
            write_private(path, {"root": root.signing.encode()})
        except FileExistsError:
            raise ConfigError(
                f"{path} exists: this node made a mesh before. Keep that file safe and "
                "use another home for a second mesh (`--home`)."
            ) from None
        return root

    @classmethod
    def load(cls, home: Path) -> Self:
        return cls(SigningKey(read_private(home / ROOT_FILE, ("root",))["root"]))

    @classmethod
    def from_phrase(cls, phrase: str) -> Self:
        """ConfigError when a word is misspelled or missing."""
        words = " ".join(phrase.lower().split())
        try:
            return cls(SigningKey(bytes(Mnemonic("english").to_entropy(words))))
        except (ValueError, LookupError) as error:
            raise ConfigError(
                f"This is no recovery phrase: {PHRASE_WORDS} words, spelled as shown."
            ) from error


def local_secret(home: Path, name: str) -> bytes:
    """32 bytes in a file of this home, made on first use. ConfigError as above."""
    path = home / name
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was first
            write_private(path, {"secret": secrets.token_bytes(32)})
    return read_private(path, ("secret",))["secret"]


def write_private(path: Path, keys: dict[str, bytes]) -> None:
    """A new file that only its owner reads. FileExistsError: it is never replaced.

    It appears whole or not at all. ConfigError: it cannot be written.
    """
    fields: dict[str, Any] = {"v": VERSION}
    write_new(path, json.dumps(fields | {n: b64encode(key) for n, key in keys.items()}))


def read_private(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The 32-byte keys in a file. ConfigError says what is wrong and what to do."""
    try:
        data = read_secret(path, FILE_MAX)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no key at {path}. `meshllm join LINK`, or `meshllm init`, "
            "makes one."
        ) from None
    try:
        fields = parse_object(data, max_bytes=FILE_MAX)
        keys = take(
            fields, {"v": integer(VERSION, VERSION)} | dict.fromkeys(names, _key)
        )
    except MeshError as error:
        raise ConfigError(
            f"{path} is damaged. Put back a copy of it; without one, move it away and "
            "join again as a new node."
        ) from error
    return {name: keys[name] for name in names}
