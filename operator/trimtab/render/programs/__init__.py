"""Texts of the programs that run beside the engine, for `python3 -c` in an image of which only Python is known.

They are `trimtab_engine.probe` and `trimtab_engine.drain` without comments and docstrings; `python -m
trimtab.render.programs` writes them from their sources, and a test compares.
"""

from __future__ import annotations

from importlib.resources import files


def text(name: str) -> str:
    """The program `probe` or `drain`."""
    return files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


PROBE = text("probe")
DRAIN = text("drain")
