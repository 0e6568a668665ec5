"""What the judge says, case by case: each row is a sentence."""

from __future__ import annotations

import random

import pytest

from tests.unit.judge.views import SLO, Answers, asked, pods_with
from trimtab.judge import JudgeRequest, judge
from trimtab.model.plan import Metric
from trimtab.model.reading import Known, Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call

NO_SLO = Slo()
TIGHT = Slo((LatencyTarget(Latency.TTFT, 95, 0.2),), 0.01)
STABLE = Answers(requests=120, pods=2)
TRADES = frozenset({Metric.ITL})
FIRST = {"requests": 10, "window": 15.0}
STABLE_FIRST = Answers(requests=20, pods=2, window=15.0)

GOOD, BAD, UNKNOWN = Call.GOOD, Call.BAD, Call.UNKNOWN

CASES = {
    "an equal canary within the objectives is Good": (asked(Answers()), GOOD, Reason.WITHIN_SLO),
    "an equal canary without objectives is Good by comparison": (
        asked(Answers(), slo=NO_SLO),
        GOOD,
        Reason.NOT_WORSE_THAN_STABLE,
    ),
    "objectives alone decide while stable cannot be read": (asked(Answers(), None), GOOD, Reason.WITHIN_SLO),
    "without objectives and without stable nothing can be said": (
        asked(Answers(), None, slo=NO_SLO),
        UNKNOWN,
        Reason.STABLE_UNREADABLE,
    ),
    "nine requests of thirty are too few": (asked(Answers(requests=9)), UNKNOWN, Reason.TOO_FEW_SAMPLES),
    "a canary without traffic is never Good": (asked(Answers(requests=0, running=0.0)), UNKNOWN, Reason.NO_TRAFFIC),
    "far beyond the objective is Bad in the first interval": (
        asked(Answers(ttft=3.0, requests=10, window=15.0), STABLE_FIRST),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "three slow requests are not yet evidence": (
        asked(Answers(ttft=3.0, requests=3, window=15.0), STABLE_FIRST),
        UNKNOWN,
        Reason.TOO_FEW_SAMPLES,
    ),
    "a slow tail beyond doubt is Bad, though the mean is fine": (
        asked(Answers(requests=200, slow=40), Answers(requests=400, pods=2)),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "a share a little above the allowed one is too close to call": (
        asked(Answers(requests=60, slow=5)),
        UNKNOWN,
        Reason.TOO_FEW_SAMPLES,
    ),
    "the objective at the tail is kept with fewer than the allowed share above it": (
        asked(Answers(requests=100, slow=3)),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "an error burst is Bad in the first interval": (
        asked(Answers(errors=4, requests=10, window=15.0), STABLE_FIRST),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "a canary that answers with errors only is Bad": (
        asked(Answers(errors=6, requests=6, window=15.0), STABLE_FIRST),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "an error burst is Bad by comparison where there is no objective": (
        asked(Answers(errors=20), slo=NO_SLO),
        BAD,
        Reason.WORSE_THAN_STABLE,
    ),
    "an error burst is Bad without objective and without stable": (
        asked(Answers(errors=20), None, slo=NO_SLO),
        BAD,
        Reason.WORSE_THAN_STABLE,
    ),
    "one error in thirty is too close to call": (
        asked(Answers(requests=30, errors=1)),
        UNKNOWN,
        Reason.TOO_FEW_SAMPLES,
    ),
    "errors no more than stable's are no regression, though both break the objective": (
        asked(Answers(requests=100, errors=10), Answers(requests=200, errors=24, pods=2)),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "errors count also where latencies are traded": (
        asked(Answers(errors=20), trades=frozenset({Metric.ITL, Metric.TTFT, Metric.E2E})),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "a grossly slower token rate is Bad, though the objective is kept": (
        asked(Answers(itl=0.1)),
        BAD,
        Reason.WORSE_THAN_STABLE,
    ),
    "the same is Good where the plan trades it and the objective has headroom": (
        asked(Answers(itl=0.07), trades=frozenset({Metric.ITL, Metric.E2E})),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "a traded metric without headroom is not Good": (
        asked(
            Answers(itl=0.11),
            slo=Slo((LatencyTarget(Latency.ITL, 95, 0.153),)),
            trades=frozenset({Metric.ITL, Metric.E2E}),
        ),
        UNKNOWN,
        Reason.TOO_FEW_SAMPLES,
    ),
    "a traded metric beyond its objective is Bad": (
        asked(Answers(itl=0.4), trades=frozenset({Metric.ITL, Metric.E2E})),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "identical pods that differ by a quarter are no regression": (
        asked(Answers(itl=0.05, ttft=0.38)),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "a difference between the margins cannot be told from the pods' own": (
        asked(Answers(itl=0.058), slo=NO_SLO),
        UNKNOWN,
        Reason.TOO_FEW_SAMPLES,
    ),
    "a better canary is Good, though it breaks the objective as stable does": (
        asked(Answers(ttft=1.2), Answers(requests=120, ttft=8.0, pods=2)),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "an equal canary is Good, though it breaks the objective as stable does": (
        asked(Answers(ttft=1.2), Answers(requests=120, ttft=1.2, pods=2)),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "a canary that breaks the objective more than stable does is Bad": (
        asked(Answers(ttft=0.8, requests=200), Answers(requests=400, slow=60, pods=2)),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "a canary that finishes far more than a saturated stable is Good": (
        asked(Answers(requests=100), Answers(requests=20, ttft=8.0, waiting=30, pods=2)),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "slower under more load is not comparable": (
        asked(Answers(requests=240, ttft=0.3, itl=0.1), STABLE, slo=NO_SLO),
        UNKNOWN,
        Reason.UNEQUAL_LOAD,
    ),
    "as fast under less load is not comparable": (
        asked(Answers(requests=40), Answers(requests=400, pods=2), slo=NO_SLO),
        UNKNOWN,
        Reason.UNEQUAL_LOAD,
    ),
    "the router's share counts, not the number of finished requests": (
        asked(Answers(requests=40), Answers(requests=400, pods=2), slo=NO_SLO, canary_share=1 / 3),
        GOOD,
        Reason.NOT_WORSE_THAN_STABLE,
    ),
    "a growing queue is Bad before slow first tokens are seen": (
        asked(Answers(requests=4, waiting=20.0, window=15.0), STABLE_FIRST),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "a queue that stable has as well is no regression": (
        asked(Answers(requests=60, waiting=20.0), Answers(requests=120, waiting=50.0, pods=2)),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "a queue is Bad by comparison where there is no objective": (
        asked(Answers(requests=30, waiting=30.0), slo=NO_SLO),
        BAD,
        Reason.WORSE_THAN_STABLE,
    ),
    "a moment's queue of three is no evidence": (asked(Answers(waiting=3.0)), GOOD, Reason.WITHIN_SLO),
    "requests that run and never end are Bad": (
        asked(Answers(requests=0, running=20.0)),
        BAD,
        Reason.WORSE_THAN_STABLE,
    ),
    "a promoted revision is judged by its objectives alone": (
        asked(Answers(requests=180, pods=2), None, watching=True),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "a promoted revision that misses its throughput while requests wait is Bad": (
        asked(Answers(requests=60, waiting=9.0), None, slo=Slo((), 0.01, 100.0), watching=True),
        BAD,
        Reason.SLO_REGRESSION,
    ),
    "missing throughput without waiting requests is missing demand": (
        asked(Answers(requests=60), None, slo=Slo((), 0.01, 100.0), watching=True),
        GOOD,
        Reason.WITHIN_SLO,
    ),
    "no metrics at all decide nothing": (
        asked(Answers(ttft=9.0), metrics=Unknown(Why.TIMEOUT, "Prometheus did not answer within 10 s.")),
        UNKNOWN,
        Reason.PROMETHEUS_TIMEOUT,
    ),
}


@pytest.mark.parametrize(("request_", "call", "reason"), CASES.values(), ids=CASES.keys())
def test_a_case(request_: JudgeRequest, call: Call, reason: Reason) -> None:
    verdict = judge(request_)
    assert (verdict.call, verdict.reason) == (call, reason), verdict.message
    assert verdict.message.endswith(".")


@pytest.mark.parametrize("metric", ["ttft", "itl", "error_rate", "waiting"])
def test_an_unreadable_metric_of_the_canary_is_unknown_and_named(metric: str) -> None:
    verdict = judge(asked(Answers(unreadable=(metric,))))
    assert (verdict.call, verdict.reason) == (UNKNOWN, Reason.CANARY_UNREADABLE)
    assert "Stale" in verdict.message and "90 s old" in verdict.message


def test_a_metric_that_the_engine_does_not_export_is_left_out_of_the_comparison_but_not_of_an_objective() -> None:
    absent = Unknown(Why.NOT_EXPORTED, "TGI has no such metric.")
    canary, stable = (
        Answers(unreadable=("ttft",), why=absent),
        Answers(requests=120, pods=2, unreadable=("ttft",), why=absent),
    )
    assert judge(asked(canary, stable, slo=NO_SLO)).call is GOOD
    assert judge(asked(canary, stable)).call is UNKNOWN


def test_the_message_of_a_bad_verdict_holds_the_numbers_and_the_evidence_too() -> None:
    verdict = judge(asked(Answers(ttft=3.0, requests=12, window=15.0), STABLE_FIRST))
    assert "TTFT p95 objective 600 ms: 100 % of 12 requests above it, 5 % allowed" in verdict.message
    assert verdict.evidence["canary.ttft.p95.shareAbove"] == pytest.approx(1.0)
    assert verdict.evidence["stable.ttft.p95"] < 0.6 < verdict.evidence["canary.ttft.p95"]


def test_a_known_absence_of_errors_is_no_errors() -> None:
    canary = asked(Answers()).canary
    assert isinstance(canary.pods[0].metrics.error_rate, Known)
    assert judge(asked(Answers())).evidence["canary.errorShare"] == 0.0


def _look(seed: int, slower: float, looks: int, per_look: int) -> list[Call]:
    """A trial of one canary beside two stable pods of shared CPUs, looked at after every interval."""
    random_ = random.Random(seed)
    nature = [random_.lognormvariate(0.0, 0.12) for _ in range(3)]
    seen: list[list[tuple[float, float]]] = [[], [], []]
    calls = []
    for look in range(1, looks + 1):
        load = random_.uniform(0.7, 1.4)
        for pod in range(3):
            factor = nature[pod] * (slower if pod == 2 else 1.0)
            for _ in range(per_look):
                ttft = 0.25 * factor * load * random_.lognormvariate(0.0, 0.5)
                seen[pod].append((ttft, 0.04 * factor * random_.lognormvariate(0.0, 0.15)))
        window = 15.0 * look
        request = JudgeRequest(
            stable=pods_with("stable", seen[:2], window),
            canary=pods_with("canary", seen[2:], window),
            slo=NO_SLO,
            elapsed=window,
        )
        calls.append(judge(request).call)
    return calls


def test_an_unchanged_canary_on_shared_cpus_is_practically_never_called_bad() -> None:
    bad = sum(Call.BAD in _look(seed, 1.0, looks=20, per_look=8) for seed in range(150))
    assert bad <= 1


def test_a_canary_three_times_as_slow_is_called_bad_within_six_intervals() -> None:
    found = sum(Call.BAD in _look(seed, 3.0, looks=6, per_look=8) for seed in range(60))
    assert found >= 59


def test_what_stable_broke_during_the_trial_is_no_regression_of_the_promoted_revision() -> None:
    worn = Answers(requests=200, errors=20, ttft=1.2, waiting=50.0, pods=2)
    canary = Answers(requests=100, errors=9, ttft=1.1, waiting=20.0)
    promoting = judge(asked(canary, worn))
    assert promoting.call is GOOD, promoting.message
    watched = Answers(requests=300, errors=27, ttft=1.1, waiting=40.0, pods=2)
    assert judge(asked(watched, None, watching=True, before=promoting.evidence)).call is GOOD
    assert judge(asked(watched, None, watching=True)).call is BAD


@pytest.mark.parametrize("slo", [SLO, TIGHT], ids=["kept", "tight"])
def test_judging_twice_gives_the_same_verdict(slo: Slo) -> None:
    request = asked(Answers(slow=2), slo=slo)
    assert judge(request) == judge(request)
