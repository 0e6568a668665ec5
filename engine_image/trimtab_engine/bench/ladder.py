"""One optimization after the other: what is kept, what is taken back, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from trimtab_engine.bench.compare import Compared, Verdict, compare_scenarios
from trimtab_engine.bench.result import Scenario

OBJECTIVES = {"throughput": "tokens per second", "ttft": "TTFT p95", "latency": "end to end p95"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """An optimization: limits that change while the server runs, or arguments of the engine, which need a restart."""

    name: str
    limits: Mapping[str, Any]
    arguments: tuple[str, ...]

    @property
    def live(self) -> bool:
        return not self.arguments


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether a step stays, in words, and the comparison with what was kept before it."""

    kept: bool
    why: str
    compared: tuple[Compared, ...]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A step that was tried. `objective` is its figure; seconds are those until the change was in force, and until it
    was taken back (None where it was kept)."""

    step: Step
    kept: bool
    why: str
    objective: float
    ratio: float | None
    low: float | None
    high: float | None
    apply_seconds: float
    revert_seconds: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_steps(text: str) -> tuple[Step, ...]:
    """The steps of a YAML text: a list of `name` with `limits` or `arguments`.

    Raises:
        ValueError: it is something else; the message names the step.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the steps are not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(document, list) or not document:
        raise ValueError("the steps must be a list")
    return tuple(_step(number, one) for number, one in enumerate(document, start=1))


def _step(number: int, document: object) -> Step:
    if not isinstance(document, dict) or not set(document) <= {"name", "limits", "arguments"}:
        raise ValueError(f"step {number} must have a name, and limits or arguments")
    limits, arguments = document.get("limits") or {}, document.get("arguments") or []
    if not isinstance(limits, dict) or not isinstance(arguments, list) or bool(limits) == bool(arguments):
        raise ValueError(f"step {number} must have either limits or a list of arguments")
    name = str(document.get("name") or ", ".join(f"{key}={value}" for key, value in limits.items()) or arguments)
    return Step(name=name, limits=limits, arguments=tuple(str(one) for one in arguments))


def judge(
    before: Scenario, after: Scenario, *, objective: str, gain: float, loss: float, confidence: float
) -> Judgement:
    """Kept where it is sure to gain at least `gain` (0.02: 2 %), nothing else is sure to lose more than `loss`, and no
    more requests fail than before.

    A step that changes nothing is taken back: what it does elsewhere is not known, and one change less is left.
    """
    compared = tuple(compare_scenarios(before, after, confidence=confidence))
    wanted = OBJECTIVES[objective]
    main = next((one for one in compared if one.metric == wanted), None)
    if after.error_rate > before.error_rate:
        return Judgement(kept=False, why=f"{after.error_rate:.1%} of the requests failed", compared=compared)
    if main is None or main.verdict is Verdict.UNKNOWN:
        return Judgement(kept=False, why=f"too few values of {wanted}", compared=compared)
    for one in compared:
        if one.metric != wanted and _loses(one, loss):
            why = f"{one.metric} is {one.ratio:.2f} times as before ({one.low:.2f} to {one.high:.2f})"
            return Judgement(kept=False, why=why, compared=compared)
    words = f"{wanted} is {main.ratio:.3f} times as before ({main.low:.3f} to {main.high:.3f})"
    return Judgement(kept=_gains(main, gain), why=words, compared=compared)


def _gains(one: Compared, gain: float) -> bool:
    if one.metric == OBJECTIVES["throughput"]:
        return one.low >= 1.0 + gain
    return one.high <= 1.0 - gain


def _loses(one: Compared, loss: float) -> bool:
    if one.metric == OBJECTIVES["throughput"]:
        return one.high < 1.0 - loss
    return one.verdict is not Verdict.UNKNOWN and one.low > 1.0 + loss


def kept_limits(start: Mapping[str, Any], rungs: Sequence[Rung]) -> dict[str, Any]:
    """The limits after the steps that were kept."""
    limits = dict(start)
    for rung in rungs:
        if rung.kept:
            limits.update(rung.step.limits)
    return limits


def kept_arguments(start: Sequence[str], rungs: Sequence[Rung]) -> tuple[str, ...]:
    """The arguments after the steps that were kept; later ones win in vLLM's parser."""
    return (*start, *(argument for rung in rungs if rung.kept for argument in rung.step.arguments))
