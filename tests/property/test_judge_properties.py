"""Properties of the judge: it is total, more harm never helps, and what is not known never passes."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.judge.views import GONE, SLO, Answers, asked
from trimtab.judge import judge
from trimtab.model.plan import Metric
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.slo import Slo
from trimtab.model.verdict import Call

_HARM = {Call.GOOD: 0, Call.UNKNOWN: 1, Call.BAD: 2}

_answers = st.builds(
    Answers,
    requests=st.integers(0, 150),
    ttft=st.sampled_from([0.05, 0.3, 0.5, 0.7, 2.0]),
    itl=st.sampled_from([0.02, 0.04, 0.06, 0.2]),
    slow=st.integers(0, 10),
    running=st.sampled_from([0.0, 2.0, 20.0]),
    waiting=st.sampled_from([0.0, 3.0, 30.0]),
    pods=st.integers(1, 3),
    window=st.sampled_from([15.0, 60.0, 600.0]),
)
_slos = st.sampled_from([SLO, Slo(), replace(SLO, max_error_share=None), Slo((), 0.05, 100.0)])
_trades = st.frozensets(st.sampled_from(list(Metric)))
_metrics = ["ttft", "itl", "e2e", "request_rate", "error_rate", "running", "waiting"]


@settings(max_examples=300, deadline=None)
@given(
    canary=_answers,
    stable=st.none() | _answers,
    slo=_slos,
    trades=_trades,
    watching=st.booleans(),
    lost=st.lists(st.sampled_from(_metrics), max_size=7),
    why=st.sampled_from(Why),
    lost_of_stable=st.lists(st.sampled_from(_metrics), max_size=7),
)
def test_the_judge_is_total_and_its_evidence_finite(
    canary: Answers,
    stable: Answers | None,
    slo: Slo,
    trades: frozenset[Metric],
    watching: bool,
    lost: list[str],
    why: Why,
    lost_of_stable: list[str],
) -> None:
    canary = replace(canary, unreadable=tuple(lost), why=Unknown(why))
    if stable is not None:
        stable = replace(stable, unreadable=tuple(lost_of_stable))
    request = asked(canary, stable, slo, trades=trades, watching=watching)
    verdict = judge(request)
    assert verdict.message
    assert all(math.isfinite(value) for value in verdict.evidence.values())
    assert judge(request) == verdict


@settings(max_examples=300, deadline=None)
@given(canary=_answers, stable=st.none() | _answers, slo=_slos, trades=_trades, errors=st.integers(0, 150))
def test_more_errors_never_turn_bad_into_good(
    canary: Answers, stable: Answers | None, slo: Slo, trades: frozenset[Metric], errors: int
) -> None:
    """The same requests with the same latencies; only the number of them that failed grows."""
    few = asked(canary, stable, slo, trades=trades)
    pods = tuple(
        replace(pod, metrics=replace(pod.metrics, error_rate=_more(pod.metrics.error_rate, errors / canary.window)))
        for pod in few.canary.pods
    )
    many = replace(few, canary=replace(few.canary, pods=pods))
    before, after = judge(few), judge(many)
    assert _HARM[after.call] >= _HARM[before.call]


@settings(max_examples=300, deadline=None)
@given(
    canary=_answers,
    stable=_answers,
    slo=_slos,
    lost=st.sampled_from(["ttft", "itl", "error_rate", "waiting"]),
    why=st.sampled_from([why for why in Why if why is not Why.NOT_EXPORTED]),
)
def test_an_unknown_reading_of_the_canary_is_never_good(
    canary: Answers, stable: Answers, slo: Slo, lost: str, why: Why
) -> None:
    blind = replace(canary, unreadable=(lost,), why=Unknown(why))
    if lost in ("ttft", "itl") and not slo.latencies and stable.requests == 0:
        return  # nothing would have been asked of this reading
    assert judge(asked(blind, stable, slo)).call is not Call.GOOD


@settings(max_examples=200, deadline=None)
@given(canary=_answers, stable=_answers, slo=_slos, why=st.sampled_from(Why))
def test_nothing_is_decided_without_metrics(canary: Answers, stable: Answers, slo: Slo, why: Why) -> None:
    assert judge(asked(canary, stable, slo, metrics=Unknown(why))).call is Call.UNKNOWN
    everything = replace(canary, unreadable=tuple(_metrics), why=GONE)
    assert judge(asked(everything, stable, slo)).call is Call.UNKNOWN


@settings(max_examples=200, deadline=None)
@given(canary=_answers, slo=_slos, window=st.sampled_from([15.0, 60.0]))
def test_a_canary_without_traffic_is_never_good(canary: Answers, slo: Slo, window: float) -> None:
    idle = replace(canary, requests=0, slow=0, window=window)
    assert judge(asked(idle, Answers(requests=100), slo)).call is not Call.GOOD


@settings(max_examples=200, deadline=None)
@given(canary=_answers, stable=_answers, more=st.integers(1, 60))
def test_more_slow_answers_never_turn_bad_into_good(canary: Answers, stable: Answers, more: int) -> None:
    before = judge(asked(canary, stable))
    after = judge(asked(replace(canary, slow=canary.slow + more), stable))
    assert not (before.call is Call.BAD and after.call is Call.GOOD)


def _more(reading: Reading[float], rate: float) -> Reading[float]:
    return Known(reading.value + rate, reading.window, reading.samples) if isinstance(reading, Known) else reading
