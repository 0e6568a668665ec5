"""Can everything be read that a verdict needs?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import ERRORS, Floats
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.policy import LABEL
from trimtab.judge.words import unknown
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.verdict import Verdict


def readable(case: Case) -> Iterator[Verdict]:
    """Unknown for each thing that is missing, stale or no number on either side."""
    history = case.history
    for side, members, reason in (
        ("canary", history.canary, Reason.CANARY_UNREADABLE),
        ("stable", history.stable, Reason.STABLE_UNREADABLE),
    ):
        if not members.any():
            if side == "stable" and _objectives_suffice(case):
                continue
            yield unknown(reason, f"There is no {side} pod whose metrics could be read.")
            return
        if history.looks and history.invalid[-1, members].all():
            yield unknown(Reason.METRICS_INVALID, f"The {side} pods' newest values are no numbers.")
        elif history.looks and not _seen(history.requests()[-1:], members):
            yield unknown(_stale(case, members), _words(case, side, members))
    for latency in Latency:
        yield from _latency(case, latency)
    if ERRORS in history.counters:
        ours, theirs = (_seen(history.counters[ERRORS], side) for side in (history.canary, history.stable))
        if theirs and not ours:
            yield unknown(Reason.CANARY_UNREADABLE, f"The canary has no {ERRORS}, and stable has.{_renamed(case)}")


def _latency(case: Case, latency: Latency) -> Iterator[Verdict]:
    history, label = case.history, LABEL[latency]
    series = history.histograms.get(latency)
    ours, theirs = (
        (False, False) if series is None else (_seen(series.count, history.canary), _seen(series.count, history.stable))
    )
    if theirs and not ours:
        yield unknown(Reason.CANARY_UNREADABLE, f"{label} of the canary cannot be read.{_renamed(case)}")
    elif ours and not theirs and not case.alone:
        yield unknown(Reason.STABLE_UNREADABLE, f"{label} of stable cannot be read.{_renamed(case)}")
    elif not ours and not theirs and case.policy.targets(latency):
        message = f"{label} has an objective and no pod has its histogram.{_renamed(case)}"
        yield unknown(Reason.METRICS_MISSING, message)


def _objectives_suffice(case: Case) -> bool:
    return case.policy.watching or (case.policy.alone and not case.policy.slo.is_empty)


def _seen(values: Floats, members: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> bool:
    return bool(np.isfinite(values[:, members]).any())


def _stale(case: Case, members: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Reason:
    return Reason.METRICS_STALE if _seen(case.history.requests(), members) else Reason.METRICS_MISSING


def _words(case: Case, side: str, members: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    if _stale(case, members) is Reason.METRICS_STALE:
        return f"No {side} pod has a count of requests from this interval: its newest samples are older."
    return f"No {side} pod has a count of requests.{_renamed(case)}"


def _renamed(case: Case) -> str:
    names = case.history.unknown_names
    return f" There are series of other names: {', '.join(names[:3])}." if names else ""
