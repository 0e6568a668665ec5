"""Checks that end a trial: nobody wants it any more, its pods fail, its verdict is Bad, or its time is over."""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.model.reason import Reason
from trimtab.model.rollout import RolloutFacts, RolloutState, Source, Strategy
from trimtab.model.snapshot import PodFacts, PodTrouble
from trimtab.model.verdict import Call
from trimtab.rollout.capacity import canary, target, whole
from trimtab.rollout.checks import PASS, Abort, Answer, Check, counted
from trimtab.rollout.strategies import way_of
from trimtab.rollout.strategies.live import refusals
from trimtab.rollout.traffic import share_of_trial

_REASONS: dict[PodTrouble, Reason] = {
    PodTrouble.CRASH_LOOP: Reason.CANARY_CRASH_LOOP,
    PodTrouble.CONFIG_ERROR: Reason.CANARY_CRASH_LOOP,
    PodTrouble.OOM_KILLED: Reason.CANARY_OOM_KILLED,
    PodTrouble.IMAGE_PULL: Reason.CANARY_IMAGE_PULL,
}
_GRACE_INTERVALS = 2  # a pod may be unschedulable for a moment, while another one leaves


def trial_pods(facts: RolloutFacts, state: RolloutState) -> tuple[PodFacts, ...]:
    """The living pods that run the candidate: the canary's, and the new ones of an adopted target that is moving."""
    if state.candidate is None:
        return ()
    pods: list[PodFacts] = list(canary(facts, state.candidate.revision).pods)
    if facts.policy.adopted and state.moved:
        # Creation times are whole seconds, so a pod of this phase may seem to be a second older than it.
        pods += [pod for pod in target(facts, state).pods if pod.created_at > state.since - 1.0]
    return tuple(pod for pod in pods if not pod.terminating)


def rolled_back_by_user(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    if facts.abort and now > state.started_at:
        return Abort(Reason.ROLLED_BACK_BY_USER, "A person asked for the rollback of this revision.")
    return PASS


def suspended(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    if facts.suspended:
        return Abort(Reason.SUSPENDED, "The resource is suspended, so the trial ends and stable keeps serving.")
    return PASS


def no_longer_wanted(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """The final spec wins: another wish of the user ends the trial, whoever asked for it."""
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None or now <= state.started_at or facts.user.revision == candidate.revision:
        return PASS
    if facts.user.revision != stable.revision:
        return Abort(Reason.SUPERSEDED, f"The spec now asks for revision {facts.user.revision} instead.")
    if candidate.source is Source.USER:
        return Abort(Reason.WITHDRAWN, f"The spec asks for the stable revision {stable.revision} again.")
    return PASS


def watch_withdrawn(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """While watching: the spec was edited back to what ran before the promotion."""
    edited = (facts.user_config, facts.user.template) != (state.user_config, state.user_template)
    back = state.previous is not None and facts.user.revision == state.previous.revision
    if edited and back and now > state.since:
        return Abort(Reason.WITHDRAWN, f"The spec asks for the previous revision {facts.user.revision} again.")
    return PASS


def pods_cannot_run(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    for pod in trial_pods(facts, state):
        if pod.trouble is not None and pod.trouble in _REASONS:
            return Abort(_REASONS[pod.trouble], _sentence(pod))
    return PASS


def served_pods_died(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """A container that restarted after its pod had served: killed, or ended by itself."""
    if state.served_at is None:
        return PASS
    for pod in trial_pods(facts, state):
        if pod.restarts == 0 or pod.created_at > state.served_at:
            continue
        if not pod.ready or (pod.ready_since is not None and pod.ready_since > state.served_at):
            reason = Reason.CANARY_OOM_KILLED if pod.oom_kills > 0 else Reason.CANARY_CRASH_LOOP
            words = f": {pod.trouble_message}" if pod.trouble_message else ""
            return Abort(
                reason, f"Pod {pod.name} had served and restarted ({counted(pod.restarts, 'restart')}){words}."
            )
    return PASS


def pods_do_not_fit(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    grace = _GRACE_INTERVALS * facts.policy.interval
    for pod in _waiting(trial_pods(facts, state)):
        since = max(pod.created_at, state.since)
        if pod.trouble is PodTrouble.UNSCHEDULABLE and now - since >= grace:
            return Abort(Reason.CANARY_UNSCHEDULABLE, f"{_sentence(pod)} It waited for at least {grace:.0f} s.")
    return PASS


def quota_refuses(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    message = canary(facts, state.candidate.revision).message if state.candidate is not None else ""
    return Abort(Reason.QUOTA_EXCEEDED, f"The canary's pods cannot be created: {message}") if message else PASS


def values_are_refused(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """Live: an engine does not take the values. What it said before it saw them does not count."""
    if state.strategy is not Strategy.LIVE or state.candidate is None:
        return PASS
    pods = refusals(facts, state.candidate.revision)
    if pods and now - state.since >= _GRACE_INTERVALS * facts.policy.interval:
        message = f"The engine of pod {pods[0]} refuses the values and keeps those that it had; its log says why."
        return Abort(Reason.LIVE_REFUSED, message)
    return PASS


def not_in_force_in_time(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    limit = _ready_limit(facts, state)
    if state.strategy is Strategy.LIVE and state.candidate is not None and now - state.since >= limit:
        has = facts.revision(state.candidate.revision).in_force
        wanted = counted(way_of(state, facts).candidates(facts, state), "pod")
        return Abort(Reason.DEADLINE_EXCEEDED, f"The values were in force on {has} of {wanted} after {limit:.0f} s.")
    return PASS


def not_ready_in_time(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    limit = _ready_limit(facts, state)
    if state.candidate is not None and now - state.since >= limit:
        ready = canary(facts, state.candidate.revision).ready
        wanted = counted(way_of(state, facts).candidates(facts, state), "canary pod")
        return Abort(Reason.CANARY_NOT_READY, f"{ready} of {wanted} were ready after {limit:.0f} s.")
    return PASS


def promotion_is_stuck(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    limit = _ready_limit(facts, state)
    for pod in _waiting(trial_pods(facts, state)):
        if now - max(pod.created_at, state.since) >= limit:
            return Abort(Reason.CANARY_NOT_READY, f"Pod {pod.name} was not ready {limit:.0f} s after it was created.")
    longest = limit * (whole(facts, state) + 1)
    if now - state.since >= longest:
        # With every pod ready the promotion waited for something else, e.g. for an operator that was away.
        waits = _waiting(trial_pods(facts, state))
        reason = Reason.CANARY_NOT_READY if waits else Reason.DEADLINE_EXCEEDED
        return Abort(reason, f"The move was not complete after {longest:.0f} s.")
    return PASS


def verdict_is_bad(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    verdict = facts.verdict
    if verdict is not None and verdict.call is Call.BAD and now > state.since:
        return Abort(verdict.reason, verdict.message)
    return PASS


def quality_is_bad(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    quality = state.quality
    if facts.quality_needed and quality is not None and quality.call is Call.BAD:
        return Abort(quality.reason, quality.message)
    return PASS


def undecided_for_too_long(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    limit = facts.policy.judge_deadline
    needed = (facts.verdict, state.quality) if facts.quality_needed else (facts.verdict,)
    undecided = [verdict for verdict in needed if verdict is None or verdict.call is not Call.GOOD]
    if now - state.since >= limit and undecided:
        last = f" The last word was: {undecided[0].message}" if undecided[0] is not None else ""
        return Abort(Reason.DEADLINE_EXCEEDED, f"There was no decision within {limit:.0f} s.{last}")
    return PASS


def share_not_given_for_too_long(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """A canary that the route gives another share is not judged at it, and not for ever."""
    limit, route, share = facts.policy.judge_deadline, facts.route, share_of_trial(state, facts, now)
    if route is None or route.gives(share) or now - state.since < limit:
        return PASS
    message = f"The route did not give the canary its share of {share} % within {limit:.0f} s. {route.message}"
    return Abort(Reason.DEADLINE_EXCEEDED, message.rstrip())


def _ready_limit(facts: RolloutFacts, state: RolloutState) -> float:
    """The time that a pod may take until it is ready: in place it begins when another one has ended."""
    drain = facts.policy.drain_seconds if state.strategy is Strategy.IN_PLACE else 0.0
    return facts.policy.min_ready_deadline + drain


def _waiting(pods: Iterable[PodFacts]) -> tuple[PodFacts, ...]:
    return tuple(pod for pod in pods if not pod.ready)


def _sentence(pod: PodFacts) -> str:
    trouble = pod.trouble.value if pod.trouble is not None else "no trouble"
    words = f": {pod.trouble_message.rstrip('.')}" if pod.trouble_message else ""
    return f"Pod {pod.name} cannot run, {trouble}{words}."


_UNWANTED: tuple[Check, ...] = (rolled_back_by_user, suspended, no_longer_wanted)

# Deadlines are apart from evidence: they do not run while a rollout is paused.
STARTING_MUST_ABORT: tuple[Check, ...] = (
    *_UNWANTED,
    pods_cannot_run,
    quota_refuses,
    pods_do_not_fit,
    values_are_refused,
)
STARTING_DEADLINES: tuple[Check, ...] = (not_in_force_in_time, not_ready_in_time)
JUDGING_MUST_ABORT: tuple[Check, ...] = (
    *_UNWANTED,
    pods_cannot_run,
    served_pods_died,
    verdict_is_bad,
    quality_is_bad,
)
JUDGING_DEADLINES: tuple[Check, ...] = (undecided_for_too_long, share_not_given_for_too_long)
PROMOTING_MUST_ABORT: tuple[Check, ...] = (*JUDGING_MUST_ABORT, quota_refuses, pods_do_not_fit, values_are_refused)
PROMOTING_DEADLINES: tuple[Check, ...] = (promotion_is_stuck,)
WATCHING_MUST_ABORT: tuple[Check, ...] = (
    rolled_back_by_user,
    watch_withdrawn,
    pods_cannot_run,
    served_pods_died,
    verdict_is_bad,
)
