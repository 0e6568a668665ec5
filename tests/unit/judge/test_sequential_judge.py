"""What the sequential judge says of plain canaries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.judge.traffic import INTERVAL, Pod, Traffic, stable
from trimtab.judge.history import Floats, History
from trimtab.judge.samples import PodSamples, Samples, history_of
from trimtab.judge.sequential import Policy, judge_history
from trimtab.model.plan import Metric
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call, Verdict

SLO = Slo((LatencyTarget(Latency.TTFT, 95, 1.0), LatencyTarget(Latency.ITL, 95, 0.075)))
POLICY = Policy(slo=SLO)


def traffic(canary: Pod, *, intervals: int = 20, requests: int = 200) -> Traffic:
    return Traffic((*stable(), replace(canary, name="c-0", canary=True)), intervals=intervals, requests=requests)


def decided(history: History, policy: Policy = POLICY) -> tuple[Verdict, int]:
    """The first Good or Bad and after how many intervals; or the last Unknown."""
    for looks in range(1, history.looks + 1):
        verdict = judge_history(history.until(looks), policy)
        if verdict.call is not Call.UNKNOWN:
            return verdict, looks
    return verdict, history.looks


def between(first: int, last: int, value: float, *, intervals: int = 20, usual: float = 1.0) -> Floats:
    values = np.full(intervals, usual)
    values[first:last] = value
    return values


def test_a_canary_like_stable_is_good_with_the_numbers_that_say_so() -> None:
    verdict, looks = decided(traffic(Pod("")).history())
    assert verdict.call is Call.GOOD and verdict.reason is Reason.WITHIN_SLO
    assert looks <= 15
    assert verdict.evidence["itl.ratio"] == pytest.approx(1.0, abs=0.02)
    assert "ITL is 1.0" in verdict.message


@pytest.mark.parametrize(
    ("canary", "latest"),
    [
        (Pod("", itl=1.2), 10),
        (Pod("", ttft=1.5), 10),
        (Pod("", ttft=2.0), 3),
        (Pod("", itl=5.0), 3),
        (Pod("", errors=0.05), 10),
        (Pod("", preemptions=2.0), 8),
    ],
    ids=["ITL 20 %", "TTFT 50 %", "TTFT twice", "ITL far beyond the SLO", "errors 5 %", "preemptions"],
)
def test_a_worse_canary_is_bad_soon(canary: Pod, latest: int) -> None:
    verdict, looks = decided(traffic(canary).history())
    assert verdict.call is Call.BAD
    assert looks <= latest


def test_worse_within_the_slo_is_bad_and_says_how_much_worse() -> None:
    verdict, _ = decided(traffic(Pod("", itl=1.2)).history())
    assert verdict.reason is Reason.WORSE_THAN_STABLE
    assert verdict.evidence["itl.ratio"] == pytest.approx(1.2, abs=0.02)
    assert verdict.message.startswith("ITL is 1.")


def test_a_wider_margin_lets_the_same_canary_pass() -> None:
    wide = replace(POLICY, margins={Latency.ITL: 0.5})
    assert decided(traffic(Pod("", itl=1.2)).history(), wide)[0].call is Call.GOOD


def test_the_fast_path_does_not_overtake_a_wide_margin() -> None:
    slower = traffic(Pod("", ttft=1.5)).history()
    assert decided(slower)[0].call is Call.BAD
    assert decided(slower, replace(POLICY, margins={Latency.TTFT: 0.8}))[0].call is not Call.BAD


def test_a_traded_metric_is_judged_by_its_slo_alone() -> None:
    trade = replace(POLICY, trades=frozenset({Metric.ITL}))
    verdict, _ = decided(traffic(Pod("", itl=2.0, ttft=0.5)).history(), trade)
    assert verdict.call is Call.GOOD
    verdict, looks = decided(traffic(Pod("", itl=6.0)).history(), trade)
    assert (verdict.call, verdict.reason) == (Call.BAD, Reason.SLO_REGRESSION)
    assert looks <= 2


def test_a_traded_metric_without_headroom_is_not_good() -> None:
    tight = Policy(slo=Slo((LatencyTarget(Latency.ITL, 95, 0.05),)), trades=frozenset({Metric.ITL}))
    verdict, _ = decided(traffic(Pod("", itl=1.75)).history(), tight)
    assert verdict.call is Call.UNKNOWN


def test_an_objective_that_stable_breaks_as_much_is_no_regression() -> None:
    impossible = Policy(slo=Slo((LatencyTarget(Latency.TTFT, 95, 0.25),)))
    verdict, _ = decided(traffic(Pod("")).history(), impossible)
    assert verdict.call is Call.GOOD
    assert "TTFT p95 objective 250 ms" in verdict.message


@pytest.mark.parametrize("when", [3, 10])
def test_gross_harm_is_found_in_the_interval_in_which_it_begins(when: int) -> None:
    for canary in (
        Pod("", ttft=between(when, 20, 8.0)),
        Pod("", errors=between(when, 20, 0.4, usual=0.0)),
        Pod("", restarts_in=(when,)),
    ):
        history = traffic(canary).history()
        assert judge_history(history.until(when), POLICY).call is not Call.BAD
        assert judge_history(history.until(when + 1), POLICY).call is Call.BAD


def test_streams_that_are_far_too_slow_are_found_before_any_of_them_ends() -> None:
    streams = [replace(pod, ending=0.02, running=8.0) for pod in (*stable(), Pod("c-0", canary=True, itl=6.0))]
    late = replace(streams[-1], ending=0.0)
    verdict, looks = decided(Traffic((*streams[:-1], late)).history())
    assert (verdict.call, verdict.reason) == (Call.BAD, Reason.SLO_REGRESSION)
    assert looks <= 3


def test_streams_like_stables_are_not_bad_before_they_end() -> None:
    streams = [replace(pod, ending=0.02, running=8.0) for pod in (*stable(), Pod("c-0", canary=True))]
    verdict, _ = decided(Traffic(tuple(streams)).history())
    assert verdict.call is not Call.BAD


def test_a_slow_first_interval_is_warm_up() -> None:
    verdict, _ = decided(traffic(Pod("", ttft=between(0, 1, 10.0), itl=between(0, 1, 2.0))).history())
    assert verdict.call is Call.GOOD


def test_a_slow_minute_of_a_node_is_not_the_canarys_fault() -> None:
    slow = between(6, 10, 1.4, intervals=30)
    verdict, _ = decided(traffic(Pod("", itl=slow, ttft=slow), intervals=30).history())
    assert verdict.call is not Call.BAD


def test_a_slow_minute_of_stable_pods_does_not_hide_a_slow_canary() -> None:
    slow = between(2, 6, 1.5)
    pods = (
        *(replace(pod, itl=pod.itl * slow, ttft=pod.ttft * slow) for pod in stable()[:2]),
        *stable()[2:],
        Pod("c-0", canary=True, itl=1.2),
    )
    assert decided(Traffic(pods).history())[0].call is Call.BAD


def test_where_pods_differ_by_tens_of_per_cent_one_slow_canary_proves_nothing() -> None:
    pods = (*stable(0.85, 0.95, 1.05, 1.2), Pod("c-0", canary=True, itl=1.2, ttft=1.2))
    assert decided(Traffic(pods).history())[0].call is Call.UNKNOWN


def test_one_stable_and_one_canary_pod_tell_gross_failures_only() -> None:
    def pair(canary: Pod) -> Call:
        return decided(Traffic((*stable(1.0), replace(canary, name="c-0", canary=True))).history())[0].call

    assert pair(Pod("", itl=1.2)) is Call.UNKNOWN
    assert pair(Pod("", itl=4.0, ttft=4.0)) is Call.BAD


def test_more_canary_pods_tell_more() -> None:
    spread = (0.93, 0.97, 1.03, 1.07)
    canaries = tuple(Pod(f"c-{n}", canary=True, itl=1.4 * speed, ttft=1.4 * speed) for n, speed in enumerate(spread))
    few, many = Traffic((*stable(*spread), canaries[1])), Traffic((*stable(*spread), *canaries))
    assert decided(few.history())[0].call is Call.UNKNOWN
    assert decided(many.history())[0].call is Call.BAD


def test_a_healthy_canary_that_carries_more_is_not_bad() -> None:
    load = 1.25
    canary = Pod("", load=load, itl=load**0.4, ttft=load**0.8)
    swings = 1 + 0.4 * np.sin(np.arange(20) / 2)
    pods = (*stable(), replace(canary, name="c-0", canary=True))
    pods = tuple(
        replace(pod, load=pod.load * swings, itl=pod.itl * swings**0.4, ttft=pod.ttft * swings**0.8) for pod in pods
    )
    assert decided(Traffic(pods).history())[0].call is not Call.BAD


def test_far_more_load_makes_a_slow_canary_incomparable_and_far_less_a_good_one() -> None:
    heavier, _ = decided(traffic(Pod("", load=2.0, itl=2.2)).history())
    assert (heavier.call, heavier.reason) == (Call.UNKNOWN, Reason.UNEQUAL_LOAD)
    lighter, _ = decided(traffic(Pod("", load=0.4)).history())
    assert (lighter.call, lighter.reason) == (Call.UNKNOWN, Reason.UNEQUAL_LOAD)


def test_a_share_that_is_meant_to_be_small_lets_the_canary_go_on_to_the_next_but_not_to_all() -> None:
    """Five per cent of the traffic, where each of four stable pods has nearly a quarter."""
    for pod, goes_on in ((Pod("", load=0.2), True), (Pod("", load=0.2, itl=1.6, ttft=1.6), False)):
        history = traffic(pod, intervals=60).history()
        on_the_way, _ = decided(history, replace(POLICY, canary_share=0.05, more_to_come=True))
        at_last, _ = decided(history, replace(POLICY, canary_share=0.05))
        assert (on_the_way.call is Call.GOOD) == goes_on, on_the_way
        assert at_last.call is not Call.GOOD
    by_chance, _ = decided(traffic(Pod("", load=0.2)).history(), replace(POLICY, more_to_come=True))
    assert (by_chance.call, by_chance.reason) == (Call.UNKNOWN, Reason.UNEQUAL_LOAD)


def test_the_routers_share_is_believed_before_counts() -> None:
    history = traffic(Pod("", load=0.7)).history()
    assert decided(history, replace(POLICY, canary_share=0.2))[0].call is Call.GOOD


def test_no_traffic_is_unknown_and_traffic_that_stops_is_never_good() -> None:
    verdict, _ = decided(traffic(Pod("", load=0.0, running=0.0)).history())
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.NO_TRAFFIC)
    stopped = traffic(Pod("", load=between(5, 20, 0.0), running=0.0)).history()
    verdict, _ = decided(stopped)
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.NO_TRAFFIC)
    assert "stopped" in verdict.message


def test_requests_that_run_and_never_end_are_bad() -> None:
    verdict, looks = decided(traffic(Pod("", load=between(5, 20, 0.0), running=12.0)).history())
    assert (verdict.call, looks) == (Call.BAD, 6)
    assert "none has ended" in verdict.message


@pytest.mark.parametrize("slipped", [6, 8])
def test_requests_that_no_scrape_has_counted_yet_are_not_taken_for_stuck(slipped: int) -> None:
    """The canary's scrape came a moment after its interval, so the one before stands for it, too."""
    pods = traffic(Pod("", running=12.0)).samples()
    pods[-1] = _scraped_late(pods[-1], slipped)
    looks = [
        judge_history(_history(pods).until(count), replace(POLICY, minimum_requests=10_000)) for count in range(20)
    ]
    assert all(verdict.call is not Call.BAD for verdict in looks), looks[slipped].message
    unsaid = [*pods[:-1], replace(pods[-1], scraped=None)]
    assert "none has ended" in judge_history(_history(unsaid).until(slipped), POLICY).message


def test_requests_that_never_end_are_bad_although_a_scrape_is_late() -> None:
    pods = traffic(Pod("", load=between(5, 20, 0.0), running=12.0)).samples()
    pods[-1] = _scraped_late(pods[-1], 6)
    verdict, looks = decided(_history(pods))
    assert (verdict.call, looks) == (Call.BAD, 7)
    assert "none has ended in 30 s" in verdict.message


def test_what_stable_ended_before_is_not_held_against_the_canary() -> None:
    """Stable's scrapes slip, so that the canary's first idle interval counts stable's requests of two: it is left out,
    and forty have ended on stable after two more.
    """
    canary = Pod("", load=between(5, 20, 0.0), running=12.0)
    pods = traffic(canary, requests=30).samples()
    late = [_scraped_late(pod, 5) for pod in pods[:-1]]
    verdict, looks = decided(_history([*late, pods[-1]]))
    assert (verdict.call, looks) == (Call.BAD, 8)


def _scraped_late(pod: PodSamples, row: int) -> PodSamples:
    """The pod with the scrape before once more in the place of this one."""

    def repeated(samples: Samples) -> Samples:
        values = samples.values.copy()
        values[row] = values[row - 1]
        return replace(samples, values=values)

    times = next(iter(pod.counters.values())).times
    return replace(
        pod,
        histograms={key: repeated(value) for key, value in pod.histograms.items()},
        counters={key: repeated(value) for key, value in pod.counters.items()},
        gauges={key: repeated(value) for key, value in pod.gauges.items()},
        scraped=np.delete(times, row),
    )


def test_too_few_requests_are_unknown_with_the_numbers() -> None:
    verdict, _ = decided(traffic(Pod(""), requests=2).history())
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.TOO_FEW_SAMPLES)
    assert "of 50 requests" in verdict.message


@pytest.mark.parametrize("name", ["itl", "ttft", "errors_total"])
def test_a_metric_that_only_the_canary_lacks_is_unknown(name: str) -> None:
    whole = traffic(Pod(""))
    pods = [*whole.samples()[:-1], replace(whole, left_out=frozenset({name})).samples()[-1]]
    verdict, _ = decided(_history(pods))
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.CANARY_UNREADABLE)


def test_a_metric_that_no_pod_has_is_missing_only_when_it_has_an_objective() -> None:
    bare = replace(traffic(Pod("")), left_out=frozenset({"ttft"}))
    verdict, _ = decided(bare.history())
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.METRICS_MISSING)
    assert decided(bare.history(), Policy())[0].call is Call.GOOD


def test_a_canary_that_is_no_longer_scraped_is_stale() -> None:
    pods = traffic(Pod("")).samples()
    verdict = judge_history(_history([*pods[:-1], _cut(pods[-1], 8)], looks=20), POLICY)
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.METRICS_STALE)


def test_values_that_are_no_numbers_are_unknown() -> None:
    pods = traffic(Pod("")).samples()
    for samples in (*pods[-1].histograms.values(), *pods[-1].counters.values()):
        samples.values[3:] = np.nan
    verdict, _ = decided(_history(pods))
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.METRICS_INVALID)


def test_a_promise_is_kept_when_the_gain_is_measured() -> None:
    promise = replace(POLICY, promises={Latency.TTFT: -0.15})
    verdict, _ = decided(traffic(Pod("", ttft=0.8, waiting=3.0)).history(), promise)
    assert verdict.call is Call.GOOD
    assert "the gain is measured" in verdict.message


def test_a_gain_that_the_load_cannot_show_stays_predicted() -> None:
    promise = replace(POLICY, promises={Latency.TTFT: -0.15})
    verdict, _ = decided(traffic(Pod("")).history(), promise)
    assert verdict.call is Call.GOOD
    assert "stays predicted" in verdict.message


def test_a_promise_that_is_not_kept_under_load_is_unknown() -> None:
    promise = replace(POLICY, promises={Latency.TTFT: -0.15})
    pods = tuple(replace(pod, waiting=4.0) for pod in (*stable(), Pod("c-0", canary=True)))
    verdict, _ = decided(Traffic(pods).history(), promise)
    assert verdict.call is Call.UNKNOWN
    assert "has not shown" in verdict.message


def test_a_crash_that_stable_shares_is_not_the_canarys() -> None:
    pods = tuple(replace(pod, restarts_in=(4,)) for pod in (*stable(), Pod("c-0", canary=True)))
    assert decided(Traffic(pods).history())[0].call is not Call.BAD


def test_nothing_at_all_is_unknown() -> None:
    assert judge_history(_history([], looks=0), POLICY).call is Call.UNKNOWN
    assert judge_history(traffic(Pod("")).history(looks=0), POLICY).call is Call.UNKNOWN
    assert judge_history(Traffic(stable()).history(), POLICY).reason is Reason.CANARY_UNREADABLE
    alone = Traffic((Pod("c-0", canary=True),)).history()
    assert judge_history(alone, POLICY).reason is Reason.STABLE_UNREADABLE


def _history(pods: list[PodSamples], looks: int = 20) -> History:
    return history_of(pods, interval=INTERVAL, began=0.0, looks=looks)


def _cut(pod: PodSamples, rows: int) -> PodSamples:
    """The pod as if its scrapes had ended after so many."""

    def cut(samples: Samples) -> Samples:
        return Samples(samples.times[:rows], samples.values[:rows], samples.bounds)

    return PodSamples(
        pod.name,
        pod.canary,
        {key: cut(value) for key, value in pod.histograms.items()},
        {key: cut(value) for key, value in pod.counters.items()},
        {key: cut(value) for key, value in pod.gauges.items()},
    )
