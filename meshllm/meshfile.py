"""The file `mesh.json` of a home: what a node knows of its mesh, as it was signed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from meshllm.errors import ConfigError, MeshError
from meshllm.trust.announcement import chain
from meshllm.trust.grants import Revocations, Statement
from meshllm.trust.keys import PeerId, read_peer_id
from meshllm.trust.link import URL_MAX
from meshllm.trust.signed import LONG_TOKEN_MAX, TOKEN_MAX
from meshllm.trust.strict import nullable, parse_object, take, text

MESH_FILE: Final = "mesh.json"
FILE_MAX: Final = 262_144
Stamp = tuple[int, int, int]
NEVER: Final[Stamp] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Known:
    """mesh.json: strings as they were signed. `hub_key` pins the signaling server."""

    mesh: PeerId
    id: PeerId
    hub: str | None
    hub_key: PeerId | None
    chain: tuple[str, ...]
    statement: str
    revocations: str | None


def stamp(home: Path) -> Stamp:
    """Another one when the file may be another."""
    try:
        found = (home / MESH_FILE).stat()
    except OSError:  # reading it will say why
        return NEVER
    return found.st_mtime_ns, found.st_ino, found.st_size


def read(home: Path) -> Known | None:
    """None: there is none. ConfigError: it is damaged, or cannot be read."""
    path = home / MESH_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        known = Known(**take(parse_object(data, max_bytes=FILE_MAX), _FIELDS))
        Statement.read(known.statement, known.mesh)
        if known.revocations is not None:
            Revocations.read(known.revocations)
    except MeshError as error:
        raise ConfigError(
            f"{path} is damaged. Put back a copy, or move it away and join again."
        ) from error
    return known


def dump(known: Known) -> str:
    return json.dumps(asdict(known), indent=1)


_FIELDS = {
    "mesh": read_peer_id,
    "id": read_peer_id,
    "hub": nullable(text(URL_MAX, 1)),
    "hub_key": nullable(read_peer_id),
    "chain": chain,
    "statement": text(TOKEN_MAX, 1),
    "revocations": nullable(text(LONG_TOKEN_MAX, 1)),
}
