"""Kills the operator again and again while the demo plays; the end result must be the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class Kills:
    """A thread that calls `kill` every `seconds` until the block ends; with 0 seconds it does nothing."""

    def __init__(self, kill: Callable[[], None], seconds: float) -> None:
        self._kill = kill
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kills", daemon=True)
        self.count = 0

    def __enter__(self) -> Kills:
        if self._seconds > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self._kill()
            self.count += 1
