"""Which of several API servers of one engine does what only one may do."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


class Leader:
    """The first that asks is the one, until its process ends."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f".{name}.leader"
        self._file: IO[str] | None = None

    def is_me(self) -> bool:
        if self._file is not None:
            return True
        file = self._path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
