"""The choices with what the performance model says of each, corrected by what the cluster and the pods showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.model.reading import Known
from trimtab.plan.calibration import corrections, others
from trimtab.plan.context import Context
from trimtab.plan.modelled.choices import Choices
from trimtab.plan.modelled.subject import Subject
from trimtab.plan.outlook import Outlook
from trimtab.plan.point import Traffic
from trimtab.plan.search import Candidates, Observation
from trimtab.plan.search.candidates import Bools, Floats
from trimtab.plan.search.residuals import informed
from trimtab.plan.search.space import Axis, Space

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Weighed:
    """`candidates` as predicted, `known` with what was `seen` taken into account; `served`: rows that keep up with the
    load.
    """

    candidates: Candidates
    known: Candidates
    seen: tuple[Observation, ...]
    served: Bools


def weigh(context: Context, found: Choices) -> Weighed:
    """Forecasts every row for its share of the pod's traffic."""
    parts = {copies: share(found.subject.traffic, copies) for copies in sorted(set(found.copies))}
    traffic = [parts[copies] for copies in found.copies]
    state = context.request.calibration
    correction = None
    if state is not None:
        left = others(state, found.subject.point, share(found.subject.traffic, found.subject.copies))
        correction = corrections(left, found.points, traffic)
    outlook = Outlook.of(found.points, traffic, found.copies, correction)
    names = sorted({s.target.name for s in context.request.health.targets if s.target.percentile in PERCENTILES})
    candidates = outlook.candidates(_features(found, outlook), names)
    kept = all(state.met is not False for state in context.request.health.targets)
    seen = (Observation(found.now, measured(context, found.subject), kept=kept),)
    return Weighed(candidates, informed(candidates, seen), seen, outlook.served())


def _features(found: Choices, outlook: Outlook) -> Floats:
    """What makes configurations alike: not limits, but how far they are used. Two limits that nothing reaches are the
    same configuration, and the model errs the same in both.
    """
    space, running = found.space, np.maximum(outlook.forecast.running, 1.0)
    tokens = np.minimum(space.numbers("maxNumBatchedTokens"), np.maximum(running * found.subject.traffic.prompt, 1.0))
    used = [np.log2(running), np.log2(tokens)]
    choices = [axis for axis in space.axes if axis.knob not in ("maxNumSeqs", "maxNumBatchedTokens")]
    return np.column_stack([*used, replace(space, axes=tuple(choices), index=_columns(space, choices)).features()])


def _columns(space: Space, axes: Sequence[Axis]) -> NDArray[np.intp]:
    return np.column_stack([space.choices(axis.knob) for axis in axes])


def share(traffic: Traffic, copies: int) -> Traffic:
    """What one of the copies in a pod gets."""
    if copies == 1:
        return traffic
    return replace(
        traffic,
        concurrency=None if traffic.concurrency is None else max(1.0, traffic.concurrency / copies),
        rate=None if traffic.rate is None else traffic.rate / copies,
    )


def measured(context: Context, subject: Subject) -> dict[str, float]:
    """What the pods show of the configuration that runs. Seconds, and tokens per second and pod.

    Behind a queue, times to the first token are left out: engines count them when the token leaves, so they are of
    requests that came when the queue was another.
    """
    load = context.workload
    figures = {"itl.mean": load.itl}
    if subject.overloaded and load.waiting > 0:
        if load.request_rate and load.output:
            figures["throughput"] = load.request_rate * load.output
    else:
        figures |= {"ttft.mean": load.ttft, "e2e.mean": load.e2e}
    for state in context.request.health.targets:
        known = isinstance(state.measured, Known) and f"{state.target.metric.value}.mean" in figures
        if known and isinstance(state.measured, Known):
            figures[state.target.name] = state.measured.value
    return {name: value for name, value in figures.items() if value is not None and value > 0 and np.isfinite(value)}


def medians(found: Candidates, name: str) -> Floats:
    """In the metric's own unit."""
    return found.metrics[name].median
