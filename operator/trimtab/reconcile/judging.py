"""What is on trial, from the cluster and Prometheus to a verdict.

Intervals lie on a grid of whole intervals since the epoch: trials that run at the same time are read together, and an
operator that was restarted looks at the same intervals again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trimtab import judge
from trimtab.api.convert import Unreadable, plan_from, slo_of
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.judge.samples import history_of
from trimtab.judge.words import without_metrics
from trimtab.kube.client import Object
from trimtab.model.plan import Effect, Metric
from trimtab.model.reading import Unknown
from trimtab.model.rollout import Phase, RevisionFacts, RolloutState, RouteFacts, Source
from trimtab.model.samples import PodSamples, Samples
from trimtab.model.slo import Latency
from trimtab.model.snapshot import Snapshot
from trimtab.model.verdict import Verdict
from trimtab.observe.trials import TrialRead
from trimtab.reconcile.measuring import target_of
from trimtab.reconcile.memory import Key
from trimtab.reconcile.world import World

_JUDGED = (Phase.CANARY_JUDGING, Phase.SHIFTING, Phase.PROMOTING, Phase.WATCHING)
_MOST_INTERVALS = 240  # the newest: what a look costs, in Prometheus and here, is bounded
_WARM_UP = 15.0  # seconds; an interval where that is shorter
_SCRAPED = 0.5  # seconds after the end of an interval at which it is looked at
_LATE = 0.2  # of an interval: scrapes that are so much further apart still fit into one
_LATENCIES = {Metric.TTFT: Latency.TTFT, Metric.ITL: Latency.ITL, Metric.E2E: Latency.E2E}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is judged: `read` of pods, of which `canary` are on trial and the others stable, from `began` on (seconds
    since the epoch, the beginning of an interval) until `ended`.
    """

    read: TrialRead | Unknown
    canary: frozenset[str]
    policy: judge.Policy
    interval: float
    began: float
    ended: float

    def next_look(self, now: float) -> float:
        """Seconds until the next interval has ended."""
        return math.floor(now / self.interval) * self.interval + self.interval + _SCRAPED - now


async def read_trial(
    key: Key,
    deployment: LLMDeployment,
    state: RolloutState,
    revisions: Mapping[str, RevisionFacts],
    snapshot: Snapshot,
    plans: Sequence[Object],
    route: RouteFacts | None,
    world: World,
) -> Trial | None:
    """None when there is nothing to judge. `snapshot`: whether metrics can be had at all; `plans`: the resource's."""
    watching = state.phase is Phase.WATCHING
    canary = state.stable if watching else state.candidate
    if state.phase not in _JUDGED or state.served_at is None or canary is None:
        return None
    stable = state.stable if not watching else None
    ours = _ready(revisions.get(canary.revision))
    theirs = _ready(revisions.get(stable.revision)) if stable is not None else ()
    interval, now = float(deployment.spec.tuning.interval_seconds), world.now()
    ended = math.floor(now / interval) * interval
    # What was measured at a smaller share says nothing about a larger one.
    anew = watching or (state.phase is Phase.CANARY_JUDGING and state.share > 0)
    began = math.floor((state.since if anew else state.served_at) / interval) * interval
    began = max(began, ended - _MOST_INTERVALS * interval)
    read: TrialRead | Unknown | None = snapshot.metrics if isinstance(snapshot.metrics, Unknown) else None
    if read is None:
        target = target_of(key, deployment, (*ours, *theirs))
        # One interval more, because a count at the beginning needs a sample from before it.
        read = await world.metrics_reader.read_trial(target, start=began - interval, end=ended, interval=interval)
    share = share_of_traffic(state, route)
    policy = policy_of(deployment, state, effects_of(state, plans), alone=not theirs, share=share)
    return Trial(
        read=read if read is not None else TrialRead(pods={}, scrape_interval=0.0),
        canary=frozenset(ours),
        policy=policy,
        interval=interval,
        began=began,
        ended=max(began, ended),
    )


def judged(trial: Trial | None) -> Verdict | None:
    """The verdict on what is on trial; None when nothing is. Pure, and CPU work."""
    if trial is None:
        return None
    if isinstance(trial.read, Unknown):
        return without_metrics(trial.read)
    return judge.judge_history(history(trial, trial.read), trial.policy)


def history(trial: Trial, read: TrialRead) -> judge.History:
    """Whole intervals only. Where scrapes are further apart than intervals, several of these count as one."""
    several = max(1, math.ceil(read.scrape_interval / trial.interval - _LATE))
    interval = several * trial.interval
    began = math.floor(trial.began / interval) * interval
    looks = max(0, math.floor((trial.ended - began) / interval))
    pods = [
        _from_nothing(replace(pod, canary=True), began, interval) if name in trial.canary else pod
        for name, pod in sorted(read.pods.items())
    ]
    return history_of(pods, interval=interval, began=began, looks=looks)


def policy_of(
    deployment: LLMDeployment,
    state: RolloutState,
    effects: Sequence[Effect],
    *,
    alone: bool,
    share: float | None = None,
) -> judge.Policy:
    """What the spec and the plan hold the canary to. `effects`: what the plan predicts of the step on trial; `share`:
    of the traffic, where a route has the weights.
    """
    watching = state.phase is Phase.WATCHING
    trades = state.candidate.trades if state.candidate is not None else frozenset[Metric]()
    # The least that was predicted, of what a canary can show: side by side, throughput is the load that it was given.
    promises = {
        _LATENCIES[effect.metric]: effect.high - 1
        for effect in effects
        if effect.metric in _LATENCIES and effect.metric not in trades and 0 < effect.high < 1
    }
    return judge.Policy(
        slo=slo_of(deployment.spec),
        margins=_margins(deployment),
        trades=trades,
        promises={} if watching or alone else promises,
        minimum_requests=deployment.spec.rollout.minimum_requests,
        warm_up=min(_WARM_UP, float(deployment.spec.tuning.interval_seconds)),
        canary_share=None if alone else share,
        more_to_come=state.share + 1 < len(deployment.spec.rollout.steps or ()),
        alone=alone,
        watching=watching,
        # From the decision to promote on: stable's pods give way one by one, and none of them is left at the end.
        before=state.decision.evidence if state.decision is not None else {},
    )


def _margins(deployment: LLMDeployment) -> Mapping[Latency, float]:
    margins = deployment.spec.rollout.margins
    percent = {Latency.ITL: margins.itl_percent, Latency.TTFT: margins.ttft_percent, Latency.E2E: margins.e2e_percent}
    return {latency: value / 100 for latency, value in percent.items()}


def share_of_traffic(state: RolloutState, route: RouteFacts | None) -> float | None:
    """What the route is set to send to the canary, between 0 and 1, while that stays as it is.

    None where its backends do not tell the canary's pods from stable's: a route knows workloads, and revisions that
    differ by live values share one.
    """
    stable, candidate = state.stable, state.candidate
    if route is None or state.phase is not Phase.CANARY_JUDGING or stable is None or candidate is None:
        return None
    apart = (stable.workload, candidate.workload)
    if apart[0] == apart[1] or (route.stable, route.canary) != apart:
        return None
    if route.most is None or not route.gives(route.most):
        return None
    return route.most / 100 if 0 < route.most < 100 else None


def effects_of(state: RolloutState, plans: Sequence[Object]) -> Sequence[Effect]:
    """What the plan says that its step on trial will do; nothing where a user asked for it, or the plan is gone."""
    candidate = state.candidate
    if candidate is None or candidate.source is not Source.PLAN or state.phase is not Phase.CANARY_JUDGING:
        return ()
    document = next((item for item in plans if item["metadata"]["name"] == candidate.plan), None)
    plan = plan_from(document) if document is not None else None
    if plan is None or isinstance(plan, Unreadable) or candidate.step >= len(plan.optimizations):
        return ()
    return plan.optimizations[candidate.step].effects


def _ready(facts: RevisionFacts | None) -> tuple[str, ...]:
    """Pods that take traffic: one that leaves is relieved of its load, and no measure for the others."""
    pods = facts.pods if facts is not None else ()
    return tuple(pod.name for pod in pods if pod.ready and not pod.terminating)


def _from_nothing(pod: PodSamples, began: float, interval: float) -> PodSamples:
    """A canary pod that Prometheus found after `began` had counted nothing when it first served."""

    def whole(samples: Samples) -> Samples:
        if not samples.times.size or samples.times[0] <= began:
            return samples
        before = np.arange(began, samples.times[0], interval)
        zeros = np.zeros((before.size, samples.values.shape[1]))
        times, values = np.concatenate((before, samples.times)), np.concatenate((zeros, samples.values))
        return Samples(times, values, samples.bounds)

    return replace(
        pod,
        histograms={latency: whole(samples) for latency, samples in pod.histograms.items()},
        counters={name: whole(samples) for name, samples in pod.counters.items()},
    )
