"""The files of one home: SQLite, and small files that appear whole or not at all.

Writes are few and must be on disk before we answer, so the calls are synchronous.
Several processes of one home may use them at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from meshllm.errors import ConfigError

BUSY_S = 5.0
RETRY_S = 0.02


def open_store(path: Path, room: str, migrations: Sequence[str]) -> sqlite3.Connection:
    """The database at `path` (made 0600), with the room's tables brought up to date.

    `migrations` are SQL scripts, run once each and in order; append, never change one.
    ConfigError when the file is no database, or was written by a newer version.
    """
    try:
        _make_private(path)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            _use_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            _migrate(db, path, room, migrations)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}.") from error
    return db


def unusable(path: Path, error: sqlite3.Error) -> ConfigError:
    """Why the database cannot be used, and what to do."""
    if _is_busy(error):
        return ConfigError(
            f"{path} is in use by another meshllm process, which hangs. End that one"
            " (`meshllm status` names it), and try again."
        )
    text = f"{path} cannot be used: {error}."
    if isinstance(error, sqlite3.OperationalError):  # full, read-only
        return ConfigError(text)
    return ConfigError(f"{text} Move it away to begin anew.")


def write_new(path: Path, text: str) -> None:
    """A file that only its owner reads. FileExistsError: one is never replaced.
    ConfigError: it cannot be written."""
    _write(path, text, replace=False)


def write_over(path: Path, text: str) -> None:
    """The same, in place of what was there. ConfigError: it cannot be written."""
    _write(path, text, replace=True)


def read_secret(path: Path, max_bytes: int) -> bytes:
    """At most one byte more than `max_bytes` of a file that only its owner may read.

    FileNotFoundError: there is none. ConfigError: others can read it, or we cannot.
    """
    try:
        with path.open("rb") as file:
            kind = os.fstat(file.fileno()).st_mode
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    # A pipe or a device is nobody's copy, and not ours to change.
    if sys.platform != "win32" and stat.S_ISREG(kind) and kind & 0o077:
        raise ConfigError(
            f"{path} can be read by others (mode {stat.S_IMODE(kind):04o}). If nobody "
            f"has copied it: `chmod 600 {shlex.quote(str(path))}`."
        )
    return data


@contextlib.contextmanager
def sole(path: Path, taken: str) -> Iterator[None]:
    """At most one process at a time is within, by a lock on this file.

    ConfigError for a second: `taken`, with the first one's number at `{pid}`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with open(descriptor, "r+", encoding="ascii") as file:
        if not try_lock(file.fileno()):
            raise ConfigError(taken.format(pid=file.read(20).strip() or "?"))
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """False when another holds it. The system lets go however a process ends. Where
    there is no flock (Windows) nobody is refused."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, text: str, *, replace: bool) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _make_home(path.parent)
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                draft.replace(path)
            else:
                os.link(draft, path)  # unlike a rename, it fails when the name is taken
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def _make_home(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"{home} is no folder. Give another with `--home`.") from None


def _make_private(path: Path) -> None:
    _make_home(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _use_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait for others, whatever its timeout, when the mode changes."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > end:
                raise
        time.sleep(RETRY_S)


def _is_busy(error: sqlite3.Error) -> bool:
    # SQLite's own errors have a code; those of the module do not.
    code = getattr(error, "sqlite_errorcode", 0)
    return bool(code & 0xFF == sqlite3.SQLITE_BUSY)


def _migrate(
    db: sqlite3.Connection, path: Path, room: str, migrations: Sequence[str]
) -> None:
    if _version(db, room) == len(migrations):
        return  # without a lock, which a process that hangs may hold
    db.execute("BEGIN IMMEDIATE")  # another process may be migrating too
    db.execute("CREATE TABLE IF NOT EXISTS schema (room TEXT PRIMARY KEY, version INT)")
    version = _version(db, room)
    if version > len(migrations):
        db.execute("ROLLBACK")
        raise ConfigError(
            f"{path} was written by a newer meshllm. Update this one, or move it away."
        )
    for script in migrations[version:]:
        for statement in filter(str.strip, script.split(";")):
            db.execute(statement)
    if version < len(migrations):
        row = (room, len(migrations))
        db.execute("INSERT OR REPLACE INTO schema VALUES (?, ?)", row)
    db.execute("COMMIT")


def _version(db: sqlite3.Connection, room: str) -> int:
    """How many of the room's migrations have run."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema'").fetchone():
        return 0
    row = db.execute("SELECT version FROM schema WHERE room = ?", (room,)).fetchone()
    return int(row[0]) if row else 0
