"""A certificate at hand for the next connection, and never the same one twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from meshllm.transport import certificates
from meshllm.transport.certificates import Certificate, Certificates


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Certificate]:
    """Those made since."""
    made: list[Certificate] = []
    generate = Certificate.generateCertificate

    def watched() -> Certificate:
        made.append(generate())
        return made[-1]

    monkeypatch.setattr(Certificate, "generateCertificate", watched)
    return made


async def test_one_is_at_hand_and_after_it_another(
    monkeypatch: pytest.MonkeyPatch, made: list[Certificate]
) -> None:
    monkeypatch.setattr(certificates, "LATER_S", 0.0)
    pool = Certificates()
    (first,) = made
    assert pool.take() is first
    while len(made) == 1:
        await asyncio.sleep(0)
    assert pool.take() is made[1]
    pool.close()


async def test_when_none_is_at_hand_one_is_made(made: list[Certificate]) -> None:
    pool = Certificates()
    assert [pool.take() for _ in range(3)] == made
    assert len({certificate._cert for certificate in made}) == 3
    pool.close()


async def test_one_that_soon_expires_is_not_used(
    monkeypatch: pytest.MonkeyPatch, made: list[Certificate]
) -> None:
    pool = Certificates()
    monkeypatch.setattr(certificates, "LEFT_MIN", timedelta(days=31))
    assert pool.take() is made[1]
    pool.close()


async def test_the_context_is_made_with_the_certificate() -> None:
    certificate = Certificate.generateCertificate()
    context = certificate._create_ssl_context([])
    assert context is certificate._create_ssl_context([])
