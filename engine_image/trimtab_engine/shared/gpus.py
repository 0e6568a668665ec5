"""The GPUs as the program that runs the engines knows them, told to the API servers by a file, replaced whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trimtab_engine.gpus.health import Assessment, Reason, Verdict
from trimtab_engine.gpus.layout import Layout
from trimtab_engine.gpus.reading import Reading, reading_from_json
from trimtab_engine.gpus.recovery import Action, Cause
from trimtab_engine.shared.folder import Replaced, read_json, replace_json

GPUS = "gpus.json"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One GPU: its last reading, how it fares, and whether the engine computes on it."""

    reading: Reading
    assessment: Assessment
    in_use: bool

    def as_json(self) -> dict[str, Any]:
        found = self.assessment
        return {
            **self.reading.as_json(),
            "verdict": found.verdict.value,
            "reason": found.reason.value,
            "message": found.message,
            "in_use": self.in_use,
        }


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Something that was done about a GPU, with the layouts before and after, and when (ISO 8601, UTC)."""

    action: Action
    cause: Cause
    message: str
    since: str

    def as_json(self) -> dict[str, str]:
        return {
            "action": self.action.value,
            "cause": self.cause.value,
            "message": self.message,
            "since": self.since,
        }


@dataclass(frozen=True, kw_only=True)
class State:
    """All of it. `absent` says in one sentence why no GPU is read; `at` is when (monotonic seconds, the same in every
    process). `asked` and `layout` are how the engine was to be spread, and is."""

    absent: str
    asked: Layout = field(default_factory=Layout)
    layout: Layout = field(default_factory=Layout)
    gpus: tuple[Shown, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    at: float = field(default_factory=time.monotonic)

    def as_json(self) -> dict[str, Any]:
        return {
            "absent": self.absent,
            "asked": self.asked.as_json(),
            "layout": self.layout.as_json(),
            "gpus": [gpu.as_json() for gpu in self.gpus],
            "recoveries": [recovery.as_json() for recovery in self.recoveries],
            "at": self.at,
        }


def write_state(folder: Path, state: State) -> None:
    """Shows the state to the API servers."""
    replace_json(folder / GPUS, state.as_json())


class StateReader:
    """The readers' side."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / GPUS
        self._file = Replaced(self._path)
        self._state: State | None = None

    def read(self) -> State | None:
        """The last state; None where there never was one. One that did not change is not read again."""
        mark = self._file.news()
        if mark is not None:
            document = read_json(self._path)
            self._state = None if document is None else _state_from_json(document)
            self._file.taken = mark
        return self._state


def _state_from_json(document: dict[str, Any]) -> State:
    return State(
        absent=document["absent"],
        asked=Layout(**document["asked"]),
        layout=Layout(**document["layout"]),
        gpus=tuple(_shown_from_json(gpu) for gpu in document["gpus"]),
        recoveries=tuple(
            Recovery(**{**one, "action": Action(one["action"]), "cause": Cause(one["cause"])})
            for one in document["recoveries"]
        ),
        at=document["at"],
    )


def _shown_from_json(document: dict[str, Any]) -> Shown:
    assessment = Assessment(
        verdict=Verdict(document["verdict"]), reason=Reason(document["reason"]), message=document["message"]
    )
    return Shown(reading=reading_from_json(document), assessment=assessment, in_use=document["in_use"])
