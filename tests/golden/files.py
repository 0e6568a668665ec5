"""Golden files: what is built is compared with what is checked in. `make golden` rewrites them."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def assert_golden(name: str, text: str) -> None:
    """`text` is the content of the golden file `name`, a path below this folder."""
    path = FOLDER / name
    if os.environ.get("TRIMTAB_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{name} is not there: run `make golden` and review it"
    assert text == path.read_text(encoding="utf-8"), f"{name} differs: run `make golden` and review the difference"
