"""From what Prometheus remembers of pods to what is judged, and by which rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.unit.judge.traffic import Pod, Traffic, stable
from tests.unit.reconcile.resources import NOW, candidate, owned, settled
from tests.unit.reconcile.resources import stable as serving
from trimtab import judge
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.judge.sequential.policy import DEFAULT_MARGINS
from trimtab.model.plan import Effect, Metric
from trimtab.model.reading import Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.rollout import Decision, Phase, RolloutState, RouteFacts, Source
from trimtab.model.samples import REQUESTS, PodSamples
from trimtab.model.slo import Latency
from trimtab.model.verdict import Call
from trimtab.observe.trials import TrialRead
from trimtab.reconcile.judging import Trial, effects_of, history, judged, policy_of, share_of_traffic

INTERVAL = 15.0
SLO: Mapping[str, Any] = {"ttft": {"p95Milliseconds": 1000}, "itl": {"p95Milliseconds": 60}}


def trial(canary: Pod, *, intervals: int = 20, scrapes: float = 15.0, **changes: Any) -> Trial:
    pods = Traffic((*stable(), replace(canary, name="c-0", canary=False)), intervals=intervals).samples()
    values: dict[str, Any] = {
        "read": TrialRead(pods={pod.name: pod for pod in pods}, scrape_interval=scrapes),
        "canary": frozenset({"c-0"}),
        "policy": judge.Policy(),
        "interval": INTERVAL,
        "began": 0.0,
        "ended": intervals * INTERVAL,
        **changes,
    }
    return Trial(**values)


def read_of(found: Trial) -> TrialRead:
    assert isinstance(found.read, TrialRead)
    return found.read


def judging(phase: Phase = Phase.CANARY_JUDGING, **changes: Any) -> RolloutState:
    known = {"candidate": candidate(), "served_at": NOW - 60.0, **changes}
    return replace(settled(serving()), phase=phase, **known)


def test_the_canary_is_who_the_cluster_says_and_is_judged_as_a_recording_is() -> None:
    slow = trial(Pod("", itl=2.0))
    found = history(slow, read_of(slow))
    assert [name for name, ours in zip(found.pods, found.canary, strict=True) if ours] == ["c-0"]
    recorded = Traffic((*stable(), Pod("c-0", canary=True, itl=2.0)), intervals=20).history()
    assert judged(slow) == judge.judge_history(recorded, judge.Policy())
    verdict = judged(slow)
    assert verdict is not None
    assert verdict.call is Call.BAD


def test_nothing_on_trial_has_no_verdict_and_nothing_readable_is_unknown() -> None:
    assert judged(None) is None
    verdict = judged(trial(Pod(""), read=Unknown(Why.TIMEOUT, "Prometheus did not answer within 8 s.")))
    assert verdict is not None
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.PROMETHEUS_TIMEOUT)
    empty = judged(trial(Pod(""), read=TrialRead(pods={}, scrape_interval=0.0)))
    assert empty is not None
    assert (empty.call, empty.reason) == (Call.UNKNOWN, Reason.CANARY_UNREADABLE)


@pytest.mark.parametrize(
    ("route", "phase", "share"),
    [
        (RouteFacts("rev-a", "rev-b", 20, 20), Phase.CANARY_JUDGING, 0.2),
        (RouteFacts("rev-a", "rev-b", 20, 20), Phase.SHIFTING, None),
        (RouteFacts("rev-a", "rev-b", 20, 30), Phase.CANARY_JUDGING, None),
        (RouteFacts("rev-a", "rev-a", 20, 20), Phase.CANARY_JUDGING, None),
        (RouteFacts("rev-a", "rev-b", 0, 0), Phase.CANARY_JUDGING, None),
        (RouteFacts("rev-a", "rev-b"), Phase.CANARY_JUDGING, None),
        (None, Phase.CANARY_JUDGING, None),
    ],
)
def test_the_judge_is_told_the_share_that_a_route_gives_while_it_stays(
    route: RouteFacts | None, phase: Phase, share: float | None
) -> None:
    state = judging(phase)
    assert share_of_traffic(state, route) == share
    told = policy_of(owned(), state, (), alone=False, share=share_of_traffic(state, route))
    assert told.canary_share == share
    assert policy_of(owned(), state, (), alone=True, share=share).canary_share is None


@pytest.mark.parametrize(("share", "more"), [(0, True), (1, True), (2, False)])
def test_the_judge_is_told_whether_a_larger_share_follows(share: int, more: bool) -> None:
    stepped = owned(rollout={"strategy": "Canary", "steps": [5, 25, 50]})
    assert policy_of(stepped, judging(share=share), (), alone=False).more_to_come is more
    assert not policy_of(owned(), judging(share=share), (), alone=False).more_to_come


@pytest.mark.parametrize(
    ("stable_on", "candidate_on", "route", "share"),
    [
        ("rev-b", "rev-b", RouteFacts("rev-b", "rev-b", 25, 25), None),
        ("", "rev-a", RouteFacts("rev-a", "rev-a", 25, 25), None),
        ("", "rev-a", RouteFacts("rev-a", "rev-b", 25, 25), None),
        ("rev-0", "", RouteFacts("rev-0", "rev-b", 25, 25), 0.25),
        ("", "", RouteFacts("rev-left", "rev-b", 25, 25), None),
    ],
    ids=["back to its own workload", "live beside it", "a backend of another time", "apart", "stable is not behind it"],
)
def test_the_judge_is_told_no_share_that_the_route_cannot_give(
    stable_on: str, candidate_on: str, route: RouteFacts, share: float | None
) -> None:
    """A live trial runs on pods of one workload, which all have the same share, whatever the revisions are called."""
    state = judging(stable=replace(serving(), carrier=stable_on), candidate=replace(candidate(), carrier=candidate_on))
    assert share_of_traffic(state, route) == share


def test_what_a_plan_promises_is_found_among_the_plans_that_were_read_once() -> None:
    effect = {"metric": "ttft", "ratioPermille": 500, "lowPermille": 400, "highPermille": 600, "basis": "a rule"}
    step = {
        "type": "Batching", "title": "Run 2", "description": "Requests wait.", "impact": "High", "effort": "Restart",
        "changes": [{"knob": "maxNumSeqs", "from": "1", "to": "2", "reason": "14 wait."}], "effects": [effect],
    }  # fmt: skip
    document = {
        "metadata": {"name": "chat-1", "namespace": "serving"},
        "spec": {
            "target": "chat", "engine": "vllm", "engineVersion": "0.32.0", "start": {"maxNumSeqs": 1},
            "result": {"maxNumSeqs": 2}, "optimizations": [step], "improvement": effect,
        },
    }  # fmt: skip
    tried = replace(candidate(), source=Source.PLAN, plan="chat-1")
    state = replace(judging(), candidate=tried)
    assert [found.metric for found in effects_of(state, [document])] == [Metric.TTFT]
    assert effects_of(state, []) == ()
    assert effects_of(replace(state, candidate=replace(tried, step=1)), [document]) == ()
    assert effects_of(judging(), [document]) == (), "a user promises nothing"


def test_only_whole_intervals_are_looked_at() -> None:
    found = trial(Pod(""), ended=4 * INTERVAL)
    assert history(found, read_of(found)).looks == 4
    assert history(replace(found, ended=0.0), read_of(found)).looks == 0


def test_scrapes_that_are_further_apart_than_intervals_make_longer_intervals() -> None:
    rare = trial(Pod(""), scrapes=30.0)
    found = history(rare, read_of(rare))
    assert (found.interval, found.looks) == (30.0, 10)
    close = trial(Pod(""), scrapes=15.3)
    assert history(close, read_of(close)).interval == INTERVAL


def test_a_canary_that_prometheus_found_late_had_counted_nothing_before() -> None:
    whole = trial(Pod(""))
    pods = dict(read_of(whole).pods)
    pods["c-0"] = _from_row(pods["c-0"], 3)
    late = history(whole, TrialRead(pods=pods, scrape_interval=15.0))
    ours = late.counters[REQUESTS][:, late.canary][:, 0]
    assert ours[:2].tolist() == [0.0, 0.0]
    assert ours[2] == 600.0, "three intervals' worth, when it was first seen"
    assert np.isfinite(late.histograms[Latency.TTFT].total[:, late.canary]).all()
    pods["s-0"] = _from_row(pods["s-0"], 3)
    found = history(whole, TrialRead(pods=pods, scrape_interval=15.0))
    unknown = found.counters[REQUESTS][:, list(found.pods).index("s-0")]
    assert math.isnan(unknown[2]), "a stable pod may have counted anything"


def _from_row(pod: PodSamples, first: int) -> PodSamples:
    def cut(samples: Any) -> Any:
        return type(samples)(samples.times[first:], samples.values[first:], samples.bounds)

    return replace(
        pod,
        histograms={key: cut(value) for key, value in pod.histograms.items()},
        counters={key: cut(value) for key, value in pod.counters.items()},
        gauges={key: cut(value) for key, value in pod.gauges.items()},
    )


def effects(*of: tuple[Metric, float]) -> tuple[Effect, ...]:
    return tuple(Effect(metric, high * 0.8, high * 0.6, high, "a rule") for metric, high in of)


def deployment(**spec: Any) -> LLMDeployment:
    return owned(slo=dict(SLO), **spec)


def test_a_plan_is_held_to_the_least_that_it_predicted_of_what_a_canary_can_show() -> None:
    predicted = effects((Metric.TTFT, 0.9), (Metric.THROUGHPUT, 0.5), (Metric.ITL, 1.2), (Metric.E2E, 0.7))
    held = policy_of(deployment(), judging(), predicted, alone=False)
    assert held.promises == {Latency.TTFT: pytest.approx(-0.1), Latency.E2E: pytest.approx(-0.3)}
    traded = replace(candidate(), trades=frozenset({Metric.E2E}))
    state = replace(judging(), candidate=traded)
    assert set(policy_of(deployment(), state, predicted, alone=False).promises) == {Latency.TTFT}
    assert policy_of(deployment(), state, predicted, alone=False).trades == frozenset({Metric.E2E})
    assert not policy_of(deployment(), judging(), predicted, alone=True).promises, "nothing to measure them against"


def test_the_spec_says_what_is_kept_and_how_much_must_be_seen() -> None:
    spec = deployment(rollout={"minimumRequests": 70}, tuning={"intervalSeconds": 5})
    held = policy_of(spec, judging(), (), alone=False)
    assert (held.minimum_requests, held.warm_up) == (70, 5.0)
    assert {target.name for target in held.slo.latencies} == {"ttft.p95", "itl.p95"}
    assert policy_of(deployment(tuning={"intervalSeconds": 60}), judging(), (), alone=False).warm_up == 15.0


def test_the_spec_says_how_much_slower_a_canary_may_be() -> None:
    assert policy_of(deployment(), judging(), (), alone=False).margins == DEFAULT_MARGINS
    wide = policy_of(deployment(rollout={"margins": {"itlPercent": 35}}), judging(), (), alone=False)
    assert wide.margins == {Latency.ITL: 0.35, Latency.TTFT: 0.20, Latency.E2E: 0.20}


def test_a_promoted_revision_is_compared_with_what_stable_showed_before() -> None:
    evidence = {"stable.errorShare": 0.02, "stable.requests": 900.0}
    decision = Decision(Reason.PROMOTED, Reason.WITHIN_SLO, "Good.", NOW, evidence)
    held = policy_of(deployment(), judging(Phase.WATCHING, decision=decision), (), alone=True)
    assert held.watching
    assert held.before == evidence
    assert not policy_of(deployment(), judging(), (), alone=False).before


def test_the_last_moments_of_a_promotion_are_not_judged_harder_than_its_beginning() -> None:
    """Both break the objective; when the last stable pod has gone, what it showed still counts."""
    slow = Traffic((*(replace(pod, ttft=12.0) for pod in stable()), Pod("c-0", canary=True, ttft=8.0)))
    policy = replace(policy_of(deployment(), judging(), (), alone=False), warm_up=15.0)
    promoting = judge.judge_history(slow.history(), policy)
    assert promoting.call is not Call.BAD, promoting.message
    decision = Decision(Reason.PROMOTED, promoting.reason, promoting.message, NOW, promoting.evidence)
    alone = policy_of(deployment(), judging(Phase.PROMOTING, decision=decision), (), alone=True)
    last = Traffic((Pod("c-0", canary=True, ttft=8.0),)).history()
    assert judge.judge_history(last, alone).call is not Call.BAD
    assert judge.judge_history(last, replace(alone, before={})).call is Call.BAD


def test_the_next_look_is_when_the_next_interval_has_just_ended() -> None:
    found = trial(Pod(""))
    assert found.next_look(7 * INTERVAL + 4.0) == pytest.approx(11.5)
    assert found.next_look(7 * INTERVAL) == pytest.approx(15.5)
