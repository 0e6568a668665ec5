"""What must hold of the sequential judge whatever it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.judge.traffic import INTERVAL, Pod, Traffic, stable
from trimtab.judge.samples import PodSamples, Samples, history_of
from trimtab.judge.sequential import Policy, judge_history
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call, Verdict

SLO = Slo((LatencyTarget(Latency.TTFT, 95, 1.0), LatencyTarget(Latency.ITL, 95, 0.075)))
POLICY = Policy(slo=SLO)
WORSE = {Call.GOOD: 0, Call.UNKNOWN: 1, Call.BAD: 2}
QUICK = settings(max_examples=25)

factors = st.floats(0.7, 2.5)
canaries = st.builds(
    Pod,
    name=st.just("c-0"),
    canary=st.just(True),
    itl=factors,
    ttft=factors,
    load=st.sampled_from((0.0, 0.5, 1.0, 1.0, 1.3)),
    errors=st.sampled_from((0.0, 0.0, 0.01, 0.2)),
    running=st.sampled_from((0.0, 4.0)),
)
traffics = st.builds(
    lambda canary, speeds, requests, seed, intervals: Traffic(
        (*stable(*speeds), canary), intervals=intervals, requests=requests, seed=seed
    ),
    canaries,
    st.lists(st.floats(0.9, 1.1), min_size=1, max_size=4),
    st.sampled_from((3, 30, 150)),
    st.integers(0, 1000),
    st.integers(1, 16),
)


def same(one: Verdict, other: Verdict) -> bool:
    return (one.call, one.reason) == (other.call, other.reason)


def judged(pods: list[PodSamples], looks: int, interval: float = INTERVAL, began: float = 0.0) -> Verdict:
    return judge_history(history_of(pods, interval=interval, began=began, looks=looks), POLICY)


@QUICK
@given(traffics, st.randoms(use_true_random=False))
def test_the_order_and_the_names_of_pods_do_not_matter(traffic: Traffic, random: Random) -> None:
    pods = traffic.samples()
    shuffled = [replace(pod, name=f"pod-{number}") for number, pod in enumerate(pods)]
    random.shuffle(shuffled)
    assert same(judged(pods, traffic.intervals), judged(shuffled, traffic.intervals))


@QUICK
@given(traffics, st.integers(1, 15), st.integers(0, 4))
def test_a_stable_pods_counters_may_begin_anew(traffic: Traffic, place: int, which: int) -> None:
    """A reset that loses nothing leaves every increase as it was."""
    pods = traffic.samples()
    which, place = which % (len(pods) - 1), min(place, traffic.intervals)
    before = history_of(pods, interval=INTERVAL, began=0.0, looks=traffic.intervals)
    pods[which] = _begun_anew(pods[which], place)
    after = history_of(pods, interval=INTERVAL, began=0.0, looks=traffic.intervals)
    for latency, series in before.histograms.items():
        assert np.allclose(series.below, after.histograms[latency].below)
        assert np.allclose(series.total, after.histograms[latency].total)
    for name, values in before.counters.items():
        assert np.allclose(values, after.counters[name])


@QUICK
@given(traffics, st.floats(-1e6, 1e9))
def test_when_it_happened_does_not_matter(traffic: Traffic, shift: float) -> None:
    shift = float(round(shift))
    moved = [_shifted(pod, shift) for pod in traffic.samples()]
    verdict = judged(moved, traffic.intervals, began=shift)
    assert same(judged(traffic.samples(), traffic.intervals), verdict)


@QUICK
@given(traffics, st.sampled_from((0.5, 2.0, 4.0)))
def test_time_may_run_slower_for_everything(traffic: Traffic, scale: float) -> None:
    """Interval, latencies, bounds and objectives all as many times as long."""
    slower = replace(traffic, scale=scale)
    targets = tuple(replace(target, seconds=target.seconds * scale) for target in SLO.latencies)
    policy = replace(POLICY, slo=Slo(targets), warm_up=POLICY.warm_up * scale)
    assert same(judge_history(traffic.history(), POLICY), judge_history(slower.history(), policy))


@QUICK
@given(traffics, st.sampled_from(("itl", "ttft", "errors")), st.floats(1.0, 4.0))
def test_a_worse_canary_never_gets_a_better_verdict(traffic: Traffic, what: str, factor: float) -> None:
    canary = replace(traffic.pods[-1], itl=1.0, ttft=1.0, errors=0.01, load=1.0)
    slow = {
        "itl": replace(canary, itl=factor),
        "ttft": replace(canary, ttft=factor),
        "errors": replace(canary, errors=min(1.0, 0.01 * factor**3)),
    }[what]
    calls = [
        judge_history(replace(traffic, pods=(*traffic.pods[:-1], one)).history(), POLICY).call for one in (canary, slow)
    ]
    assert WORSE[calls[0]] <= WORSE[calls[1]]


@QUICK
@given(traffics, st.integers(0, 10**6))
def test_what_is_missing_never_makes_a_verdict_good(traffic: Traffic, seed: int) -> None:
    random = np.random.default_rng(seed)
    pods = traffic.samples()
    for samples in pods[-1].histograms.values():
        samples.values[random.random(len(samples.times)) < 0.9] = np.nan
    if judge_history(traffic.history(), POLICY).call is not Call.GOOD:
        assert judged(pods, traffic.intervals).call is not Call.GOOD


@QUICK
@given(traffics)
def test_a_restarted_operator_decides_the_same(traffic: Traffic) -> None:
    """From the samples recorded up to now, and from all of them cut at the same interval."""
    looks = max(1, traffic.intervals // 2)
    part = [_until(pod, looks + 1) for pod in traffic.samples()]
    assert judged(part, looks) == judge_history(traffic.history().until(looks), POLICY)


@QUICK
@given(traffics)
def test_every_number_of_the_evidence_is_finite_and_the_message_a_sentence(traffic: Traffic) -> None:
    verdict = judge_history(traffic.history(), POLICY)
    assert all(np.isfinite(value) for value in verdict.evidence.values())
    assert verdict.message[0].isupper() or verdict.message[0].isdigit()
    assert verdict.message.endswith(".")


@QUICK
@given(
    traffics,
    st.sampled_from(("alone", "watching")),
    st.dictionaries(
        st.sampled_from(("stable.errorShare", "stable.requests", "stable.ttft.p95.shareAbove", "stable.expectedWait")),
        st.floats(0.0, 1.0) | st.integers(0, 10_000).map(float),
    ),
)
def test_a_canary_that_is_alone_has_a_verdict_and_more_that_stable_broke_never_makes_it_worse(
    traffic: Traffic, how: str, before: dict[str, float]
) -> None:
    found = replace(traffic, pods=traffic.pods[-1:]).history()
    slo = replace(SLO, max_error_share=0.01, min_output_tokens_per_second=100.0)
    policy = replace(POLICY, slo=slo, alone=how == "alone", watching=how == "watching")
    plain, worn = (judge_history(found, one) for one in (policy, replace(policy, before=before)))
    for verdict in (plain, worn):
        assert verdict.message.endswith(".")
        assert all(np.isfinite(value) for value in verdict.evidence.values())
    assert (worn.call is Call.BAD) <= (plain.call is Call.BAD)


@QUICK
@given(traffics, st.floats(0.0, 60.0))
def test_a_longer_queue_never_makes_a_verdict_better(traffic: Traffic, waiting: float) -> None:
    calls = [
        judge_history(
            replace(traffic, pods=(*traffic.pods[:-1], replace(traffic.pods[-1], waiting=queue))).history(), POLICY
        ).call
        for queue in (0.0, waiting)
    ]
    assert WORSE[calls[0]] <= WORSE[calls[1]]


def _mapped(pod: PodSamples, change: Callable[[Samples], Samples]) -> PodSamples:
    return PodSamples(
        pod.name,
        pod.canary,
        {key: change(value) for key, value in pod.histograms.items()},
        {key: change(value) for key, value in pod.counters.items()},
        {key: change(value) for key, value in pod.gauges.items()},
    )


def _begun_anew(pod: PodSamples, place: int) -> PodSamples:
    """The process restarts right after a scrape, so that nothing is lost: later values count from there.

    The pod as it was, where a series would not fall by that: then nobody can see the reset.
    """
    counted = (*pod.histograms.values(), *pod.counters.values())

    def begun(samples: Samples) -> Samples:
        values = samples.values.copy()
        values[place:] -= values[place - 1]
        return Samples(samples.times, values, samples.bounds)

    def falls(samples: Samples) -> bool:
        width = len(samples.bounds) or 1
        before = samples.values[:, :width]
        flat = not before.any()
        return flat or bool((begun(samples).values[place, :width] < before[place - 1]).any())

    if not all(falls(samples) for samples in counted):
        return pod
    fresh = _mapped(pod, begun)
    return replace(fresh, gauges=pod.gauges)


def _shifted(pod: PodSamples, shift: float) -> PodSamples:
    return _mapped(pod, lambda samples: Samples(samples.times + shift, samples.values, samples.bounds))


def _until(pod: PodSamples, rows: int) -> PodSamples:
    return _mapped(pod, lambda samples: Samples(samples.times[:rows], samples.values[:rows], samples.bounds))
