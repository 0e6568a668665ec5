"""Are the canary's outputs as good as stable's, on the same probes and within the budget?

Stable is asked twice (two pods where there are two): how much it differs from itself is the noise that batching and
the order of sums make, and no budget below it can be tested. For each measure there is an interval that holds with
`CONFIDENCE` on each side, so the question is one of non-inferiority: Good when the whole interval is inside the budget,
Bad when the whole of it is beyond the budget and the noise, otherwise Unknown. A change that harms is so called Good
with a probability of 1 - CONFIDENCE at most, as far as the probes stand for the traffic and Student's interval holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trimtab.judge.quality.measures import disagreement, lengthening, same_cut, surprise
from trimtab.judge.quality.paired import Estimate
from trimtab.judge.quality.probes import FEWEST
from trimtab.judge.words import bad, good, unknown
from trimtab.model.quality import Answers, Budget, Failed, Outcome, Probe, Scored, Unasked
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict, worst

CONFIDENCE: Final = 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The probes, and what was answered to them: by stable, by stable again, and by the canary."""

    probes: tuple[Probe, ...]
    stable: Answers
    again: Answers
    canary: Answers
    budget: Budget


@dataclass(frozen=True, slots=True)
class _Measure:
    """One measure, all in the same unit: its interval, how far stable is from itself, and the budget."""

    name: str
    text: str
    value: float
    low: float
    high: float
    noise: float
    budget: float
    field: str


@dataclass(frozen=True, slots=True)
class _Answered:
    stable: tuple[Scored, ...]
    again: tuple[Scored, ...]
    canary: tuple[Scored, ...]


def judge_quality(question: Question) -> Verdict:
    """The verdict on a canary's outputs, with the numbers as shares in its evidence."""
    for who, answers in (("stable", question.stable), ("stable", question.again), ("the canary", question.canary)):
        if isinstance(answers, Unasked):
            return unknown(Reason.QUALITY_UNKNOWN, f"The outputs of {who} cannot be compared: {answers.message}")
    stable, again, canary = (_outcomes(part) for part in (question.stable, question.again, question.canary))
    asked = [index for index in range(len(stable)) if _is_scored(stable[index]) and _is_scored(again[index])]
    if len(asked) < FEWEST:
        return _too_few(question.probes, [*stable, *again], len(asked))
    failed = [index for index in asked if isinstance(canary[index], Failed)]
    evidence = {"probes": float(len(asked)), "failures": len(failed) / len(asked)}
    if evidence["failures"] > question.budget.failures:
        return bad(Reason.QUALITY_REGRESSION, _failures(question, canary, failed, len(asked)), evidence)
    answered = _answered(asked, stable, again, canary)
    if len(answered.canary) < FEWEST:
        return unknown(Reason.QUALITY_UNKNOWN, f"The canary answered {len(answered.canary)} probes only.", evidence)
    if not all(same_cut(one, other) for one, other in zip(answered.stable, answered.canary, strict=True)):
        return unknown(
            Reason.QUALITY_UNKNOWN,
            "Stable and the canary cut the same text into different tokens, so their probabilities cannot be compared: "
            "they are not versions of one model.",
            evidence,
        )
    return _measured(answered, question.budget, evidence)


def _measured(answered: _Answered, budget: Budget, evidence: Mapping[str, float]) -> Verdict:
    measures = _measures(answered, budget)
    numbers = dict(evidence)
    for measure in measures:
        numbers |= {
            measure.name: measure.value,
            f"{measure.name}.low": measure.low,
            f"{measure.name}.high": measure.high,
            f"{measure.name}.noise": measure.noise,
            f"{measure.name}.budget": measure.budget,
        }
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    decided = worst([_judged(measure, finite) for measure in measures])
    if decided.reason is not Reason.WITHIN_QUALITY_BUDGET:
        return decided
    said = "; ".join(f"{m.text} {_span(m)}" for m in measures)
    message = f"On {len(answered.stable)} probes the outputs are within the budget: {said}."
    return good(Reason.WITHIN_QUALITY_BUDGET, message, finite)


def _measures(answered: _Answered, budget: Budget) -> list[_Measure]:
    stable, again, canary = answered.stable, answered.again, answered.canary
    # Half of the noise between the two readings of stable is in their mean.
    drift = surprise(stable, again)
    rise = surprise(stable, canary) - Estimate(drift.value / 2, tuple(part / 2 for part in drift.parts))
    itself = disagreement(stable, again)
    measures = [
        _measure(
            "perplexity", "perplexity", rise, drift, budget.perplexity_increase, "maxPerplexityIncrease", exp=True
        ),
        _measure(
            "disagreement",
            "different most probable tokens",
            disagreement(stable, canary) - itself,
            itself,
            budget.disagreement,
            "maxDisagreement",
        ),
    ]
    if any(answer.length for answer in stable):
        longer, swing = lengthening(stable, canary), lengthening(stable, again)
        measures.append(_length(longer, swing, budget.length_change))
    return measures


def _measure(
    name: str, text: str, change: Estimate, noise: Estimate, budget: float, field: str, *, exp: bool = False
) -> _Measure:
    """`exp`: the estimates are logarithms, and shown as the shares by which what they stand for grows."""
    shown = _grown if exp else _same
    low, high = change.interval(CONFIDENCE)
    least, most = noise.interval(CONFIDENCE)
    return _Measure(
        name=name,
        text=text,
        value=shown(change.value),
        low=shown(low),
        high=shown(high),
        noise=shown(max(abs(least), abs(most))),
        budget=budget,
        field=f"spec.quality.{field}Permille",
    )


def _length(change: Estimate, noise: Estimate, budget: float) -> _Measure:
    """Longer and shorter both count, so the interval is one of the size of the change."""
    low, high = change.interval(CONFIDENCE)
    nearest = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
    least, most = noise.interval(CONFIDENCE)
    return _Measure(
        name="length",
        text="length of answers",
        value=change.value,
        low=nearest,
        high=max(abs(low), abs(high)),
        noise=max(abs(least), abs(most)),
        budget=budget,
        field="spec.quality.maxLengthChangePermille",
    )


def _judged(measure: _Measure, evidence: Mapping[str, float]) -> Verdict:
    said = f"{measure.text} {_span(measure)}, and the budget is {_percent(measure.budget)}"
    if measure.low > measure.budget + measure.noise:
        return bad(Reason.QUALITY_REGRESSION, f"The outputs are worse than the budget allows: {said}.", evidence)
    if measure.noise > measure.budget:
        return unknown(
            Reason.QUALITY_UNKNOWN,
            f"Stable differs from itself by up to {_percent(measure.noise)} ({measure.text}), more than the budget of "
            f"{_percent(measure.budget)}. Raise {measure.field}, or add probes.",
            evidence,
        )
    if measure.high > measure.budget:
        return unknown(
            Reason.QUALITY_UNKNOWN,
            f"The outputs are not shown to be within the budget: {said}. More probes narrow it.",
            evidence,
        )
    return good(Reason.WITHIN_QUALITY_BUDGET, f"Within the budget: {said}.", evidence)


def _outcomes(answers: Answers) -> tuple[Outcome, ...]:
    return () if isinstance(answers, Unasked) else answers


def _is_scored(outcome: Outcome) -> bool:
    return isinstance(outcome, Scored)


def _answered(
    asked: Sequence[int], stable: Sequence[Outcome], again: Sequence[Outcome], canary: Sequence[Outcome]
) -> _Answered:
    rows = [
        (one, two, three)
        for one, two, three in ((stable[index], again[index], canary[index]) for index in asked)
        if isinstance(one, Scored) and isinstance(two, Scored) and isinstance(three, Scored)
    ]
    return _Answered(
        stable=tuple(row[0] for row in rows), again=tuple(row[1] for row in rows), canary=tuple(row[2] for row in rows)
    )


def _too_few(probes: Sequence[Probe], outcomes: Sequence[Outcome], usable: int) -> Verdict:
    first = next((outcome.message for outcome in outcomes if isinstance(outcome, Failed)), "")
    return unknown(
        Reason.QUALITY_UNKNOWN,
        f"Stable itself answers {usable} of {len(probes)} probes, and {FEWEST} are needed. {first}".rstrip(),
        {"probes": float(usable)},
    )


def _failures(question: Question, canary: Sequence[Outcome], failed: Sequence[int], asked: int) -> str:
    first = canary[failed[0]]
    words = first.message if isinstance(first, Failed) else ""
    return (
        f"The canary fails at {len(failed)} of {asked} probes that stable answers, and the budget is "
        f"{_percent(question.budget.failures)}. The first is {question.probes[failed[0]].name!r}: {words}"
    )


def _grown(logarithm: float) -> float:
    return math.inf if logarithm > 700 else math.expm1(logarithm)


def _same(value: float) -> float:
    return value


def _span(measure: _Measure) -> str:
    sign = "+" if measure.value > 0 else ""
    return f"{sign}{_percent(measure.value)} ({_percent(measure.low)} to {_percent(measure.high)})"


def _percent(share: float) -> str:
    if math.isinf(share):
        return "without bound"
    return f"{100 * share:.2g} %" if abs(share) < 0.1 else f"{100 * share:.0f} %"
