"""Accuracy on left-out groups of (model, GPU), nested: whatever is chosen by data is chosen without the group.

For each group g: coefficients are fitted on the others; the widths of intervals come from the errors on each further
group h of coefficients fitted without g and h. So no measured value of g reaches its predictions or its intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.bench.planner.decision import decide
from tests.bench.planner.fit import coefficients_of, fit, left_out
from tests.bench.planner.measured import Measured
from tests.bench.planner.report import Result, results
from tests.bench.planner.spreads import spreads
from trimtab.plan.calibration import Observation, corrections, empty, update
from trimtab.plan.performance.coefficients import Coefficients, Spread
from trimtab.plan.performance.forecast import Forecast, forecast
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.stack import Index

_OBSERVED = 3
_DRAWS = 10


@dataclass(frozen=True)
class LeftOut:
    """Per row, from fits and intervals that have not seen its group; milliseconds."""

    tpot: Floats
    ttft: Floats
    tpot_range: tuple[Floats, Floats, Floats]  # low, high, upper
    ttft_range: tuple[Floats, Floats, Floats]
    observed_tpot: Floats  # absolute log error after a few observations of the group, per draw and row left
    rate: Floats


def nested(data: Measured, progress: Callable[[str], None]) -> LeftOut:
    start = fit(data)
    columns = {name: np.full(len(data.group), np.nan) for name in ("x", "t", "rate")}
    bands = np.full((2, 3, len(data.group)), np.nan)
    after: list[Floats] = []
    for group in sorted(set(data.group)):
        progress(f"leaving out {group}")
        out, others = data.group == group, data.part(data.group != group)
        z = fit(others, start)
        coefficients = coefficients_of(z).with_spreads(inner_spreads(others, z))
        mine = data.part(out)
        found = predict(mine, coefficients)
        columns["x"][out], columns["t"][out] = found.tpot, found.ttft.mean
        columns["rate"][out] = found.output_tokens / found.gpus
        for number, band in enumerate((found.tpot_range, found.ttft_range)):
            bands[number][:, out] = (band.low, band.high, band.upper)
        after.append(after_observing(mine, coefficients, found))
    return LeftOut(
        columns["x"], columns["t"], tuple(bands[0]), tuple(bands[1]), np.concatenate(after), columns["rate"]
    )  # fmt: skip


def predict(data: Measured, coefficients: Coefficients) -> Forecast:
    points, traffic = [case.point for case in data.cases], [case.traffic for case in data.cases]
    return forecast(points, traffic, coefficients=coefficients)


def inner_spreads(data: Measured, start: Floats) -> dict[str, Spread]:
    """Widths from the errors on each group of `data` of a fit without it."""
    tpot, ttft = np.full(len(data.group), np.nan), np.full(len(data.group), np.nan)
    for group, z in left_out(data, start, lambda _: None).items():
        out = data.group == group
        x, t = data.part(out).predict(coefficients_of(z))
        tpot[out], ttft[out] = np.log(data.tpot[out] / x), np.log(data.ttft[out] / t)
    kinds = np.array([data.batch.variants[v].kind for v in data.batch.of])
    return spreads(kinds, data.group, {"tpot": tpot, "ttft": ttft})


def after_observing(data: Measured, coefficients: Coefficients, found: Forecast) -> Floats:
    """Absolute relative TPOT errors of the rows not drawn, after observing three drawn rows of the same group.

    A group here is (model, GPU, engine, precision). The draws are ten, of a seeded generator.
    """
    keys = np.array([f"{r['engine']}|{r['engine_version']}|{r['weight_precision']}" for r in data.rows])
    generator = np.random.default_rng(0)
    errors = []
    for key in sorted(set(keys)):
        rows = np.flatnonzero(keys == key)
        if len(rows) <= _OBSERVED:
            continue
        for _ in range(_DRAWS):
            drawn = generator.choice(rows, _OBSERVED, replace=False)
            rest = np.setdiff1d(rows, drawn)
            errors.append(_learned(data, found, drawn, rest))
    return np.concatenate(errors) if errors else np.zeros(0)


def _learned(data: Measured, found: Forecast, drawn: Index, rest: Index) -> Floats:
    state = empty()
    for i in drawn:
        state = update(
            state,
            Observation(
                point=data.cases[i].point,
                traffic=data.cases[i].traffic,
                predicted_tpot=float(found.tpot[i]),
                predicted_ttft=float(found.ttft.mean[i]),
                measured_tpot=float(data.tpot[i]),
                measured_ttft=float(data.ttft[i]),
            ),
        )
    factors = corrections(state, [data.cases[i].point for i in rest], [data.cases[i].traffic for i in rest])
    return np.asarray(np.abs(found.tpot[rest] * factors.tpot / data.tpot[rest] - 1.0))


def accuracy(data: Measured, progress: Callable[[str], None]) -> list[Result]:
    left = nested(data, progress)
    x, t = np.abs(left.tpot / data.tpot - 1.0), np.abs(left.ttft / data.ttft - 1.0)
    picked = decide(data, left.tpot_range[2], left.rate)
    return results(
        ("TPOT error, median", 100 * np.median(x), "%", 7.0),
        ("TPOT error, mean", 100 * x.mean(), "%", None),
        ("TPOT error, p90", 100 * np.percentile(x, 90), "%", 17.0),
        ("TTFT error, median", 100 * np.median(t), "%", 22.0),
        ("TTFT error, mean", 100 * t.mean(), "%", None),
        ("TTFT error, p90", 100 * np.percentile(t, 90), "%", None),
        ("TPOT error after 3 observed points, median", 100 * np.median(left.observed_tpot), "%", 5.0),
        ("TPOT interval of 90 %, rows inside", 100 * _inside(data.tpot, left.tpot_range), "%", (85.0, 95.0)),
        ("TTFT interval of 90 %, rows inside", 100 * _inside(data.ttft, left.ttft_range), "%", (85.0, 95.0)),
        ("decision score", picked.score, "", (0.89, 1.0)),
        ("SLO-breaking picks", 100 * picked.broken, "%", 4.0),
        ("decision problems", picked.problems, "", None),
    )


def _inside(measured: Floats, band: tuple[Floats, Floats, Floats]) -> float:
    return float(np.mean((measured >= band[0]) & (measured <= band[1])))
