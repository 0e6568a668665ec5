"""Queues, a promoted revision that serves alone, one stable pod, and a canary that is far better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.judge.traffic import Pod, Traffic, stable
from trimtab.judge import History, Policy, judge_history
from trimtab.judge.replay import looks
from trimtab.model.plan import Metric
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call, Verdict

SLO = Slo((LatencyTarget(Latency.TTFT, 95, 1.0), LatencyTarget(Latency.ITL, 95, 0.060)), max_error_share=0.01)
POLICY = Policy(slo=SLO)
WATCH = replace(POLICY, watching=True)


def decided(history: History, policy: Policy = POLICY) -> tuple[Verdict, int]:
    last = list(looks(history, policy))[-1]
    return last.verdict, last.interval + 1


def beside(canary: Pod, *others: Pod, requests: int = 200, intervals: int = 20) -> History:
    pods = (*(others or stable()), replace(canary, name="c-0", canary=True))
    return Traffic(pods, requests=requests, intervals=intervals).history()


def alone(pod: Pod, requests: int = 200, intervals: int = 8) -> History:
    return Traffic((replace(pod, canary=True),), requests=requests, intervals=intervals).history()


def test_a_queue_that_breaks_the_objective_by_itself_is_bad_in_the_second_interval() -> None:
    # 20 requests end in an interval of 15 s, and 8 wait: 6 s, where 1 s is the objective.
    verdict, after = decided(beside(Pod("", load=0.1, waiting=8.0)))
    assert (verdict.call, verdict.reason, after) == (Call.BAD, Reason.SLO_REGRESSION, 2)
    assert "8 requests wait on the canary, about 6000 ms each; stable 0 ms" in verdict.message


def test_a_queue_of_a_moment_is_no_evidence() -> None:
    once = np.zeros(20)
    once[4] = 30.0
    verdict, _ = decided(beside(Pod("", waiting=once)))
    assert verdict.call is Call.GOOD


def test_a_queue_that_one_stable_pod_has_as_well_is_no_regression() -> None:
    others = tuple(replace(pod, waiting=12.0 if pod.name == "s-2" else 5.0) for pod in stable())
    verdict, _ = decided(beside(Pod("", waiting=20.0), *others))
    assert verdict.call is not Call.BAD


def test_three_waiting_requests_are_few_whatever_the_wait() -> None:
    verdict, _ = decided(beside(Pod("", load=0.05, waiting=3.0), requests=200))
    assert verdict.call is not Call.BAD, verdict.message


def test_without_an_objective_a_queue_is_measured_by_what_stable_takes() -> None:
    found = beside(Pod("", load=0.1, waiting=8.0))
    e2e = found.histograms[Latency.TTFT]
    with_e2e = replace(found, histograms={**found.histograms, Latency.E2E: e2e})
    verdict, _ = decided(with_e2e, Policy())
    assert (verdict.call, verdict.reason) == (Call.BAD, Reason.WORSE_THAN_STABLE)


def test_a_far_better_canary_is_good_though_stable_breaks_the_objective() -> None:
    slow = tuple(replace(pod, ttft=9.0, itl=1.4, waiting=20.0) for pod in stable(0.95, 1.05))
    verdict, after = decided(
        beside(Pod("", ttft=0.5, itl=0.9), *slow, requests=30), replace(POLICY, minimum_requests=20)
    )
    assert verdict.call is Call.GOOD, verdict.message
    assert after <= 14
    assert verdict.evidence["canary.ttft.p95"] < verdict.evidence["stable.ttft.p95"] / 5
    assert verdict.evidence["canary.ttft.mean"] < verdict.evidence["stable.ttft.mean"] / 5


ONE: Mapping[str, tuple[Pod, Call]] = {
    "equal is Good": (Pod(""), Call.GOOD),
    "a little slower, inside of the margins, is Good": (Pod("", itl=1.02, ttft=1.04), Call.GOOD),
    "clearly faster is Good": (Pod("", itl=0.7, ttft=0.7), Call.GOOD),
    "beyond the margin, and not beyond what two pods differ by, is Unknown": (Pod("", itl=1.15), Call.UNKNOWN),
    "three times slower is Bad": (Pod("", itl=2.8), Call.BAD),
}


@pytest.mark.parametrize(("canary", "call"), ONE.values(), ids=ONE.keys())
def test_beside_one_stable_pod(canary: Pod, call: Call) -> None:
    verdict, _ = decided(beside(canary, *stable(1.0), intervals=40), Policy())
    assert verdict.call is call, verdict.message


def test_beside_two_stable_pods_a_gain_that_is_declared_as_a_trade_elsewhere_is_good() -> None:
    verdict, _ = decided(
        beside(Pod("", itl=1.6, ttft=0.5), *stable(0.98, 1.02)), replace(POLICY, trades=frozenset({Metric.ITL}))
    )
    assert verdict.call is Call.GOOD, verdict.message


def test_a_promoted_revision_that_keeps_its_objectives_is_good_after_its_warm_up() -> None:
    verdict, after = decided(alone(Pod("p-0")), WATCH)
    assert (verdict.call, verdict.reason, after) == (Call.GOOD, Reason.WITHIN_SLO, 2)


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (Pod("p-0", ttft=12.0), "TTFT above 1000 ms"),
        (Pod("p-0", errors=0.6), "requests failed in one interval"),
        (Pod("p-0", load=0.1, waiting=8.0), "requests wait"),
    ],
)
def test_a_promoted_revision_that_breaks_its_objectives_grossly_is_bad_within_three_intervals(
    pod: Pod, words: str
) -> None:
    found = alone(pod)
    calls = [judge_history(found.until(look), WATCH) for look in (1, 2, 3)]
    worst = [verdict for verdict in calls if verdict.call is Call.BAD]
    assert worst, calls
    assert words in worst[0].message


def test_what_stable_broke_during_the_trial_is_no_regression_of_the_promoted_revision() -> None:
    worn = tuple(replace(pod, ttft=12.0, errors=0.4, waiting=40.0, load=0.2) for pod in stable())
    promoting = judge_history(beside(Pod("", ttft=8.0, errors=0.3, waiting=20.0, load=0.2), *worn), POLICY)
    assert promoting.call is not Call.BAD, promoting.message
    later = alone(Pod("p-0", ttft=8.0, errors=0.3, waiting=20.0, load=0.2))
    assert judge_history(later, replace(WATCH, before=promoting.evidence)).call is not Call.BAD
    assert judge_history(later, WATCH).call is Call.BAD


def test_a_promoted_revision_that_misses_its_throughput_while_requests_wait_is_bad() -> None:
    slo = Slo((), None, 2000.0)  # 200 requests of 50 tokens in 15 s are 667 tokens a second
    asked = replace(WATCH, slo=slo)
    verdict = judge_history(alone(Pod("p-0", waiting=3.0)), asked)
    assert (verdict.call, verdict.reason) == (Call.BAD, Reason.SLO_REGRESSION)
    assert "667 output tokens/s, the objective is 2000" in verdict.message
    demand = judge_history(alone(Pod("p-0")), asked)
    assert demand.call is not Call.BAD, "without waiting requests it is demand that is missing"


def test_throughput_is_not_asked_of_a_canary() -> None:
    slo = replace(SLO, min_output_tokens_per_second=1e6)
    assert decided(beside(Pod("", waiting=3.0)), Policy(slo=slo))[0].call is Call.GOOD


def test_the_repair_of_a_service_that_is_down_is_judged_by_its_objectives() -> None:
    repaired = alone(Pod("c-0"), intervals=20)
    assert decided(repaired, replace(POLICY, alone=True))[0].call is Call.GOOD
    assert decided(repaired, Policy(alone=True))[0].reason is Reason.STABLE_UNREADABLE
    assert decided(alone(Pod("c-0", ttft=12.0)), replace(POLICY, alone=True))[0].call is Call.BAD
