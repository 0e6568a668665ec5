"""The rollout's nouns: its persisted state, the facts that it is stepped with, and the actions that it asks for.

Nothing here is a Kubernetes object: revisions have replicas and serve traffic, or do not. All of `RolloutState` is
persisted in the resource's status, so a restarted operator continues where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from trimtab.model.config import EngineConfig
from trimtab.model.plan import Metric
from trimtab.model.reason import Reason
from trimtab.model.snapshot import Live, PodFacts
from trimtab.model.verdict import Verdict


class Phase(StrEnum):
    """Where a rollout is. `Starting` only until the first revision serves."""

    STARTING = "Starting"
    STABLE = "Stable"
    CANARY_STARTING = "CanaryStarting"
    CANARY_JUDGING = "CanaryJudging"
    SHIFTING = "Shifting"
    PROMOTING = "Promoting"
    WATCHING = "Watching"
    ROLLING_BACK = "RollingBack"


class Strategy(StrEnum):
    """How a candidate's pods come beside, or in the place of, those that serve."""

    CANARY = "Canary"  # a few pods beside the stable ones, then replicas move
    BLUE_GREEN = "BlueGreen"  # as many pods as serve beside them, then all traffic is switched
    IN_PLACE = "InPlace"  # one pod at a time gives its room to a new one
    LIVE = "Live"  # pods that run take other values, a few first, then all


class Source(StrEnum):
    """Who asked for a configuration."""

    USER = "User"
    PLAN = "Plan"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration on trial. `template` names everything else of the pods (image, model, resources) by hash."""

    revision: str
    config: EngineConfig
    template: str
    source: Source
    plan: str = ""  # name of the OptimizationPlan
    step: int = 0  # index of the optimization in it
    trades: frozenset[Metric] = frozenset()
    alters_outputs: bool = False
    carrier: str = ""  # Live: the revision whose workload its pods belong to

    @property
    def workload(self) -> str:
        """The revision that its workload is named after."""
        return self.carrier or self.revision


@dataclass(frozen=True, slots=True)
class Stable:
    """The revision that serves. `carrier`: the one whose workload its pods belong to; empty: its own."""

    revision: str
    config: EngineConfig
    template: str
    carrier: str = ""

    @property
    def workload(self) -> str:
        """The revision that its workload is named after."""
        return self.carrier or self.revision


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finished trial, for the history in status and the memory of what failed."""

    revision: str
    config: EngineConfig
    source: Source
    plan: str
    step: int
    outcome: Reason  # Promoted, Proven, RolledBack, Abandoned, Superseded, Withdrawn
    reason: Reason
    message: str
    started_at: float
    served_at: float | None  # when it first served traffic
    decided_at: float
    ended_at: float
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """How the current trial ends, decided and not yet carried out; it becomes part of the Attempt."""

    outcome: Reason  # Promoted, Proven, RolledBack, Abandoned, Superseded, Withdrawn
    reason: Reason
    message: str
    at: float
    evidence: Mapping[str, float] = field(default_factory=dict)  # of a promotion: what stable measured beside it


@dataclass(frozen=True, slots=True)
class RolloutState:
    """Persisted. `since`: when the phase began; `holding`: why the phase does not move on, for people."""

    phase: Phase = Phase.STARTING
    since: float = 0.0
    stable: Stable | None = None
    candidate: Candidate | None = None
    previous: Stable | None = None  # restorable while the promoted one is watched: the last known good
    started_at: float = 0.0  # of the current trial
    served_at: float | None = None  # when the current candidate first served traffic
    verdict: Verdict | None = None  # the last one on the current candidate, or the one that decided
    attempts: tuple[Attempt, ...] = ()  # newest first, bounded
    bad: tuple[str, ...] = ()  # revisions that failed and are not tried again, newest first, bounded
    user_config: EngineConfig = field(default_factory=EngineConfig)  # what the spec asked for when last adopted
    user_template: str = ""
    holding: str = ""
    held_by: Reason | None = None  # what keeps the next trial from starting, by its machine reason
    decision: Decision | None = None  # of the current trial, from the verdict until the Attempt is written
    moved: bool = False  # the stable workload has been asked to give way in this trial, so a rollback must restore it
    previous_user_config: EngineConfig = field(default_factory=EngineConfig)  # user_config, as it was for `previous`
    previous_user_template: str = ""
    paused_at: float | None = None  # time in a pause does not count against a deadline
    plan_starts: tuple[float, ...] = ()  # when Trimtab's own trials of the last day began, newest first, bounded
    quality: Verdict | None = None  # of the current candidate's outputs, where it can alter them
    strategy: Strategy = Strategy.CANARY  # of the current trial, or of the last one
    strategy_because: str = ""  # why it was chosen, for people
    share: int = 0  # index of the share, in `Policy.shares`, that the candidate has or is about to have


@dataclass(frozen=True, slots=True)
class RevisionFacts:
    """One revision as the cluster has it now."""

    revision: str
    desired: int  # replicas that its workload asks for
    pods: tuple[PodFacts, ...] = ()
    message: str = ""  # why the workload cannot create pods, e.g. an exceeded quota
    settled: bool = True  # False while the workload itself is still rolling its own template (adopted targets)
    owned: bool = True  # False for the user's own workload, which is the stable revision of an adopted target
    runs: str = ""  # adopted target: the revision that its template now asks for; empty: `revision` itself
    made_for: Stable | None = None  # what its workload was made for, as it says itself; None: not known

    @property
    def ready(self) -> int:
        return sum(1 for pod in self.pods if pod.ready and not pod.terminating)

    @property
    def in_force(self) -> int:
        """Ready pods whose engine has the settings of this revision."""
        return sum(1 for pod in self.pods if pod.ready and not pod.terminating and pod.live is Live.IN_FORCE)

    @property
    def gone(self) -> bool:
        return self.desired == 0 and not self.pods


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of the spec that governs a rollout; durations in seconds."""

    replicas: int
    canary_replicas: int = 1
    min_ready_deadline: float = 600.0  # a canary that is not ready by then is abandoned
    judge_deadline: float = 900.0  # an Unknown that lasts this long is a rollback
    watch_seconds: float = 120.0
    interval: float = 15.0
    cooldown: float = 300.0
    max_attempts: int = 10  # per day, Trimtab's own
    adopted: bool = False  # a targetRef: the stable revision is the user's workload
    replicas_owned_elsewhere: bool = False  # an HPA or ScaledObject owns them
    strategy: Strategy | None = Strategy.CANARY  # None: chosen for each trial from what is free
    shares: tuple[int, ...] = ()  # Canary: per cent of the replicas, rising, below 100; empty: the canary alone
    share_seconds: float = 60.0  # the least time at each share
    min_available: int | None = None  # InPlace: ready pods that must stay; None: all but one, and at least one
    drain_seconds: float = 0.0  # how long a pod that ends may still take


@dataclass(frozen=True, slots=True)
class Wish:
    """What should run next: the user's configuration, or one optimization of an approved plan."""

    config: EngineConfig
    template: str
    source: Source
    revision: str
    plan: str = ""
    step: int = 0
    trades: frozenset[Metric] = frozenset()
    alters_outputs: bool = False
    live: bool = False  # it differs from stable in what running pods take, and in nothing else


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """What the maintenance windows say now. `opens_at`: the next one's begin, in seconds since the epoch."""

    is_open: bool
    opens_at: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """A person's word that a failed revision may be tried once more: what ended before `at` is forgiven."""

    revision: str
    at: float


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """A route that shares the traffic by weight between two backends, stable's and the canary's.

    `stable`, `canary`: the revision whose pods each of them selects; empty: not one alone. `least`, `most`: the per
    cent of the traffic that the canary's has, over the rules of the route; None: not known. `obstacle`: why the route
    cannot be used, with the way out in the message.
    """

    stable: str = ""
    canary: str = ""
    least: int | None = None
    most: int | None = None
    obstacle: Reason | None = None
    message: str = ""

    def gives(self, percent: int) -> bool:
        """Whether every rule gives the canary's backend exactly this share."""
        return self.least == self.most == percent


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """All that `step` may look at besides its state and the time."""

    policy: Policy
    revisions: Mapping[str, RevisionFacts]
    user: Wish  # what the spec asks for, merged with what has been tuned
    user_config: EngineConfig  # the spec's own configuration, unmerged
    planned: Wish | None = None  # the next optimization that may be tried, already allowed by mode and approval
    verdict: Verdict | None = None  # on the candidate, or while watching on the promoted revision
    quality: Verdict | None = None  # on the candidate's outputs, when they have been compared anew
    quality_needed: bool = False  # the candidate can alter outputs, so nothing but Good lets it advance
    gpus_free: int | None = None  # None: unknown
    gpus_per_pod: int = 0
    paused: bool = False
    suspended: bool = False
    abort: bool = False  # the user asked for a rollback
    pods_admitted: int | None = None  # further pods that the quotas would admit; None: no quota, or unknown
    pods_needed: int | None = None  # ready pods that the present load needs; None: unknown
    pods_protected: int = 0  # ready pods that a PodDisruptionBudget asks for
    git_owner: str = ""  # the tool that applies the adopted workload from a repository, and must not be fought
    window: WindowFacts | None = None  # None: Trimtab's own trials may begin at any time
    retry: Retry | None = None
    served: str = ""  # the revision that alone has the traffic; empty: all revisions have their share
    route: RouteFacts | None = None  # None: traffic is shared by numbers of pods
    revision_scaler: str = ""  # an autoscaler that points at the workload of one owned revision

    def revision(self, name: str) -> RevisionFacts:
        return self.revisions.get(name) or RevisionFacts(name, desired=0)


@dataclass(frozen=True, slots=True)
class EnsureRevision:
    """A workload for this configuration exists with this many replicas.

    Replicas None: whoever owns them decides; a number that we set earlier stays until another writer owns the field.
    Never asked for the stable revision of an adopted target, which is the user's workload.
    """

    revision: str
    config: EngineConfig
    template: str
    replicas: int | None
    carrier: str = ""  # the revision that the workload is named after; empty: this one

    @property
    def workload(self) -> str:
        """The revision that the workload is named after."""
        return self.carrier or self.revision


@dataclass(frozen=True, slots=True)
class TuneLive:
    """Of the pods of the workload that `carrier` names, `pods` have the live values of this revision.

    `pods` None: all that no other action of the kind asks for.
    """

    carrier: str
    revision: str
    config: EngineConfig
    pods: int | None


@dataclass(frozen=True, slots=True)
class RemoveRevision:
    """The workload of this revision goes: it has no replicas left, or no state knows it and no capacity rests on it."""

    revision: str


@dataclass(frozen=True, slots=True)
class ReconfigureTarget:
    """Adopted workloads only: the user's workload takes this configuration through its own rolling update."""

    revision: str
    config: EngineConfig
    template: str


@dataclass(frozen=True, slots=True)
class ServeOnly:
    """All traffic goes to the pods of one revision's workload. Without this action every ready pod has its share."""

    revision: str


@dataclass(frozen=True, slots=True)
class ShareTraffic:
    """The route's backends select these revisions, and the canary's has this share in per cent; None: as it is."""

    stable: str
    canary: str
    percent: int | None


@dataclass(frozen=True, slots=True)
class Announce:
    """An event for people and machines: a Normal or a Warning, once per transition."""

    reason: Reason
    message: str
    warning: bool = False


Action: TypeAlias = EnsureRevision | TuneLive | RemoveRevision | ReconfigureTarget | ServeOnly | ShareTraffic | Announce
