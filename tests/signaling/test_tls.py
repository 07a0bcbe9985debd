"""The certificate of the server, and its successor."""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from meshllm.errors import ConfigError
from signaling import server as edge
from signaling.server import SignalingServer
from signaling.tls import Certificate
from tests.fakes.certificates import DAY, Authority
from tests.fakes.signaling import serve

AUTHORITY = Authority()


class Files:
    """Where certbot, say, keeps them."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.serial = self.renew()

    def renew(self, lasts: datetime.timedelta = DAY) -> int:
        self.serial = AUTHORITY.issue(self.cert, self.key, "127.0.0.1", lasts=lasts)
        return self.serial


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def shown(server: SignalingServer) -> int:
    """The serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    port = int(server.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(found).serial_number


async def test_a_renewed_certificate_is_taken_by_itself_or_when_told(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    async with serve(home, tls_cert=files.cert, tls_key=files.key) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert await shown(server) == files.serial
        files.renew()
        server.renew_certificate()
        assert await shown(server) == files.serial

    monkeypatch.setattr(edge, "TICK_S", 0.01)
    async with serve(home, tls_cert=files.cert, tls_key=files.key) as server:
        files.renew()
        async with asyncio.timeout(5):
            while await shown(server) != files.serial:
                await asyncio.sleep(0.01)


def test_nothing_is_read_again_until_it_changed(files: Files) -> None:
    certificate = Certificate(files.cert, files.key)
    assert not certificate.refresh()
    assert certificate.refresh(is_told=True)
    files.renew()
    assert certificate.refresh()
    assert not certificate.refresh()


def test_half_a_renewal_is_not_taken_and_said_once(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(files.cert, files.key)
    old = files.key.read_bytes()
    files.renew()
    new = files.key.read_bytes()
    files.key.write_bytes(old)
    assert not certificate.refresh()
    assert not certificate.refresh()
    assert [record.getMessage() for record in caplog.records] == [
        f"the certificate stays as it was: --tls-key {files.key} is not the key of the"
        f" certificate in {files.cert}."
    ]
    files.key.write_bytes(new)
    assert certificate.refresh()
    files.key.unlink()
    assert not certificate.refresh()


def test_what_cannot_be_used_is_said(files: Files, tmp_path: Path) -> None:
    other = Files(_folder(tmp_path / "other"))
    missing, rubbish = tmp_path / "missing.pem", tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    locked = tmp_path / "locked.pem"
    AUTHORITY.issue(tmp_path / "c.pem", locked, "127.0.0.1", passphrase=b"word")
    for cert, key, said in (
        (files.cert, other.key, f"--tls-key {other.key} is not the key of"),
        (missing, files.key, f"--tls-cert {missing} cannot be read: No such file"),
        (files.cert, missing, f"--tls-key {missing} cannot be read: No such file"),
        (rubbish, files.key, "must hold a certificate chain and its key in PEM form"),
        (files.cert, rubbish, "must hold a certificate chain and its key in PEM form"),
        (tmp_path / "c.pem", locked, "is protected by a passphrase"),
    ):
        with pytest.raises(ConfigError, match=said):
            Certificate(cert, key)


def test_an_ended_certificate_is_warned_of(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    certificate = Certificate(files.cert, files.key)
    assert caplog.records == []
    files.renew(lasts=-2 * DAY)
    assert certificate.refresh()
    assert "ended on" in caplog.records[0].getMessage()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
