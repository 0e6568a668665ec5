"""What holds for all tests of the engine image."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stand still for longer than a user would wait for a look-up in the cache."""
    monkeypatch.setattr("trimtab_engine.semantic_cache.cache.LOOK_UP_SECONDS", None)
