"""Files that are generated from the models: compared with what is there, and written where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def differing(texts: Mapping[Path, str], *, write: bool) -> list[Path]:
    """The files that are missing or hold another text, in the given order; with `write` they now hold theirs."""
    found = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in found if write else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    return found
