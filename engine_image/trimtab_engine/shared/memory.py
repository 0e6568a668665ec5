"""Memory that one process writes and others read, as files of one size in the run folder."""

from __future__ import annotations

import mmap
from pathlib import Path


def written(path: Path, size: int) -> mmap.mmap:
    """The writer's view of a file of zeros, made anew."""
    path.write_bytes(b"\0" * size)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), size)


class Found:
    """The readers' view of all files of a pattern and a size. A file is taken up once, by `find`."""

    def __init__(self, folder: Path, pattern: str, size: int) -> None:
        self._folder = folder
        self._pattern = pattern
        self._size = size
        self._found: dict[Path, mmap.mmap] = {}

    def find(self) -> None:
        """Takes up files that are there since the last call; one that is still being made is left for the next."""
        for path in sorted(self._folder.glob(self._pattern)):
            if path not in self._found and path.stat().st_size == self._size:
                with path.open("rb") as file:
                    self._found[path] = mmap.mmap(file.fileno(), self._size, access=mmap.ACCESS_READ)

    def all(self) -> tuple[mmap.mmap, ...]:
        """In the order in which they were taken up."""
        return tuple(self._found.values())
