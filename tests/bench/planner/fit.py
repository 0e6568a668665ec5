"""Fits the engines' coefficients: few, physical, shared, with priors and a loss that outliers do not rule.

Every coefficient is positive and fitted as the logarithm of its ratio to a prior value, with a normal prior of the
width below: prior values are orders of magnitude from what the coefficient stands for, widths what is plausible.
Engines share each coefficient up to a narrow deviation of their own (partial pooling). Residuals are logarithms with
Student's t of three degrees of freedom; groups of (model, GPU) with many rows count by a power below one, and all rows
of the file weigh as much as a few dozen independent ones, because rows of one run share their errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from scipy.optimize import least_squares

from tests.bench.planner.measured import Measured
from trimtab.plan.performance.coefficients import ENGINES, PRIORS, Coefficients, Shared
from trimtab.plan.performance.roofline import Floats

# Widths of the priors in log space.
SHARED: Final = {
    "gemm": 0.03, "experts": 0.06, "exchange": 0.06, "attention": 0.06, "prefill_attention": 0.06,
    "prefill_gemm": 0.06, "nvfp4": 0.07, "fused": 0.4, "unfused": 0.4, "synchronous": 0.3, "synchronous_sequence": 0.3,
    "host_step": 0.4, "prefill_step": 0.3, "lean_host": 0.3,
    "first_share": 0.4, "clump": 0.3, "lockstep": 0.3, "lockstep_tokens": 0.2,
}  # fmt: skip
COMMON: Final = {
    "step": 0.3, "layer": 0.3, "sequence": 0.3, "host": 0.4, "interference": 0.05, "first": 0.5, "burst": 0.25,
    "launch": 0.4,
}  # fmt: skip
OWN: Final = {"layer": 0.10, "host": 0.4, "interference": 0.04, "first": 0.6, "burst": 0.2, "launch": 0.3}

_TPOT_WIDTH: Final = 0.07
_TTFT_WIDTH: Final = 0.25
_TTFT_WEIGHT: Final = 0.15
_FREEDOM: Final = 3.0
_GROUP_POWER: Final = 0.25
_INDEPENDENT: Final = 20.0


def widths() -> Floats:
    return np.array([*SHARED.values(), *COMMON.values(), *(w for _ in ENGINES for w in OWN.values())])


def coefficients_of(z: Floats) -> Coefficients:
    """The coefficients at `z` prior widths from their prior values; zeros are the priors themselves."""
    ratio = np.exp(z * widths())
    shared = dict(zip(SHARED, ratio, strict=False))
    common = dict(zip(COMMON, ratio[len(SHARED) :], strict=False))
    engines = {}
    for number, engine in enumerate(ENGINES):
        start = len(SHARED) + len(COMMON) + number * len(OWN)
        own = dict(zip(OWN, ratio[start:], strict=False))
        prior = PRIORS[engine]
        engines[engine] = replace(
            prior, **{name: getattr(prior, name) * float(common[name] * own.get(name, 1.0)) for name in COMMON}
        )
    prior_shared = Shared()
    return Coefficients(
        shared=replace(prior_shared, **{name: getattr(prior_shared, name) * float(shared[name]) for name in SHARED}),
        engines=engines,
    )


def fit(data: Measured, start: Floats | None = None, evaluations: int = 12) -> Floats:
    """The most probable `z`; same input, same result."""
    counts = Counter(data.group)
    weight = np.array([counts[group] ** -_GROUP_POWER for group in data.group])
    weight = np.sqrt(weight / weight.mean())
    held = np.sqrt(len(data.group) / _INDEPENDENT)

    def residuals(z: Floats) -> Floats:
        tpot, ttft = data.predict(coefficients_of(z))
        steps = _student(np.log(tpot / data.tpot) / _TPOT_WIDTH)
        firsts = np.sqrt(_TTFT_WEIGHT) * _student(np.log(ttft / data.ttft) / _TTFT_WIDTH)
        return np.concatenate([weight * steps, weight * firsts, held * z])

    first = np.zeros(len(widths())) if start is None else start
    return np.asarray(least_squares(residuals, first, diff_step=1e-3, max_nfev=evaluations).x)


def _student(r: Floats) -> Floats:
    """Signed roots of minus twice the log density, so that squares add up to it."""
    return np.sign(r) * np.sqrt((_FREEDOM + 1.0) * np.log1p(r * r / _FREEDOM))


def left_out(data: Measured, start: Floats, progress: Callable[[str], None]) -> dict[str, Floats]:
    """For each group the fit on all others."""
    fits = {}
    for group in sorted(set(data.group)):
        progress(group)
        fits[group] = fit(data.part(data.group != group), start)
    return fits
