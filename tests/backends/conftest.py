"""The embedded model's file: in the user's own cache, because it is 98 MB."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from meshllm.backends.model_file import fetch
from meshllm.errors import ConfigError


@pytest.fixture(scope="session")
def model_path() -> Path:
    """Skips, by name, where the engine has no wheel or the file cannot be had."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed on this platform")
    try:
        return asyncio.run(fetch())
    except ConfigError as error:
        pytest.skip(str(error))
