"""Directories that must not be packages: `operator/__init__.py` would shadow the standard library's `operator`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["operator", "engine_image", "tests"])
def test_the_folder_is_no_package(folder: str) -> None:
    assert (REPOSITORY / folder).is_dir()
    assert not (REPOSITORY / folder / "__init__.py").exists()


@pytest.mark.parametrize("path", [".", "operator", "engine_image"])
def test_the_standard_library_is_not_shadowed(path: str) -> None:
    """Started in the root of the checkout, with what the tests put on Python's path."""
    program = "import operator, collections; assert operator.add(1, 2) == 3; print(operator.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY / path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not Path(done.stdout.strip()).is_relative_to(REPOSITORY / "operator")


@pytest.mark.parametrize("name", ["trimtab", "trimtab_engine"])
def test_the_package_says_that_it_is_typed(name: str) -> None:
    folder = {"trimtab": "operator", "trimtab_engine": "engine_image"}[name]
    assert (REPOSITORY / folder / name / "py.typed").exists()


def test_a_module_of_the_operator_is_a_few_hundred_lines_at_most() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in (REPOSITORY / "operator" / "trimtab").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert long == {}
