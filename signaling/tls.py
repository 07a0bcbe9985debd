"""The certificate that the signaling server shows, also after it was renewed."""

from __future__ import annotations

import datetime
import logging
import ssl
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from cryptography import x509

from meshllm.errors import ConfigError

log = logging.getLogger(__name__)

NO_PEM: Final = "NO_START_LINE"
WRONG_KEY: Final = "KEY_VALUES_MISMATCH"
_Seen: TypeAlias = tuple[tuple[int, int, int], ...]


class Certificate:
    """`context` is for the server, and shows new connections what was read last."""

    def __init__(self, cert: Path, key: Path) -> None:
        """ConfigError when they cannot be used."""
        self._files = (cert, key)
        self._seen = self._look()
        self.context = _load(
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), *self._files
        )
        self._warn()

    def refresh(self, *, is_told: bool = False) -> bool:
        """Takes the files if they changed, or if somebody says so; whether it did.
        What cannot be used is not taken, and said once."""
        seen = self._look()
        if seen == self._seen and not is_told:
            return False
        self._seen = seen
        try:
            # Half of a pair must not get into the one in use.
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *self._files)
            _load(self.context, *self._files)
        except ConfigError as exc:
            log.warning("the certificate stays as it was: %s", exc)
            return False
        log.info("took the certificate in %s", self._files[0])
        self._warn()
        return True

    def _look(self) -> _Seen:
        """Changes when a file does."""
        found = []
        for path in self._files:
            try:
                stat = path.stat()
            except OSError:
                continue
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    def _warn(self) -> None:
        path = self._files[0]
        ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        if ends <= datetime.datetime.now(datetime.UTC):
            log.warning(
                "the certificate in %s ended on %s: nobody will connect until it is"
                " renewed",
                path,
                ends.date(),
            )


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> ssl.SSLContext:
    for option, path in (("--tls-cert", cert), ("--tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as exc:
            raise ConfigError(
                f"{option} {path} cannot be read: {exc.strerror}."
            ) from exc
    try:
        context.load_cert_chain(cert, key, password=lambda: _no_passphrase(key))
    except ssl.SSLError as exc:
        if exc.reason == WRONG_KEY:
            text = f"--tls-key {key} is not the key of the certificate in {cert}."
        else:
            text = (
                f"--tls-cert {cert} and --tls-key {key} must hold a certificate chain"
                f" and its key in PEM form: {exc.reason or exc}."
            )
        raise ConfigError(text) from exc
    return context


def _no_passphrase(key: Path) -> NoReturn:
    raise ConfigError(
        f"--tls-key {key} is protected by a passphrase, which a server cannot type."
    )
