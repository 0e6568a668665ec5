"""Property tests judge the same examples each time, whatever else was loaded before."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CONSTANT = 48_151_623.42


def _examples() -> list[tuple[str, float, int]]:
    seen: list[tuple[str, float, int]] = []

    @settings(max_examples=300, database=None)
    @given(st.text(max_size=20), st.floats(allow_nan=False), st.integers())
    def look(text: str, number: float, whole: int) -> None:
        seen.append((text, number, whole))

    look()
    return seen


@pytest.mark.skipif("TRIMTAB_EXPLORE" in os.environ, reason="new examples are wanted")
def test_a_module_that_is_loaded_changes_no_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _examples()
    names = [f"loaded_in_between_{number}" for number in range(3)]
    for number, name in enumerate(names):
        (tmp_path / f"{name}.py").write_text(f"A, B = {CONSTANT + number}, 'a constant of a module, {number}'\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in names:
        importlib.import_module(name)
    try:
        assert _examples() == before
    finally:
        for name in names:
            del sys.modules[name]
