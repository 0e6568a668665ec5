"""The chain of engines: which is tried next, and why the ones before it do not serve. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class Why(StrEnum):
    """Why an engine does not serve."""

    LIBRARY_MISSING = "library_missing"
    NOT_STARTED = "not_started"
    ENDED = "ended_while_serving"
    GPU_FAILED = "gpu_failed"


@dataclass(frozen=True, kw_only=True)
class Passed:
    """An engine that was passed over."""

    engine: str
    why: Why
    message: str


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an engine's process ended: its exit code (negative: the signal), whether it had served, whether it was
    asked to end, and what it said of the reason."""

    code: int
    served: bool
    asked: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Where the chain stands: the engine whose turn it is, and the ones before it."""

    engine: str
    passed: tuple[Passed, ...] = ()

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def states(self, preference: Sequence[str]) -> dict[str, str]:
        """Each engine of the preference: `serving`, why it was passed over, or `not_tried`."""
        known = {passed.engine: passed.why.value for passed in self.passed} | {self.engine: "serving"}
        return {name: known.get(name, "not_tried") for name in preference}


# vLLM's parser, and ours, end with this status when an argument is wrong: another engine would only hide that.
WRONG_ARGUMENTS = 2


def missing(engine: str, libraries: Sequence[str], has: Callable[[str], bool]) -> Passed | None:
    """The engine as passed over where one of its libraries is not installed."""
    absent = [library for library in libraries if not has(library)]
    if not absent:
        return None
    message = f"{engine} needs {' and '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed."
    return Passed(engine=engine, why=Why.LIBRARY_MISSING, message=message)


def after(engine: str, ending: Ending) -> Passed | None:
    """The engine as passed over after its end; None where the end is that of the server."""
    if ending.asked or ending.code in (0, WRONG_ARGUMENTS):
        return None
    how = f"by signal {-ending.code}" if ending.code < 0 else f"with status {ending.code}"
    why, when = (Why.ENDED, "while it served") if ending.served else (Why.NOT_STARTED, "before it served")
    said = f": {ending.reason.rstrip('.')}." if ending.reason else "."
    return Passed(engine=engine, why=why, message=f"{engine} ended {how} {when}{said}")


def chain_from_json(document: Mapping[str, object] | None) -> Chain | None:
    """The chain that `as_json` gave."""
    if document is None:
        return None
    entries = document["passed"]
    assert isinstance(entries, list)
    passed = tuple(Passed(engine=entry["engine"], why=Why(entry["why"]), message=entry["message"]) for entry in entries)
    return Chain(engine=str(document["engine"]), passed=passed)
