"""`LLMDeployment.status`: what is, why, and where the rollout stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from trimtab.api.v1alpha1.base import (
    LIST_SET,
    Count,
    Flag,
    Instant,
    Line,
    Name,
    Number,
    Percent,
    Permille,
    StatusModel,
    Text,
    Word,
    list_map,
)
from trimtab.api.v1alpha1.knobs import EngineKnobs
from trimtab.model.plan import Metric
from trimtab.model.rollout import Phase, Source, Strategy
from trimtab.model.verdict import Call

ATTEMPTS_KEPT = 10
BAD_KEPT = 64

NUMBERS_KEPT = 64
Numbers = Annotated[dict[str, Number], Field(max_length=NUMBERS_KEPT)]


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One aspect of the state, as the API conventions describe it."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    status: ConditionStatus
    reason: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    message: Text = ""
    observed_generation: Count | None = None
    last_transition_time: Instant


class FindingSeverity(StrEnum):
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


class Finding(StatusModel):
    """One bottleneck."""

    kind: Word
    severity: FindingSeverity
    confidence_percent: Percent
    message: Line


class Measured(StatusModel):
    """The newest readings, rounded; a value that is not known is absent."""

    output_tokens_per_second: Count | None = None
    requests_per_second_milli: Count | None = None
    ttft_p50_milliseconds: Count | None = None
    ttft_p95_milliseconds: Count | None = None
    itl_p95_milliseconds: Count | None = None
    running: Count | None = None
    waiting: Count | None = None
    kv_usage_percent: Percent | None = None
    error_permille: Permille | None = None


class Role(StrEnum):
    STABLE = "Stable"
    CANARY = "Canary"
    DRAINING = "Draining"


class RevisionStatus(StatusModel):
    """One engine configuration that has pods."""

    name: Word
    role: Role
    replicas: Count = 0
    ready: Count = 0
    config: EngineKnobs = EngineKnobs()


class StableStatus(StatusModel):
    """A revision that serves, or did."""

    revision: Word
    config: EngineKnobs = EngineKnobs()
    template: Word
    carrier: Word = ""
    """The revision whose workload its pods belong to, where they took its values while they ran."""


class CandidateStatus(StatusModel):
    """The revision on trial."""

    revision: Word
    config: EngineKnobs = EngineKnobs()
    template: Word
    source: Source
    plan: Name | None = None
    step: Count = 0
    trades: Annotated[tuple[Metric, ...], Field(max_length=16, json_schema_extra=LIST_SET)] = ()
    alters_outputs: Flag = False
    carrier: Word = ""
    """The revision whose workload its pods belong to, where they take its values while they run."""


class VerdictStatus(StatusModel):
    """The newest judgement of the trial, or the one that decided."""

    call: Call
    reason: Word
    message: Text = ""
    evidence: Numbers = Field(default_factory=dict)


class DecisionStatus(StatusModel):
    """How the trial ends: decided, and not yet carried out."""

    outcome: Word
    reason: Word
    message: Text = ""
    at: Instant
    evidence: Numbers = Field(default_factory=dict)


class RolloutStatus(StatusModel):
    """Where the rollout stands. It is the operator's own memory: a restarted operator continues from here."""

    phase: Phase
    since: Instant
    stable: StableStatus | None = None
    candidate: CandidateStatus | None = None
    previous: StableStatus | None = None
    started_at: Instant | None = None
    """When the present trial began."""
    served_at: Instant | None = None
    verdict: VerdictStatus | None = None
    quality: VerdictStatus | None = None
    """What the comparison of the trial's outputs came to, where it can alter them."""
    bad: Annotated[tuple[Word, ...], Field(max_length=BAD_KEPT)] = ()
    user_config: EngineKnobs = EngineKnobs()
    user_template: Word = ""
    holding: Line = ""
    """Why it does not move on."""
    held_by: Word | None = None
    """The reason of that, where it keeps the next trial from starting."""
    decision: DecisionStatus | None = None
    moved: Flag = False
    """The stable workload has been asked to give way, so a rollback must restore it."""
    previous_user_config: EngineKnobs = EngineKnobs()
    previous_user_template: Word = ""
    paused_at: Instant | None = None
    plan_starts: Annotated[tuple[Instant, ...], Field(max_length=1000)] = ()
    """When Trimtab's own trials of the last day began, newest first."""
    strategy: Strategy = Strategy.CANARY
    """Of the present trial, or of the last one."""
    strategy_because: Line = ""
    """Why it was chosen."""
    share: Count = 0
    """The index of the step, among rollout.steps, that the candidate has or is about to have."""


class AttemptStatus(StatusModel):
    """One finished trial."""

    revision: Word
    config: EngineKnobs = EngineKnobs()
    source: Source
    plan: Name | None = None
    step: Count = 0
    outcome: Word
    reason: Word
    message: Text = ""
    started_at: Instant
    served_at: Instant | None = None
    decided_at: Instant
    ended_at: Instant
    measured: Numbers = Field(default_factory=dict)


class SloState(StrEnum):
    MET = "Met"
    VIOLATED = "Violated"
    UNKNOWN = "Unknown"


class Status(StatusModel):
    """What is."""

    observed_generation: Count | None = None
    replicas: Count | None = None
    selector: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """The label selector of the serving pods, for autoscalers."""
    phase: Word | None = None
    reason: Word | None = None
    slo: SloState | None = None
    bottleneck: Word | None = None
    plan: Name | None = None
    """The newest OptimizationPlan."""
    summary: Text | None = None
    """What is wrong, the number that shows it, and what is done about it."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))] = ()
    findings: Annotated[tuple[Finding, ...], Field(max_length=16)] = ()
    measured: Measured | None = None
    revisions: Annotated[tuple[RevisionStatus, ...], Field(max_length=16, json_schema_extra=list_map("name"))] = ()
    rollout: RolloutStatus | None = None
    attempts: Annotated[tuple[AttemptStatus, ...], Field(max_length=ATTEMPTS_KEPT)] = ()
    """Finished trials, newest first."""
