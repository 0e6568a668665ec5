"""What configurations will do under a traffic, with intervals, for many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.performance import tails
from trimtab.plan.performance.batch import Batch, batch_of
from trimtab.plan.performance.closed_loop import Loop, Room, closed_loop, room
from trimtab.plan.performance.coefficients import Coefficients, shipped
from trimtab.plan.performance.open_loop import open_loop
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.step import Steps
from trimtab.plan.performance.tails import Latency
from trimtab.plan.point import ServingPoint, Traffic


@dataclass(frozen=True, slots=True)
class Correction:
    """What observations say of the model's error, per question: factors on the mean, and the log error left.

    `width` is the log standard deviation left, over that without any observation: 1 changes no interval.
    """

    tpot: Floats
    ttft: Floats
    tpot_width: Floats
    ttft_width: Floats


@dataclass(frozen=True, slots=True)
class Range:
    """Milliseconds: 90 of 100 means lie between `low` and `high`; `upper` is what an SLO is held against."""

    low: Floats
    high: Floats
    upper: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One entry per question. Latencies in milliseconds, rates per second and replica.

    Percentiles come from the means by the mechanisms in `tails`; relative errors of a mean apply to them as well.
    """

    ttft: Latency
    itl: Latency
    e2e: Latency
    tpot: Floats
    tpot_range: Range
    ttft_range: Range
    output_tokens: Floats  # per second
    output_tokens_range: tuple[Floats, Floats]
    requests: Floats  # per second
    running: Floats
    kv_use: Floats  # share of the KV cache
    most_requests: Floats  # per second, that can be served
    saturated: NDArray[np.bool_]  # an open loop that brings more than that
    fits: NDArray[np.bool_]  # the KV cache holds at least one request
    gpus: Floats


def forecast(
    points: Sequence[ServingPoint],
    traffic: Sequence[Traffic],
    *,
    coefficients: Coefficients | None = None,
    correction: Correction | None = None,
) -> Forecast:
    """Predicts every pair of point and traffic. Same input, same bytes.

    Raises ValueError for a traffic that is neither closed nor open, a length below one, or a device whose rates are not
    known; the sentence says which and what to do.
    """
    _check(points, traffic)
    batch = batch_of(points, traffic)
    steps = Steps(batch, coefficients or shipped())
    space = room(batch)
    opened = ~np.isnan(batch.rate)
    loop, most, saturated = _loop(steps, space, opened)
    return _bounded(steps, space, loop, most, saturated, correction)


def _check(points: Sequence[ServingPoint], traffic: Sequence[Traffic]) -> None:
    if len(points) != len(traffic):
        raise ValueError(f"{len(points)} points and {len(traffic)} kinds of traffic; one of each is a question.")
    for t in traffic:
        if (t.concurrency is None) == (t.rate is None):
            raise ValueError("traffic: set either concurrency (closed loop) or rate (open loop).")
        if not (t.prompt >= 1 and t.output >= 1 and (t.concurrency or t.rate or 0) > 0):
            raise ValueError("traffic: prompt and output are 1 token or more, concurrency or rate above 0.")


def _loop(steps: Steps, space: Room, opened: NDArray[np.bool_]) -> tuple[Loop, Floats, NDArray[np.bool_]]:
    """The loop, the rate that can be served, and where that is not enough."""
    batch = steps.batch
    if not opened.any():
        loop = closed_loop(steps, batch.clients, space.admitted)
        endless = 1e3 * loop.running / loop.cycle
        return loop, endless, np.zeros(len(endless), bool)
    found = open_loop(steps, np.where(opened, batch.rate, 1e-6), space.admitted)
    if opened.all():
        return found.loop, found.most, found.saturated
    closed = closed_loop(steps, np.where(opened, 1.0, batch.clients), space.admitted)
    mixed = Loop(
        **{
            name: np.where(opened, getattr(found.loop, name), getattr(closed, name))
            for name in Loop.__dataclass_fields__
        }
    )
    most = np.where(opened, found.most, 1e3 * closed.running / closed.cycle)
    return mixed, most, opened & found.saturated


def _bounded(
    steps: Steps,
    space: Room,
    loop: Loop,
    most: Floats,
    saturated: NDArray[np.bool_],
    correction: Correction | None,
) -> Forecast:
    batch = steps.batch
    context = batch.prompt + batch.output / 2.0
    least_tpot = steps.bound(loop.decoding, context) / steps.tokens_per_step
    first, between = tails.ttft(steps, loop), tails.itl(steps, loop)
    factor_x = np.ones_like(loop.tpot) if correction is None else correction.tpot
    factor_t = np.ones_like(loop.tpot) if correction is None else correction.ttft
    tpot = np.maximum(loop.tpot * factor_x, least_tpot)
    ttft = _scaled(first, factor_t, steps.prefill_bound)
    itl = _scaled(between, factor_x, least_tpot)
    loop = Loop(**{n: getattr(loop, n) for n in Loop.__dataclass_fields__} | {"tpot": tpot})
    tpot_range = _range(batch, steps.coefficients, "tpot", tpot, least_tpot, correction)
    ttft_range = _range(batch, steps.coefficients, "ttft", ttft.mean, steps.prefill_bound, correction)
    requests = _requests(batch, loop, ttft.mean, most)
    return Forecast(
        ttft=ttft,
        itl=itl,
        e2e=tails.e2e(steps, loop, ttft),
        tpot=tpot,
        tpot_range=tpot_range,
        ttft_range=ttft_range,
        output_tokens=requests * batch.output,
        output_tokens_range=(
            _requests(batch, loop, ttft_range.high, most, tpot_range.high) * batch.output,
            _requests(batch, loop, ttft_range.low, most, tpot_range.low) * batch.output,
        ),
        requests=requests,
        running=loop.running,
        kv_use=np.minimum(1.0, loop.running / space.cached),
        most_requests=most,
        saturated=saturated,
        fits=space.fits,
        gpus=batch.each("gpus"),
    )


def _scaled(latency: Latency, factor: Floats, least: Floats) -> Latency:
    return Latency(
        *(np.maximum(level * factor, least) for level in (latency.mean, latency.p50, latency.p95, latency.p99))
    )


def _requests(batch: Batch, loop: Loop, ttft: Floats, most: Floats, tpot: Floats | None = None) -> Floats:
    """Per second: what a closed loop comes to, or what arrives, as far as it can be served."""
    each = ttft + np.maximum(batch.output - 1.0, 0.0) * (loop.tpot if tpot is None else tpot)
    return np.where(np.isnan(batch.rate), 1e3 * batch.clients / each, np.fmin(batch.rate, most))


def _range(
    batch: Batch, coefficients: Coefficients, metric: str, mean: Floats, least: Floats, correction: Correction | None
) -> Range:
    spreads = [coefficients.spreads[f"{variant.kind}/{metric}"] for variant in batch.variants]
    width = 1.0 if correction is None else getattr(correction, f"{metric}_width")
    low, high, upper = (
        mean * np.exp(np.array([getattr(spread, side) for spread in spreads])[batch.of] * width)
        for side in ("low", "high", "upper")
    )
    return Range(low=np.maximum(low, np.minimum(least, mean)), high=high, upper=upper)
