"""A small cluster for the rollout's tests: it does what the actions say, and its pods behave as their revision does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum

from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Action,
    Announce,
    EnsureRevision,
    Phase,
    Policy,
    ReconfigureTarget,
    RemoveRevision,
    Retry,
    RevisionFacts,
    RolloutFacts,
    RolloutState,
    RouteFacts,
    ServeOnly,
    ShareTraffic,
    Source,
    Stable,
    TuneLive,
    WindowFacts,
    Wish,
)
from trimtab.model.snapshot import Live, PodFacts, PodTrouble
from trimtab.model.verdict import Call, Verdict
from trimtab.reconcile.live import Given, attributed, chosen, owner_of

START_SECONDS = 20.0
TAKE_SECONDS = 5.0  # until an engine shows that it has other live values
LIVE_KNOB = "maxNumActiveSeqs"
_JUDGED = (Phase.CANARY_JUDGING, Phase.SHIFTING, Phase.PROMOTING, Phase.WATCHING)


class Nature(Enum):
    """How the pods of a revision turn out."""

    GOOD = "good"
    CRASHES = "crashes"
    NEVER_READY = "never ready"
    DOES_NOT_FIT = "does not fit"
    REFUSED = "refused by a quota"
    HARMFUL = "harmful"
    HARMFUL_LATER = "harmful once it carries everything"
    UNDECIDED = "no verdict"
    DIES = "dies after it has served"
    OTHER_OUTPUTS = "outputs are beyond the budget"
    NOT_COMPARED = "outputs cannot be compared"
    LIVE_REFUSED = "its live values are refused"


GOOD = Verdict(Call.GOOD, Reason.WITHIN_SLO, "All objectives are kept.", {"canary.requests": 100.0})
BAD = Verdict(Call.BAD, Reason.SLO_REGRESSION, "TTFT p95 is 3000 ms, the objective is 600 ms.")
SAME_OUTPUTS = Verdict(Call.GOOD, Reason.WITHIN_QUALITY_BUDGET, "Within the budget.", {"perplexity": 0.001})
OTHER_OUTPUTS = Verdict(
    Call.BAD, Reason.QUALITY_REGRESSION, "Perplexity +21 %, the budget is 2 %.", {"perplexity": 0.21}
)
UNCOMPARED = Verdict(Call.UNKNOWN, Reason.QUALITY_UNKNOWN, "Pod rev2-1 cannot be reached.")
UNKNOWN = Verdict(Call.UNKNOWN, Reason.TOO_FEW_SAMPLES, "3 of 30 requests seen.")


@dataclass
class Pod:
    name: str
    revision: str
    created_at: float
    ready_since: float | None = None
    restarts: int = 0
    stuck: bool = False
    ends_at: float | None = None  # it answers what it has accepted until then
    placed: bool = True
    runs: str = ""  # the revision whose live values it was given
    told_at: float = 0.0


@dataclass
class Workload:
    revision: str
    desired: int
    pods: list[Pod] = field(default_factory=list)
    owned: bool = True
    runs: str = ""
    removed: bool = False  # its object is gone, its pods still end
    made_for: Stable | None = None

    @property
    def living(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.ends_at is None]


def wish(number: int, source: Source = Source.USER, active: int | None = None) -> Wish:
    """The configuration with `number` sequences, of which `active` run; the revision carries both in its name."""
    values = {"maxNumSeqs": number} if active is None else {"maxNumSeqs": number, LIVE_KNOB: active}
    name = f"rev{number}" if active is None else f"rev{number}-{active}"
    plan = f"plan-{name.removeprefix('rev')}" if source is Source.PLAN else ""
    return Wish(config=EngineConfig(values), template="t", source=source, revision=name, plan=plan)


class Cluster:
    """Workloads, their pods, and the clock. `slots`: the pods that there is room for, those that still end included;
    `drain`: the seconds that a pod takes to end.
    """

    def __init__(self, *, adopted: bool = False, slots: int | None = None, drain: float = 0.0) -> None:
        self.now = 1000.0
        self.adopted = adopted
        self.workloads: dict[str, Workload] = {}
        self.natures: dict[str, Nature] = {}
        self.slots = slots
        self.drain = drain
        self.served = ""
        self.route: RouteFacts | None = None
        self.route_refuses = False  # somebody else holds its weights
        self.live = False  # whether the engine has live knobs
        self.created = 0

    def adopt(self, revision: str, replicas: int) -> None:
        """The user's own workload, which runs `revision`."""
        self.workloads["target"] = Workload(revision, replicas, owned=False, runs=revision)
        self.tick(0.0)

    def nature(self, revision: str) -> Nature:
        return self.natures.get(revision, Nature.GOOD)

    def perform(self, actions: Iterable[Action], *, whole: bool = True) -> None:
        """`whole`: False when the operator dies in the middle, after its traffic is set and some actions are done."""
        actions = tuple(actions)
        if actions or whole:
            # As the shell does it: the Service comes first, and without this action it selects all.
            self.served = next((action.revision for action in actions if isinstance(action, ServeOnly)), "")
        for action in actions:
            match action:
                case ServeOnly():
                    pass
                case ShareTraffic():
                    self.route = self._routed(action)
                case EnsureRevision(revision=revision, replicas=replicas, workload=name):
                    made_for = Stable(name, action.config, action.template)
                    new = Workload(name, 1 if replicas is None else replicas, made_for=made_for)
                    workload = self.workloads.setdefault(name, new)
                    workload.removed = False
                    if replicas is not None:
                        assert replicas >= 0, f"negative replicas for {revision}"
                        workload.desired = replicas
                case RemoveRevision(revision=revision):
                    gone = self.workloads.get(revision)
                    if gone is not None:
                        gone.desired = 0
                        gone.removed = True
                case ReconfigureTarget(revision=revision):
                    self.workloads["target"].runs = revision
                case TuneLive() | Announce():
                    pass
        self._tune([action for action in actions if isinstance(action, TuneLive)])
        self._scale()

    def _routed(self, action: ShareTraffic) -> RouteFacts:
        before = self.route or RouteFacts(least=50, most=50)
        share = before.most if action.percent is None or self.route_refuses else action.percent
        return RouteFacts(stable=action.stable, canary=action.canary, least=share, most=share)

    def lost_traffic(self) -> int:
        """The per cent of the route's traffic that reaches no ready pod."""
        if self.route is None or self.route.most is None:
            return 0
        shares = {self.route.stable: 100 - self.route.most, self.route.canary: self.route.most}
        if self.route.stable == self.route.canary:
            shares = {self.route.stable: 100}
        return sum(share for revision, share in shares.items() if self.ready(revision) == 0)

    def _tune(self, wanted: list[TuneLive]) -> None:
        """As the shell does it."""
        pods = {pod.name: pod for workload in self.workloads.values() for pod in workload.pods}
        given = {name: _given(pod) for name, pod in pods.items()}
        for name, action in chosen(wanted, [self._facts(pod) for pod in pods.values()], given).items():
            assert self.live, "an engine without live knobs is tuned"
            if given[name].runs != action.revision:
                pods[name].runs, pods[name].told_at = action.revision, self.now

    def tick(self, seconds: float) -> None:
        """Time passes: pods are created, become ready, fail; an adopted workload replaces one pod at a time."""
        self.now += seconds
        self._scale()
        for workload in self.workloads.values():
            for pod in workload.pods:
                self._live(pod)
        target = self.workloads.get("target")
        if target is not None:
            self._roll(target)

    def kill(self, revision: str) -> None:
        """One pod of this revision is lost with its node, and replaced."""
        workload = self.workloads.get(revision)
        if workload is not None and workload.pods:
            workload.pods.pop(0)
            self._scale()

    def ready(self, revision: str | None = None) -> int:
        return sum(
            1
            for workload in self.workloads.values()
            for pod in workload.living
            if pod.ready_since is not None and revision in (None, pod.revision)
        )

    def capacity(self) -> int:
        """Ready pods that traffic reaches."""
        return self.ready(self.served or None)

    def pods(self) -> int:
        """All that take room."""
        return sum(len(workload.pods) for workload in self.workloads.values())

    def revisions(self, stable: str, state: RolloutState | None = None) -> dict[str, RevisionFacts]:
        """As the API server would show it; an adopted target is listed under the stable revision's name."""
        found: dict[str, RevisionFacts] = {}
        for workload in self.workloads.values():
            name = workload.revision if workload.owned else stable
            if self.live and state is not None:
                name = owner_of(state, workload.revision)
            if workload.removed and not workload.pods:
                continue
            refused = self.nature(workload.revision) is Nature.REFUSED and workload.desired > 0
            found[name] = RevisionFacts(
                name,
                desired=workload.desired,
                pods=tuple(self._facts(pod) for pod in workload.pods),
                message="exceeded quota: pods=2, used 2, limited 2" if refused else "",
                settled=workload.owned or all(pod.revision == workload.runs for pod in workload.pods),
                owned=workload.owned,
                runs="" if workload.owned else workload.runs,
                made_for=workload.made_for,
            )
        return self._by_values(found, state) if self.live and state is not None else found

    def _by_values(self, found: dict[str, RevisionFacts], state: RolloutState) -> dict[str, RevisionFacts]:
        """Each pod under the revision whose live values it was given."""
        pods = [pod for workload in self.workloads.values() for pod in workload.pods]
        by_revision: dict[str, list[PodFacts]] = {name: [] for name in found}
        for pod in pods:
            revision = attributed(state, _given(pod))
            facts = replace(
                self._facts(pod), revision=revision, live=self._has_taken(pod, revision), carrier=pod.revision
            )
            by_revision.setdefault(revision, []).append(facts)
        return {
            name: replace(found.get(name) or RevisionFacts(name, desired=0), pods=tuple(pods))
            for name, pods in by_revision.items()
        }

    def _has_taken(self, pod: Pod, revision: str) -> Live:
        runs, nature = pod.runs or pod.revision, self.nature(revision)
        if runs != revision or self.now - pod.told_at < TAKE_SECONDS:
            return Live.PENDING
        if nature is Nature.LIVE_REFUSED and pod.runs:
            return Live.REFUSED
        return Live.UNKNOWN if nature is Nature.NEVER_READY else Live.IN_FORCE

    def verdict(self, state: RolloutState) -> Verdict | None:
        """What a judge that knows the natures would say."""
        if state.candidate is None or state.phase not in (
            Phase.CANARY_JUDGING,
            Phase.SHIFTING,
            Phase.PROMOTING,
            Phase.WATCHING,
        ):
            return None
        nature = self.nature(state.candidate.revision)
        if nature is Nature.HARMFUL or (nature is Nature.HARMFUL_LATER and state.phase is Phase.WATCHING):
            return BAD
        return UNKNOWN if nature is Nature.UNDECIDED else GOOD

    def quality(self, state: RolloutState) -> Verdict | None:
        """What a comparison of the outputs comes to, for the revisions whose outputs are looked at."""
        if state.candidate is None or state.phase is not Phase.CANARY_JUDGING:
            return None
        nature = self.nature(state.candidate.revision)
        return {Nature.OTHER_OUTPUTS: OTHER_OUTPUTS, Nature.NOT_COMPARED: UNCOMPARED}.get(nature)

    def _scale(self) -> None:
        for workload in self.workloads.values():
            workload.pods = [pod for pod in workload.pods if pod.ends_at is None or pod.ends_at > self.now]
            # As a ReplicaSet does it: pods that are not ready go first, then the youngest.
            living = sorted(workload.living, key=lambda pod: (pod.ready_since is None, pod.created_at))
            surge = 0 if all(pod.revision == living[0].revision for pod in living) else 1
            for pod in living[max(workload.desired, 0) + surge :]:
                self._end(workload, pod)
            if self.nature(workload.revision) is Nature.REFUSED:
                continue
            while len(workload.living) < workload.desired:
                self._create(workload, workload.revision if workload.owned else workload.runs)
        self.workloads = {name: found for name, found in self.workloads.items() if not found.removed or found.pods}
        self._place()

    def _end(self, workload: Workload, pod: Pod) -> None:
        pod.ends_at = self.now + self.drain
        if self.drain <= 0 or pod.ready_since is None:
            workload.pods.remove(pod)

    def _place(self) -> None:
        """The scheduler: the oldest pods first, as long as there is room."""
        pods = sorted((pod for item in self.workloads.values() for pod in item.pods), key=lambda pod: pod.created_at)
        taken = sum(1 for pod in pods if pod.placed)
        for pod in pods:
            if not pod.placed and (self.slots is None or taken < self.slots):
                pod.placed, pod.created_at, taken = True, self.now, taken + 1

    def _create(self, workload: Workload, revision: str) -> None:
        self.created += 1
        workload.pods.append(Pod(f"{revision}-{self.created}", revision, self.now, placed=self.slots is None))

    def _live(self, pod: Pod) -> None:
        age = self.now - pod.created_at
        nature = self.nature(pod.revision)
        starts = nature not in (Nature.CRASHES, Nature.NEVER_READY, Nature.DOES_NOT_FIT, Nature.REFUSED)
        if (
            starts
            and pod.placed
            and pod.ends_at is None
            and not pod.stuck
            and pod.ready_since is None
            and age >= START_SECONDS
        ):
            pod.ready_since = self.now
        if nature is Nature.DIES and pod.ready_since is not None and self.now - pod.ready_since >= START_SECONDS:
            pod.ready_since, pod.restarts, pod.stuck = None, pod.restarts + 1, True

    def _roll(self, target: Workload) -> None:
        old = [pod for pod in target.pods if pod.revision != target.runs]
        new = [pod for pod in target.pods if pod.revision == target.runs]
        spare = sum(1 for pod in new if pod.ready_since is not None) + len(old) - target.desired
        if old and spare > 0:
            target.pods.remove(old[0])
        elif old and all(pod.ready_since is not None for pod in new):
            self._create(target, target.runs)
            target.pods.sort(key=lambda pod: pod.created_at)

    def _facts(self, pod: Pod) -> PodFacts:
        trouble, message = None, ""
        age = self.now - pod.created_at
        nature = self.nature(pod.revision)
        if nature is Nature.CRASHES and age >= 5.0:
            trouble, message = PodTrouble.CRASH_LOOP, "vllm: error: argument --block-size: invalid choice: 7"
        elif nature is Nature.DOES_NOT_FIT or not pod.placed:
            trouble, message = PodTrouble.UNSCHEDULABLE, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        return PodFacts(
            name=pod.name,
            revision=pod.revision,
            ready=pod.ready_since is not None,
            terminating=pod.ends_at is not None,
            restarts=pod.restarts,
            trouble=trouble,
            trouble_message=message,
            created_at=pod.created_at,
            ready_since=pod.ready_since,
        )


def _given(pod: Pod) -> Given:
    annotations = {"trimtab.dev/runs": pod.runs} if pod.runs else {}
    return Given(carrier=pod.revision, annotations=annotations, uid=pod.name)


@dataclass
class World:
    """A deployment, its persisted rollout state and its cluster: what a shell would hold together."""

    cluster: Cluster
    policy: Policy = field(default_factory=lambda: Policy(replicas=2, min_ready_deadline=120.0, judge_deadline=180.0))
    state: RolloutState = field(default_factory=RolloutState)
    user: Wish = field(default_factory=lambda: wish(1))
    planned: Wish | None = None
    paused: bool = False
    suspended: bool = False
    abort: bool = False
    metrics: bool = True
    gpus_free: int | None = None
    gpus_per_pod: int = 0
    pods_needed: int | None = 1
    pods_admitted: int | None = None
    window: WindowFacts | None = None
    retry: Retry | None = None
    git_owner: str = ""

    def facts(self) -> RolloutFacts:
        stable = self.state.stable.revision if self.state.stable is not None else self.user.revision
        known = self.cluster.verdict(self.state)
        on_trial, slots = self.state.candidate is not None, self.cluster.slots
        return RolloutFacts(
            policy=self.policy,
            revisions=self.cluster.revisions(stable, self.state),
            user=self._live_or_not(self._user()),
            user_config=self.user.config,
            planned=self._live_or_not(self.planned) if self.planned is not None else None,
            verdict=known if self.metrics or known is None else UNKNOWN,
            quality=self.cluster.quality(self.state),
            quality_needed=self.cluster.quality(self.state) is not None,
            gpus_free=self.gpus_free if slots is None else max(0, slots - self.cluster.pods()),
            gpus_per_pod=self.gpus_per_pod if slots is None else 1,
            paused=self.paused,
            suspended=self.suspended,
            abort=self.abort and on_trial,
            pods_needed=self.pods_needed,
            pods_admitted=self.pods_admitted,
            window=self.window,
            retry=self.retry,
            git_owner=self.git_owner,
            served=self.cluster.served,
            route=self.cluster.route,
        )

    def _user(self) -> Wish:
        """The spec merged with what was tuned: only knobs that were edited since it was adopted are the user's wish."""
        stable = self.state.stable
        if stable is None:
            return self.user
        edited = self.state.user_config.changes_to(self.user.config)
        config = stable.config.with_changes(edited)
        number, active = config.get("maxNumSeqs"), config.get(LIVE_KNOB)
        assert isinstance(number, int) and (active is None or isinstance(active, int))
        return wish(number, active=active)

    def _live_or_not(self, wanted: Wish) -> Wish:
        stable = self.state.stable
        changes = stable.config.changes_to(wanted.config) if stable is not None else {}
        return replace(wanted, live=self.cluster.live and set(changes) == {LIVE_KNOB})
