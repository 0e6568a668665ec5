"""Traffic by weight: which share of it the candidate has, and in which order backends, weights and pods change.

A route sends its requests to two backends, stable's and the canary's. Neither may have a share while it selects no
pods:

- A backend selects another revision only while it has no share, or when that revision has ready pods.
- A weight changes only when both backends have been seen to select what the state asks for.
- A backend whose workload has no ready pods gets no share while the other's has some.
- Pods leave when their backend has been seen to have no share any more: stable's at a promotion, the candidate's at a
  rollback. So weights are restored before the canary goes. What a rollback had to leave, because stable did not come
  back, is selected in its place until something else serves.

While nothing is on trial both select the stable revision, so any weights are right; the canary's is then 0. Backends
select workloads: revisions that differ by live values alone share one, and then every pod has the same share.
"""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.rollout import (
    Action,
    EnsureRevision,
    Phase,
    RemoveRevision,
    RolloutFacts,
    RolloutState,
    RouteFacts,
    ServeOnly,
    ShareTraffic,
    Strategy,
)
from trimtab.rollout.capacity import canary, overdue
from trimtab.rollout.checks import Pass
from trimtab.rollout.strategies import way_of

_ALL = 100
_JUDGED = (Phase.CANARY_JUDGING, Phase.SHIFTING)
_SERVES = (*_JUDGED, Phase.PROMOTING, Phase.ROLLING_BACK)


def with_traffic(
    state: RolloutState, facts: RolloutFacts, now: float, actions: tuple[Action, ...]
) -> tuple[Action, ...]:
    """`actions` with the shares of the traffic, where a route has them; pods that it still needs are kept."""
    route = facts.route
    if route is None or state.stable is None or facts.policy.adopted:
        return actions
    kept = tuple(_kept(action, state, facts, now) for action in actions if not _still_served(action, facts, route))
    return (_shared(state, facts, now, route, actions), *kept)


def share_of_trial(state: RolloutState, facts: RolloutFacts, now: float) -> int:
    """The per cent that the candidate has while it is judged: that of its step, else as its pods are to all pods."""
    source, found = _stable_ready(state, facts), _candidate_ready(state, facts)
    if found == 0 or source == 0:
        return 0 if found == 0 else _ALL
    shares = facts.policy.shares if state.strategy is Strategy.CANARY else ()
    if not shares:
        return by_pods(source, found)
    index = min(state.share, len(shares) - 1)
    if state.phase is Phase.SHIFTING and not isinstance(way_of(state, facts).is_moved(facts, state, now), Pass):
        index -= 1
    return shares[max(0, index)]


def by_pods(stable: int, candidate: int) -> int:
    """The candidate's share in per cent when every pod has the same; all or nothing only where the other has none."""
    if stable <= 0 or candidate <= 0:
        return _ALL if candidate > 0 else 0
    return min(max(round(_ALL * candidate / (stable + candidate)), 1), _ALL - 1)


def has_moved(state: RolloutState, facts: RolloutFacts, now: float) -> bool:
    """Whether the route has followed what Shifting or Promoting moved."""
    route = facts.route
    if route is None or facts.policy.adopted:
        return True
    return route.gives(_ALL if state.phase is Phase.PROMOTING else share_of_trial(state, facts, now))


def at_rest(state: RolloutState, facts: RolloutFacts, route: RouteFacts) -> bool:
    """Whether both backends select what serves, and the canary's has no share, so that it may select another one."""
    serves = _serving(state, facts, route)
    return (route.stable, route.canary) == (serves, serves) and route.most == 0


def _serving(state: RolloutState, facts: RolloutFacts, route: RouteFacts) -> str:
    """What stable's backend selects: stable's workload, or what a trial had to leave while that has no ready pods."""
    stable = state.stable.workload if state.stable is not None else ""
    if _ready(stable, facts):
        return stable
    parts = (state.stable, state.candidate, state.previous)
    known = {"", *(part.workload for part in parts if part is not None)}
    selected = (route.stable, route.canary)
    return next((name for name in selected if name not in known and _ready(name, facts)), stable)


def _shared(
    state: RolloutState, facts: RolloutFacts, now: float, route: RouteFacts, actions: tuple[Action, ...]
) -> ShareTraffic:
    serves = _serving(state, facts, route)
    on_trial = state.candidate is not None and state.phase not in (Phase.STARTING, Phase.STABLE)
    tried = state.candidate.workload if on_trial and state.candidate is not None else serves
    if not _may_select(route.stable, serves, facts, has_none=route.least == _ALL):
        # The way back from a promotion, after somebody gave stable's backend a share.
        percent = _answered(_ALL, route, facts) if route.canary else None
        return ShareTraffic(route.stable, route.canary or tried, percent)
    if not _may_select(route.canary, tried, facts, has_none=route.most == 0):
        return ShareTraffic(serves, route.canary, _answered(0, route, facts) if route.stable == serves else None)
    if (route.stable, route.canary) != (serves, tried):
        return ShareTraffic(serves, tried, None)
    return ShareTraffic(serves, tried, _answered(_percent(state, facts, now, actions), route, facts))


def _answered(percent: int, route: RouteFacts, facts: RolloutFacts) -> int:
    """The canary's share, so that it goes where pods answer: all or nothing while one backend alone has ready pods."""
    source, found = _ready(route.stable, facts), _ready(route.canary, facts)
    if (source > 0) == (found > 0):
        return percent
    return _ALL if found > 0 else 0


def _may_select(selects: str, wanted: str, facts: RolloutFacts, *, has_none: bool) -> bool:
    """Whether a backend may select `wanted`. `has_none`: it has no share of the traffic."""
    return selects == wanted or has_none or _ready(wanted, facts) > 0 or _ready(selects, facts) == 0


def _ready(workload: str, facts: RolloutFacts) -> int:
    """Ready pods of a workload, whichever revisions they run."""
    pods = (pod for found in facts.revisions.values() for pod in found.pods)
    return sum(1 for pod in pods if pod.workload == workload and pod.ready and not pod.terminating)


def _still_served(action: Action, facts: RolloutFacts, route: RouteFacts) -> bool:
    """Whether a workload that would go has ready pods which the route still sends traffic to."""
    if not isinstance(action, RemoveRevision) or not _ready(action.revision, facts):
        return False
    by_canary = route.canary == action.revision and route.most != 0
    return by_canary or (route.stable == action.revision and route.least != _ALL)


def _percent(state: RolloutState, facts: RolloutFacts, now: float, actions: tuple[Action, ...]) -> int:
    if state.phase is Phase.WATCHING:
        return _ALL  # both select the promoted one, and the way back finds stable's without a share
    if state.phase not in _SERVES or state.candidate is None or state.stable is None:
        return 0
    only = next((action.revision for action in actions if isinstance(action, ServeOnly)), "")
    if only:
        return _ALL if only == state.candidate.revision else 0
    if state.phase in _JUDGED:
        return share_of_trial(state, facts, now)
    asked = {action.revision: action.replicas for action in actions if isinstance(action, EnsureRevision)}
    source, found = _stable_ready(state, facts), _candidate_ready(state, facts)
    stays, keeps = asked.get(state.stable.revision), asked.get(state.candidate.revision, 0)
    source = source if stays is None else min(source, stays)
    found = found if keeps is None else min(found, keeps)
    if state.phase is Phase.PROMOTING and source > 0 and found > 0:
        return max(by_pods(source, found), share_of_trial(state, facts, now))
    return by_pods(source, found)


def _kept(action: Action, state: RolloutState, facts: RolloutFacts, now: float) -> Action:
    """The action with the pods that still have a share of the traffic."""
    route, stable, tried = facts.route, state.stable, state.candidate
    if not isinstance(action, EnsureRevision) or action.replicas is None or route is None:
        return action
    if stable is None or tried is None or stable.workload == tried.workload:
        return action
    if state.phase is Phase.PROMOTING and action.revision == stable.revision and stable.workload == route.stable:
        least = min(_stable_ready(state, facts), 1)
        return action if route.least == _ALL else replace(action, replicas=max(action.replicas, least))
    if state.phase is Phase.ROLLING_BACK and action.revision == tried.revision and tried.workload == route.canary:
        served = route.most > 0 if route.most is not None else not overdue(facts, state, now)
        ready = _candidate_ready(state, facts)
        if served and ready > 0:
            # In place its room is needed one by one.
            least = 1 if state.strategy is Strategy.IN_PLACE else canary(facts, tried.revision).desired
            return replace(action, replicas=max(action.replicas, least))
    return action


def _stable_ready(state: RolloutState, facts: RolloutFacts) -> int:
    return facts.revision(state.stable.revision).ready if state.stable is not None else 0


def _candidate_ready(state: RolloutState, facts: RolloutFacts) -> int:
    return canary(facts, state.candidate.revision).ready if state.candidate is not None else 0
