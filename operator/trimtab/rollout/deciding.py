"""Checks that hold a trial back: what may start, what may advance."""

from __future__ import annotations

from datetime import UTC, datetime

from trimtab.model.reason import Reason
from trimtab.model.rollout import RolloutFacts, RolloutState, Source, Strategy, Wish
from trimtab.model.verdict import Call
from trimtab.rollout.capacity import canary, target, whole
from trimtab.rollout.checks import PASS, Answer, Check, Hold, counted
from trimtab.rollout.choosing import choose
from trimtab.rollout.memory import backoff, is_forgiven, last_attempt, starts_of_the_day
from trimtab.rollout.strategies import way_of
from trimtab.rollout.traffic import at_rest, share_of_trial

_DAY_WORDS = "the last 24 hours"


def next_wish(facts: RolloutFacts, state: RolloutState) -> Wish | None:
    """What should be tried next: the user's configuration where it differs from stable, else the planned one."""
    stable = state.stable
    if stable is None:
        return None
    if facts.user.revision != stable.revision:
        return facts.user
    if facts.planned is not None and facts.planned.revision != stable.revision:
        return facts.planned
    return None


# What may start. Without a wish there is nothing to hold.


def not_suspended(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    if facts.suspended:
        return Hold(Reason.SUSPENDED, "The resource is suspended: nothing is tried.")
    return PASS


def not_paused(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    if facts.paused:
        return Hold(Reason.PAUSED, f"Paused in {state.phase.value}: nothing moves on until the pause is lifted.")
    return PASS


def facts_are_fresh(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    if now <= state.since:
        return Hold(Reason.ROLLOUT_IN_PROGRESS, "The facts are older than this phase; the next look decides.")
    return PASS


def not_owned_by_git(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """What a repository declares would be put back at once: what a copy beside it has proven belongs there."""
    wish = next_wish(facts, state)
    attempt = last_attempt(state, wish.revision) if wish is not None else None
    if not facts.git_owner or attempt is None or attempt.outcome is not Reason.PROVEN:
        return PASS
    who = f"Revision {attempt.revision} proved itself, and {facts.git_owner} applies the workload from a repository."
    way_out = "`trimtab export` prints the patch to commit; or set spec.targetRef.fieldConflicts to Override."
    return Hold(Reason.OWNED_BY_GIT, f"{who} {way_out}")


def not_known_as_bad(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    wish = next_wish(facts, state)
    if wish is None or wish.revision not in state.bad:
        return PASS
    attempt = last_attempt(state, wish.revision)
    why = f" ({attempt.reason.value}: {attempt.message.rstrip('.')})" if attempt is not None else ""
    if wish.source is Source.USER:
        way_out = "Change spec.engine.config, or what else was edited in the spec, and the new revision is tried."
    else:
        way_out = "It is not tried again; the next plan leaves it out."
    way_out += " `trimtab retry` tries it once more as it is."
    return Hold(Reason.REMEMBERED_AS_BAD, f"Revision {wish.revision} failed before{why}. {way_out}")


def backed_off(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    wish = next_wish(facts, state)
    attempt = last_attempt(state, wish.revision) if wish is not None else None
    if wish is None or attempt is None or is_forgiven(state, facts.retry, wish.revision):
        return PASS
    wait = backoff(state, wish.revision, max(facts.policy.cooldown, facts.policy.interval))
    if now - attempt.ended_at >= wait:
        return PASS
    what = f"The last trial of revision {wish.revision} ended for a reason outside it ({attempt.message.rstrip('.')})."
    return Hold(attempt.reason, f"{what} It is tried again {wait:.0f} s after that.")


def cooled_down(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    wish = next_wish(facts, state)
    if wish is None or wish.source is Source.USER or not state.attempts:
        return PASS
    if now - state.attempts[0].ended_at < facts.policy.cooldown:
        wait = f"{facts.policy.cooldown:.0f} s"
        return Hold(Reason.COOLING_DOWN, f"The next optimization starts {wait} after the last trial ended.")
    return PASS


def window_is_open(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    wish, window = next_wish(facts, state), facts.window
    if wish is None or wish.source is Source.USER or window is None or window.is_open:
        return PASS
    if window.opens_at is None:
        message = "No window of spec.tuning.windows opens in the next two weeks. Correct their days and time zones."
        return Hold(Reason.OUTSIDE_WINDOW, message)
    opens = datetime.fromtimestamp(window.opens_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Hold(Reason.OUTSIDE_WINDOW, f"The next window of spec.tuning.windows opens at {opens}.")


def attempts_left(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    wish = next_wish(facts, state)
    if wish is None or wish.source is Source.USER:
        return PASS
    used, limit = len(starts_of_the_day(state, now)), facts.policy.max_attempts
    if used >= limit:
        return Hold(Reason.ATTEMPTS_EXHAUSTED, f"{used} of {limit} trials of {_DAY_WORDS} are used.")
    return PASS


def stable_is_whole(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """Trimtab starts no trial of its own on a limping service. A user's may be the very repair of it, and may start."""
    wish = next_wish(facts, state)
    serving, replicas = target(facts, state), whole(facts, state)
    if wish is not None and facts.policy.adopted and not serving.settled:
        return Hold(Reason.ROLLOUT_IN_PROGRESS, "The adopted workload is in a rollout of its own, which comes first.")
    if wish is None or wish.source is Source.USER:
        return PASS
    if serving.ready < replicas or replicas == 0 or not serving.settled:
        ready = f"{serving.ready} of {counted(replicas, 'stable pod')} ready"
        return Hold(Reason.ROLLOUT_IN_PROGRESS, f"An optimization starts only beside a whole service: {ready}.")
    return PASS


def not_scaled_by_revision(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """An autoscaler of one revision's workload loses its target at a promotion."""
    if next_wish(facts, state) is None or not facts.revision_scaler:
        return PASS
    return Hold(Reason.TARGET_CONFLICT, facts.revision_scaler)


def route_is_ready(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """Both backends of the route select what serves and the canary's has no share, so that it may select the canary."""
    route = facts.route
    if route is None or state.stable is None or next_wish(facts, state) is None:
        return PASS
    if route.obstacle is not None:
        return Hold(route.obstacle, route.message)
    if at_rest(state, facts, route):
        return PASS
    return Hold(Reason.ROLLOUT_IN_PROGRESS, "The route's weights are set for the stable revision first.")


def there_is_room(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    wish = next_wish(facts, state)
    answer = choose(facts, state, wish) if wish is not None else PASS
    return answer if isinstance(answer, Hold) else PASS


# What may advance.


def canary_is_ready(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    if state.candidate is None:
        return PASS
    wanted, found = way_of(state, facts).candidates(facts, state), canary(facts, state.candidate.revision)
    if found.ready >= wanted:
        return PASS
    limit = facts.policy.min_ready_deadline
    message = f"{found.ready} of {counted(wanted, 'canary pod')} ready; the limit is {limit:.0f} s."
    return Hold(Reason.CANARY_NOT_READY, message)


def values_are_in_force(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """Live: the engines say so; that the values were written is not enough."""
    if state.strategy is not Strategy.LIVE or state.candidate is None:
        return PASS
    wanted, has = way_of(state, facts).candidates(facts, state), facts.revision(state.candidate.revision).in_force
    if has >= wanted and now > state.since:
        return PASS
    limit = facts.policy.min_ready_deadline
    message = f"The values are in force on {has} of {counted(wanted, 'pod')}; the limit is {limit:.0f} s."
    return Hold(Reason.CANARY_STARTING, message)


def verdict_is_good(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    verdict, limit = facts.verdict, facts.policy.judge_deadline
    if verdict is None or now <= state.since:
        return Hold(Reason.CANARY_JUDGING, f"The canary serves; its first verdict is awaited, {limit:.0f} s at most.")
    if verdict.call is Call.GOOD:
        return PASS
    return Hold(verdict.reason, f"{verdict.message} Undecided after {limit:.0f} s is a rollback.")


def canary_has_its_share(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    route, limit = facts.route, facts.policy.judge_deadline
    share = share_of_trial(state, facts, now)
    if route is None or route.gives(share):
        return PASS
    message = f"The route does not give the canary its share of {share} %. {route.message}".rstrip()
    return Hold(route.obstacle or Reason.CANARY_JUDGING, f"{message} Without it for {limit:.0f} s is a rollback.")


def within_quality_budget(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """Only for a candidate that can alter outputs: they have been compared, and are as good as stable's."""
    quality, limit = state.quality, facts.policy.judge_deadline
    if not facts.quality_needed or (quality is not None and quality.call is Call.GOOD):
        return PASS
    if quality is None:
        message = f"The outputs are being compared with stable's on the probes, for {limit:.0f} s at most."
        return Hold(Reason.QUALITY_UNKNOWN, message)
    return Hold(quality.reason, f"{quality.message} Undecided after {limit:.0f} s is a rollback.")


def share_was_held(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """At each share for its time at least: evidence from a smaller one says nothing about this one."""
    limit = facts.policy.share_seconds
    if not facts.policy.shares or now - state.since >= limit:
        return PASS
    share = share_of(facts, state)
    return Hold(Reason.CANARY_JUDGING, f"The candidate keeps its share of {share} % for {limit:.0f} s at least.")


def share_of(facts: RolloutFacts, state: RolloutState) -> int:
    """The share of the replicas that the candidate has at present, in per cent, where the spec has shares."""
    shares = facts.policy.shares
    return shares[max(0, min(state.share, len(shares) - 1))] if shares else 0


def watch_is_over(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    limit = facts.policy.watch_seconds
    if now - state.since >= limit:
        return PASS
    waits = state.stable is not None and facts.user.revision != state.stable.revision
    then = " Then the spec's new configuration is tried." if waits and now > state.since else ""
    return Hold(Reason.WATCHING, f"The promoted revision is watched for {limit:.0f} s.{then}")


MAY_START: tuple[Check, ...] = (
    not_suspended,
    not_paused,
    facts_are_fresh,
    not_owned_by_git,
    not_known_as_bad,
    backed_off,
    attempts_left,
    window_is_open,
    cooled_down,
    not_scaled_by_revision,
    route_is_ready,
    stable_is_whole,
    there_is_room,
)
STARTING_MAY_ADVANCE: tuple[Check, ...] = (not_paused, canary_is_ready, values_are_in_force)
JUDGING_MAY_ADVANCE: tuple[Check, ...] = (
    not_paused,
    canary_is_ready,
    canary_has_its_share,
    verdict_is_good,
    within_quality_budget,
    share_was_held,
)
WATCHING_MAY_ADVANCE: tuple[Check, ...] = (not_paused, watch_is_over)
