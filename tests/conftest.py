"""For every test: hypothesis searches the same examples on every machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("stable", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("stable")
