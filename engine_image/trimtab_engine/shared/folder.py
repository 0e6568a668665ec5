"""The run folder: one per server, private to its user, named to the processes by an environment variable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "TRIMTAB_ENGINE_RUN"
WANTED = "wanted.json"
START = "start.json"
CHAIN = "chain.json"
SERVING = "serving"
REASON = "reason"
SPECULATION = "speculation.json"
LONGEST_REASON = 500  # characters


class NoRunFolderError(RuntimeError):
    """This process was not started by `trimtab-engine serve`."""


def run_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of this server."""
    named = (os.environ if environment is None else environment).get(VARIABLE, "")
    if not named:
        raise NoRunFolderError(f"{VARIABLE} is not set: start the server with `trimtab-engine serve`")
    return Path(named)


def replace_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes the whole document, or nothing: readers see the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as out:
        json.dump(document, out)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The document, or None where there is none. Files are replaced whole, so other errors are real ones."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return document


def say_why(folder: Path, reason: str) -> None:
    """Leaves why the engine ends, in one line, for the chain to tell."""
    (folder / REASON).write_text(" ".join(reason.split())[:LONGEST_REASON], encoding="utf-8")


def said_why(folder: Path) -> str:
    """What the engine left; empty where it could not say anything."""
    try:
        return (folder / REASON).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


class Replaced:
    """A file that is replaced whole, as a reader sees it: `taken` is the mark of the one that was read last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.taken: tuple[int, int] | None = None

    def news(self) -> tuple[int, int] | None:
        """The mark of one that was not taken yet; None where there is none. A look costs a microsecond."""
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        mark = (stat.st_ino, stat.st_mtime_ns)
        return None if mark == self.taken else mark
