"""What several test processes use together: the first one makes it, the last one takes it away."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

T = TypeVar("T")


@contextmanager
def shared(folder: Path, name: str, *, make: Callable[[], T], end: Callable[[], None]) -> Iterator[T]:
    """`make` runs in every process, one after the other, and finds what is there; `end` runs in the last that leaves.

    `folder` is the same one for all of them.
    """
    users = folder / f"{name}-users"
    own = users / str(os.getpid())
    lock = FileLock(folder / f"{name}.lock")
    with lock:
        users.mkdir(parents=True, exist_ok=True)
        own.touch()
        made = make()
    try:
        yield made
    finally:
        with lock:
            own.unlink()
            if not any(users.iterdir()):
                end()
