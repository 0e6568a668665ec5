"""`OptimizationPlan`: a proposal that cannot be changed once it is made, and what came of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from trimtab.api.v1alpha1.base import (
    ApiModel,
    Count,
    Flag,
    Instant,
    Large,
    Line,
    Name,
    StatusModel,
    Text,
    Word,
    list_map,
    rules,
)
from trimtab.api.v1alpha1.knobs import EngineKnobs
from trimtab.api.v1alpha1.spec import Knob
from trimtab.api.v1alpha1.status import Condition, FindingSeverity, Numbers
from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.plan import Effort, Metric, OptimizationType

Value = Annotated[str, StringConstraints(max_length=253)]
Sentences = Annotated[tuple[Line, ...], Field(max_length=16)]


class ChangeSpec(ApiModel):
    """One knob. An absent value stands for the engine's default."""

    knob: Knob
    current: Value | None = Field(default=None, alias="from")
    recommended: Value | None = Field(default=None, alias="to")
    reason: Line


class EffectSpec(ApiModel):
    """The predicted ratio of new to old of one metric, in thousandths, with its interval."""

    metric: Metric
    ratio_permille: Large
    low_permille: Large
    high_permille: Large
    basis: Line
    """The rule or the model that it comes from."""


class OptimizationSpec(ApiModel):
    """One step: tried, judged and kept or reverted on its own."""

    type: OptimizationType
    title: Line
    description: Text
    changes: Annotated[tuple[ChangeSpec, ...], Field(min_length=1, max_length=32, json_schema_extra=list_map("knob"))]
    impact: FindingSeverity
    effects: Annotated[tuple[EffectSpec, ...], Field(max_length=16)] = ()
    effort: Effort
    addresses: Annotated[tuple[BottleneckKind, ...], Field(max_length=16)] = ()
    risks: Sentences = ()
    prerequisites: Sentences = ()
    trades: Annotated[tuple[Metric, ...], Field(max_length=16)] = ()
    """Metrics knowingly made worse: judged by their SLO alone."""
    alters_outputs: Flag = False
    """Whether the text that the model writes can change."""


class RejectedSpec(ApiModel):
    """An alternative that was considered and left."""

    title: Line
    reason: Line


class PlanSpec(ApiModel):
    """The proposal."""

    model_config = rules(("self == oldSelf", "the plan cannot be changed; a new proposal is a new plan"))
    target: Name
    """The LLMDeployment that it was made for."""
    engine: Word
    engine_version: Word
    start: EngineKnobs
    """The configuration that it was made for."""
    result: EngineKnobs
    """What all steps lead to."""
    optimizations: Annotated[tuple[OptimizationSpec, ...], Field(min_length=1, max_length=16)]
    improvement: EffectSpec
    """Of the objective's metric, for all steps together."""
    rejected: Annotated[tuple[RejectedSpec, ...], Field(max_length=64)] = ()
    fingerprint_milli: Annotated[dict[str, Large], Field(max_length=64)] = Field(default_factory=dict)
    """The workload that it was made for, in thousandths of the base units."""
    gpus_while_rolling_out: Count = 0
    estimated: Flag = True
    """True while effects come from documented rules instead of a fitted model."""
    shortfall: Line = ""
    """The targets that no allowed configuration is predicted to keep, each with the nearest value; empty if none."""


class EffectStatus(StatusModel):
    """The predicted ratio of new to old of one metric, and the one measured side by side; in thousandths."""

    metric: Metric
    predicted_permille: Large
    low_permille: Large
    high_permille: Large
    measured_permille: Large | None = None
    """Of latencies canary to stable in the same window, by the mean or else at p95; of throughput after the trial to
    before it. Absent where that was not or cannot be known."""
    unmeasured: Line | None = None
    """Why there is no measured ratio, where the load is the reason."""


class StepStatus(StatusModel):
    """What came of one step: the verdict, the times, the measured effect beside the predicted one."""

    step: Count
    """Its index among the optimizations, from 0."""
    revision: Word
    outcome: Word | None = None
    """Promoted, Proven, RolledBack, Abandoned, Superseded or Withdrawn; absent while it is on trial."""
    reason: Word
    message: Text = ""
    started_at: Instant | None = None
    served_at: Instant | None = None
    """When it first served traffic."""
    decided_at: Instant | None = None
    ended_at: Instant | None = None
    effects: Annotated[tuple[EffectStatus, ...], Field(max_length=16, json_schema_extra=list_map("metric"))] = ()
    measured: Numbers = Field(default_factory=dict)
    """What canary and stable measured when it was decided, in base units."""


class PlanStatus(StatusModel):
    """What came of it."""

    phase: Word | None = None
    """Proposed, AwaitingApproval, Trying, or how the newest trial of a step ended."""
    approved: Flag | None = None
    """Whether spec.tuning.approvedPlan of the LLMDeployment has named it."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))] = ()
    steps: Annotated[tuple[StepStatus, ...], Field(max_length=16, json_schema_extra=list_map("step"))] = ()
