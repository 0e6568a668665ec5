"""The limits that are wanted: one file, replaced whole, with a number that grows with each change."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trimtab_engine.limits.batching import Batching, batching_from_json
from trimtab_engine.limits.classes import Classes, classes_from_json
from trimtab_engine.limits.limits import Limits, limits_from_json
from trimtab_engine.limits.settings import Settings
from trimtab_engine.shared.folder import WANTED, Replaced, read_json, replace_json


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Limits, classes and batching, their number, who set them (`start`, `file`, `request` or `tuner`), and when.

    `since` is ISO 8601, UTC. `id` is the writer's own number for them; 0 where there is none.
    """

    limits: Limits
    revision: int
    source: str
    since: str
    classes: Classes = field(default_factory=Classes)
    batching: Batching = field(default_factory=Batching)
    id: int = 0

    @property
    def settings(self) -> Settings:
        return Settings(limits=self.limits, classes=self.classes, batching=self.batching, id=self.id)


class WantedFile:
    """The file in the run folder. Several API servers may write it; one at a time changes it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / WANTED
        self._lock = folder / f".{WANTED}.lock"
        self._file = Replaced(self.path)

    def read(self) -> Wanted | None:
        """What is wanted now; None before the first writer."""
        document = read_json(self.path)
        if document is None:
            return None
        return Wanted(
            limits=limits_from_json(document["limits"]),
            classes=classes_from_json(document["classes"]),
            batching=batching_from_json(document["batching"]),
            id=document["id"],
            revision=document["revision"],
            source=document["source"],
            since=document["since"],
        )

    def read_if_changed(self) -> Wanted | None:
        """What is wanted, once after each change. One look costs a microsecond: it may be asked before each step."""
        mark = self._file.news()
        if mark is None:
            return None
        wanted = self.read()
        self._file.taken = mark
        return wanted

    def change(self, decide: Callable[[Wanted | None], Wanted | None]) -> Wanted | None:
        """Replaces what is wanted by what `decide` makes of it; None leaves everything as it is."""
        with self._alone():
            new = decide(self.read())
            if new is not None:
                replace_json(
                    self.path,
                    {
                        "limits": new.limits.as_json(),
                        "classes": new.classes.as_json(),
                        "batching": new.batching.as_json(),
                        "id": new.id,
                        "revision": new.revision,
                        "source": new.source,
                        "since": new.since,
                    },
                )
            return new

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock.open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # released when the file is closed, however that comes
            yield
