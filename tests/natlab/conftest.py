"""What the laboratory's own tests share: the reason why it cannot run here."""

from __future__ import annotations

import os

import pytest

from tests.natlab.net import missing


@pytest.fixture(autouse=True)
def laboratory() -> None:
    """CI has what these tests need; elsewhere they are skipped by name."""
    _need(nft="nftables", turnserver="coturn")


@pytest.fixture
def chromium() -> None:
    _need(chromium="chromium")


def _need(**packages: str) -> None:
    if why := missing(**packages):
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
