"""Are the canary's outputs as good as stable's, on the same probes and within the budget?

Stable is asked twice (two pods where there are two): how much it differs from itself is the noise that batching and
the order of sums make, and no budget below it can be tested. For each measure there is an interval that holds with
`CONFIDENCE` on each side, so the question is one of non-inferiority: Good when the whole interval is inside the budget,
Bad when the whole of it is beyond the budget and the noise, otherwise Unknown. A change that harms is so called Good
with a probability of 1 - CONFIDENCE at most, as far as the probes stand for the traffic and Student's interval holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trimtab.judge.quality.aligning import Aligned, aligned
from trimtab.judge.quality.measures import disagreement, lengthening, same_cut, surprise
from trimtab.judge.quality.paired import Estimate
from trimtab.judge.quality.probes import FEWEST
from trimtab.judge.words import bad, good, unknown
from trimtab.model.quality import Answers, Budget, Probe, Unasked
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """One measure as shares: its interval, how far stable is from itself, the budget and the field that holds it."""

    name: str
    text: str
    value: float
    low: float
    high: float
    noise: float
    budget: float
    field: str

    @property
    def span(self) -> str:
        sign = "+" if self.value > 0 else ""
        return f"{self.text} {sign}{_percent(self.value)} ({_percent(self.low)} to {_percent(self.high)})"

    def numbers(self) -> dict[str, float]:
        """For the evidence; what has no bound is left out."""
        found = {"": self.value, ".low": self.low, ".high": self.high, ".noise": self.noise, ".budget": self.budget}
        return {f"{self.name}{part}": value for part, value in found.items() if math.isfinite(value)}


def judge_quality(question: Question) -> Verdict:
    """The verdict on a canary's outputs, with the numbers as shares in its evidence."""
    stable, again, canary = question.stable, question.again, question.canary
    if isinstance(stable, Unasked):
        return _cannot(f"The outputs of stable cannot be compared: {stable.message}")
    if isinstance(again, Unasked):
        return _cannot(f"The outputs of stable cannot be compared: {again.message}")
    if isinstance(canary, Unasked):
        return _cannot(f"The outputs of the canary cannot be compared: {canary.message}")
    rows = aligned(question.probes, stable, again, canary)
    if rows.asked < FEWEST:
        first = rows.refused.message if rows.refused is not None else ""
        answered = f"Stable itself answers {rows.asked} of {len(question.probes)} probes, and {FEWEST} are needed."
        return _cannot(f"{answered} {first}".rstrip())
    evidence = {"probes": float(rows.asked), "failures": len(rows.failed) / rows.asked}
    if evidence["failures"] > question.budget.failures:
        return bad(Reason.QUALITY_REGRESSION, _failures(rows, question.budget), evidence)
    if len(rows.canary) < FEWEST:
        return _cannot(f"The canary answers {len(rows.canary)} probes, and {FEWEST} are needed.")
    if not all(same_cut(one, other) for one, other in zip(rows.stable, rows.canary, strict=True)):
        return _cannot(
            "Stable and the canary cut the same text into different tokens, so their probabilities cannot be compared: "
            "they are not versions of one model."
        )
    return _within_budget(_measures(rows, question.budget), evidence, len(rows.canary))


def _within_budget(measures: list[_Measure], evidence: Mapping[str, float], compared: int) -> Verdict:
    numbers = dict(evidence)
    for measure in measures:
        numbers |= measure.numbers()
    decided = worst([_judged(measure, numbers) for measure in measures])
    if decided.reason is not Reason.WITHIN_QUALITY_BUDGET:
        return decided
    said = "; ".join(measure.span for measure in measures)
    message = f"On {compared} probes the outputs are within the budget: {said}."
    return good(Reason.WITHIN_QUALITY_BUDGET, message, numbers)


def _judged(measure: _Measure, numbers: Mapping[str, float]) -> Verdict:
    said = f"{measure.span}, and the budget is {_percent(measure.budget)}"
    if measure.low > measure.budget + measure.noise:
        return bad(Reason.QUALITY_REGRESSION, f"The outputs are worse than the budget allows: {said}.", numbers)
    if measure.noise > measure.budget:
        noise = f"Stable differs from itself by up to {_percent(measure.noise)} ({measure.text})"
        way_out = f"more than the budget of {_percent(measure.budget)}. Raise {measure.field}, or add probes."
        return unknown(Reason.QUALITY_UNKNOWN, f"{noise}, {way_out}", numbers)
    if measure.high > measure.budget:
        message = f"The outputs are not shown to be within the budget: {said}. More probes narrow it."
        return unknown(Reason.QUALITY_UNKNOWN, message, numbers)
    return good(Reason.WITHIN_QUALITY_BUDGET, f"Within the budget: {said}.", numbers)


def _measures(rows: Aligned, budget: Budget) -> list[_Measure]:
    stable, again, canary = rows.stable, rows.again, rows.canary
    drift, itself = surprise(stable, again), disagreement(stable, again)
    half = Estimate(drift.value / 2, tuple(part / 2 for part in drift.parts))
    measures = [
        _perplexity(surprise(stable, canary) - half, drift, budget),  # against the mean of the two readings of stable
        _disagreement(disagreement(stable, canary) - itself, itself, budget),
    ]
    if any(answer.length for answer in stable):
        measures.append(_length(lengthening(stable, canary), lengthening(stable, again), budget))
    return measures


def _perplexity(change: Estimate, noise: Estimate, budget: Budget) -> _Measure:
    """The estimates are logarithms, and shown as the share by which the perplexity grows."""
    low, high = change.interval(CONFIDENCE)
    return _Measure(
        name="perplexity",
        text="perplexity",
        value=_grown(change.value),
        low=_grown(low),
        high=_grown(high),
        noise=_grown(_largest(noise)),
        budget=budget.perplexity_increase,
        field="spec.quality.maxPerplexityIncreasePermille",
    )


def _disagreement(change: Estimate, noise: Estimate, budget: Budget) -> _Measure:
    low, high = change.interval(CONFIDENCE)
    return _Measure(
        name="disagreement",
        text="other most probable tokens",
        value=change.value,
        low=low,
        high=high,
        noise=_largest(noise),
        budget=budget.disagreement,
        field="spec.quality.maxDisagreementPermille",
    )


def _length(change: Estimate, noise: Estimate, budget: Budget) -> _Measure:
    """Longer and shorter both count, so the interval is one of the size of the change."""
    low, high = change.interval(CONFIDENCE)
    return _Measure(
        name="length",
        text="length of answers",
        value=change.value,
        low=0.0 if low <= 0.0 <= high else min(abs(low), abs(high)),
        high=max(abs(low), abs(high)),
        noise=_largest(noise),
        budget=budget.length_change,
        field="spec.quality.maxLengthChangePermille",
    )


def _failures(rows: Aligned, budget: Budget) -> str:
    probe, first = rows.failed[0]
    share = f"{len(rows.failed)} of {rows.asked} probes that stable answers"
    return (
        f"The canary fails at {share}, and the budget is {_percent(budget.failures)}. "
        f"The first is {probe.name!r}: {first.message}"
    )


def _cannot(message: str) -> Verdict:
    return unknown(Reason.QUALITY_UNKNOWN, message)


def _largest(noise: Estimate) -> float:
    least, most = noise.interval(CONFIDENCE)
    return max(abs(least), abs(most))


def _grown(logarithm: float) -> float:
    return math.inf if logarithm > 700 else math.expm1(logarithm)


def _percent(share: float) -> str:
    if math.isinf(share):
        return "without bound"
    return f"{100 * share:.2g} %" if abs(share) < 0.1 else f"{100 * share:.0f} %"
