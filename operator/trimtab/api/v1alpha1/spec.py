"""`LLMDeployment.spec`: what should be served, how well, and how far Trimtab may go."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from trimtab.api.v1alpha1.base import (
    LIST_SET,
    ApiModel,
    Count,
    Flag,
    Label,
    Large,
    Milliseconds,
    Name,
    Permille,
    Port,
    Positive,
    list_map,
    rules,
)
from trimtab.api.v1alpha1.knobs import KNOBS, NUMBER_KNOBS, EngineKnobs
from trimtab.api.v1alpha1.pod import Accelerator, EnvVar, Pod, Resources
from trimtab.api.v1alpha1.rollout import FieldConflicts, Rollout

Argument = Annotated[str, StringConstraints(max_length=4096)]
Knob = Annotated[str, StringConstraints(max_length=63), Field(json_schema_extra={"enum": list(KNOBS)})]


class Model(ApiModel):
    """The model that is served."""

    name: Annotated[
        str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9])?$")
    ]
    """The name by which clients ask for it."""
    source: (
        Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9./][^\s]*$")] | None
    ) = None
    """A path in the container, or the model's name on the Hugging Face hub."""
    config_json: Annotated[str, StringConstraints(min_length=2, max_length=32_768)] | None = None
    """The model's config.json, for plans with predicted effects where the name is not that of a well-known model. It
    changes no pod."""


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Engine(ApiModel):
    """The engine that serves it."""

    model_config = rules(
        (
            "!has(self.args) || self.args.all(a, !a.startsWith('--') || self.args.filter(b, b == a).size() == 1)",
            "args holds an argument twice",
            ".args",
        ),
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9-]*$")]
    """vllm, sglang or tgi. One that Trimtab does not know is reported as UnknownEngine."""
    version: Annotated[
        str, StringConstraints(min_length=1, max_length=63, pattern=r"^v?[0-9]+(\.[0-9]+)*([-+.]?[A-Za-z0-9]+)*$")
    ]
    """The version of the engine in the image: it decides which flags and metrics there are."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\s]+$")] | None = None
    """The image that holds the engine in this version."""
    image_pull_policy: PullPolicy | None = None
    """As in a pod."""
    command: Annotated[tuple[Argument, ...], Field(max_length=16)] | None = None
    """Replaces the command that starts the engine; its arguments are still added."""
    config: EngineKnobs = EngineKnobs()
    """The configuration to start from. Trimtab tunes it within `tuning`; a change of it goes through a canary."""
    args: Annotated[tuple[Argument, ...], Field(max_length=64)] | None = None
    """Further arguments, passed to the engine as they are and never tuned."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64, json_schema_extra=list_map("name"))] | None = None
    port: Port = 8000
    """Where the engine serves its API and its metrics."""


class TargetKind(StrEnum):
    DEPLOYMENT = "Deployment"


class TargetRef(ApiModel):
    """A workload in the same namespace that somebody else made and Trimtab tunes."""

    kind: TargetKind = TargetKind.DEPLOYMENT
    name: Name
    container: Label = "engine"
    """The container that runs the engine."""
    field_conflicts: FieldConflicts = FieldConflicts.REFUSE
    """What happens when another field manager owns the engine's arguments: Refuse reports it, Override takes them."""


class Workload(ApiModel):
    """What the load is expected to be; used until it has been measured."""

    prompt_tokens: Positive | None = None
    output_tokens: Positive | None = None
    requests_per_second_milli: Count | None = None
    """Requests per second, in thousandths."""


class LatencyObjective(ApiModel):
    """Upper bounds of a latency at percentiles, in milliseconds."""

    model_config = rules(
        (
            "!(has(self.p50Milliseconds) && has(self.p95Milliseconds)) || self.p50Milliseconds <= self.p95Milliseconds",
            "p50Milliseconds must not be larger than p95Milliseconds",
            ".p50Milliseconds",
        ),
        (
            "!(has(self.p95Milliseconds) && has(self.p99Milliseconds)) || self.p95Milliseconds <= self.p99Milliseconds",
            "p95Milliseconds must not be larger than p99Milliseconds",
            ".p95Milliseconds",
        ),
        (
            "!(has(self.p50Milliseconds) && has(self.p99Milliseconds)) || self.p50Milliseconds <= self.p99Milliseconds",
            "p50Milliseconds must not be larger than p99Milliseconds",
            ".p50Milliseconds",
        ),
    )
    p50_milliseconds: Milliseconds | None = None
    p95_milliseconds: Milliseconds | None = None
    p99_milliseconds: Milliseconds | None = None


class SloSpec(ApiModel):
    """The service level objective: a regression of it is rolled back."""

    ttft: LatencyObjective | None = None
    """Time to first token."""
    itl: LatencyObjective | None = None
    """Inter-token latency."""
    e2e_latency: LatencyObjective | None = None
    """From the request to its last token."""
    error_rate_permille: Permille | None = None
    """The largest share of failed requests, in thousandths."""
    output_tokens_per_second: Count | None = None
    """The least throughput of all pods together; 0 is none."""


class Objective(StrEnum):
    THROUGHPUT = "Throughput"
    LATENCY = "Latency"
    COST = "Cost"


class Mode(StrEnum):
    OBSERVE = "Observe"
    RECOMMEND = "Recommend"
    APPROVE = "Approve"
    APPLY = "Apply"


class KnobBounds(ApiModel):
    """The values of a knob that a plan may choose."""

    model_config = rules(
        (
            "!(has(self.minimum) && has(self.maximum)) || self.minimum <= self.maximum",
            "minimum must not be larger than maximum",
            ".minimum",
        ),
        ("has(self.minimum) || has(self.maximum)", "minimum or maximum must be set"),
    )
    minimum: Large | None = None
    maximum: Large | None = None


class Knobs(ApiModel):
    """Which knobs a plan may touch."""

    model_config = rules(
        (
            "!(has(self.allowed) && has(self.locked)) || !self.allowed.exists(k, k in self.locked)",
            "a knob must not be both in allowed and in locked",
            ".locked",
        ),
        (
            "!(has(self.bounds) && has(self.locked)) || !self.bounds.exists(k, k in self.locked)",
            "a knob must not be both in bounds and in locked",
            ".locked",
        ),
        (
            f"!has(self.bounds) || self.bounds.all(k, k in [{', '.join(repr(knob) for knob in NUMBER_KNOBS)}])",
            f"bounds may name these knobs only: {', '.join(NUMBER_KNOBS)}",
            ".bounds",
        ),
    )
    allowed: Annotated[tuple[Knob, ...], Field(max_length=64, json_schema_extra=LIST_SET)] | None = None
    """When it is not empty, only these may be changed."""
    locked: Annotated[tuple[Knob, ...], Field(max_length=64, json_schema_extra=LIST_SET)] | None = None
    """These are never changed."""
    bounds: Annotated[dict[str, KnobBounds], Field(max_length=64)] | None = None


class Weekday(StrEnum):
    MONDAY = "Monday"
    TUESDAY = "Tuesday"
    WEDNESDAY = "Wednesday"
    THURSDAY = "Thursday"
    FRIDAY = "Friday"
    SATURDAY = "Saturday"
    SUNDAY = "Sunday"


class Window(ApiModel):
    """A time in which Trimtab's own trials may begin."""

    days: Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7, json_schema_extra=LIST_SET)]
    """The days on which it opens."""
    start: Annotated[str, StringConstraints(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    """When it opens, like 22:30."""
    duration_minutes: Annotated[int, Field(strict=True, ge=1, le=10_080)]
    """How long it is open, at most a week."""
    time_zone: Annotated[
        str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$")
    ] = "UTC"
    """A name of the time zone database, like Europe/Berlin."""


class Tuning(ApiModel):
    """How far Trimtab may go, how often, and for what gain."""

    model_config = rules(
        (
            "self.windowSeconds >= self.intervalSeconds",
            "windowSeconds must not be smaller than intervalSeconds",
            ".windowSeconds",
        ),
        (
            "!has(self.windows) || self.windows.all(w, w.durationMinutes * 60 >= self.intervalSeconds)",
            "a window must not be shorter than intervalSeconds: it could open and close between two looks",
            ".windows",
        ),
    )
    mode: Mode = Mode.RECOMMEND
    """Observe: measure and explain. Recommend: plan as well. Approve: carry out the plan in approvedPlan. Apply: carry
    out every plan."""
    profile: Annotated[
        str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$")
    ] = "Balanced"
    """How bold predicted plans are. Conservative: batch limits, and knobs that are allowed by name. Balanced: what can
    alter outputs only where nothing else helps. Aggressive: everything is weighed together."""
    knobs: Knobs = Knobs()
    min_improvement_percent: Annotated[int, Field(strict=True, ge=0, le=1000)] = 5
    """A plan with a smaller predicted gain is not proposed."""
    cooldown_seconds: Annotated[int, Field(strict=True, ge=0, le=604_800)] = 300
    """The time between two trials."""
    attempts_per_day: Annotated[int, Field(strict=True, ge=0, le=1000)] = 10
    """How many trials of its own Trimtab may begin in 24 hours."""
    interval_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 15
    """The time between two evaluations."""
    window_seconds: Annotated[int, Field(strict=True, ge=1, le=86_400)] = 60
    """The time that metrics are computed over."""
    windows: Annotated[tuple[Window, ...], Field(min_length=1, max_length=16)] | None = None
    """When Trimtab's own trials may begin; without any, at any time. An edit of the spec does not wait for one."""
    plan_expiry_seconds: Annotated[int, Field(strict=True, ge=60, le=31_536_000)] = 604_800
    """A plan that is older is not begun: the load that it was made for may be another by now."""
    approved_plan: Annotated[str, StringConstraints(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")] = (
        ""
    )
    """In mode Approve: the name of the OptimizationPlan that may be carried out."""


class Probes(ApiModel):
    """Where the texts are."""

    config_map: Name
    """A ConfigMap of the same namespace: each entry is one text, 12 to 200 of them, UTF-8, 8 KiB each and 256 KiB in
    all at the most. The operator must have been granted its name (the chart's quality.configMaps)."""


class Quality(ApiModel):
    """How far a change that can alter outputs (quantization, KV cache dtype, speculative decoding) may alter them.

    Before such a change is promoted, the same texts are sent to a stable and a canary pod, and the answers compared.
    """

    probes: Probes | None = None
    """The texts to compare with. Without it, those that come with the operator."""
    max_perplexity_increase_permille: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 20
    """By how much the perplexity of the texts may rise, in thousandths."""
    max_disagreement_permille: Annotated[int, Field(strict=True, ge=1, le=1000)] = 100
    """At how many of a thousand places another token may be the most probable one, beyond what stable differs from
    itself."""
    max_length_change_permille: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 250
    """By how much the answers may become longer or shorter in all, in thousandths."""
    max_failure_permille: Permille = 0
    """How many of a thousand texts the canary may fail to answer that stable answers."""


def _excluded(*fields: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (
            f"!has(self.targetRef) || !has(self.{field})",
            f"{field} belongs to the workload that targetRef names",
            f".{field}",
        )
        for field in fields
    )


class Spec(ApiModel):
    """What is wanted."""

    model_config = rules(
        (
            "has(self.targetRef) || has(self.engine.image)",
            "engine.image is required unless targetRef is set",
            ".engine.image",
        ),
        (
            "has(self.targetRef) || has(self.model.source)",
            "model.source is required unless targetRef is set",
            ".model.source",
        ),
        (
            "!has(self.targetRef) || self.rollout.strategy != 'InPlace'",
            "the pods of a targetRef are replaced by its own rollout, not by the strategy InPlace",
            ".rollout.strategy",
        ),
        (
            "!has(self.targetRef) || !has(self.rollout.route)",
            "the pods of a targetRef share the traffic of its own Service, not that of a route",
            ".rollout.route",
        ),
        (
            "!has(self.rollout.minAvailable) || self.replicas == 0 || self.rollout.minAvailable < self.replicas",
            "rollout.minAvailable must be smaller than replicas: in place one pod goes before another comes",
            ".rollout.minAvailable",
        ),
        *_excluded(
            "engine.image", "engine.imagePullPolicy", "engine.command", "engine.args", "engine.env", "resources", "pod"
        ),
        (
            "!has(self.targetRef) || self.replicas == 1",
            "replicas belongs to the workload that targetRef names",
            ".replicas",
        ),
        ("has(self.targetRef) == has(oldSelf.targetRef)", "targetRef can neither be added nor removed", ".targetRef"),
        (
            "!has(self.targetRef) || !has(oldSelf.targetRef) || "
            "(self.targetRef.name == oldSelf.targetRef.name && self.targetRef.kind == oldSelf.targetRef.kind)",
            "targetRef.name and targetRef.kind cannot be changed",
            ".targetRef",
        ),
        (
            "self.rollout.judgeDeadlineSeconds >= self.tuning.windowSeconds",
            "rollout.judgeDeadlineSeconds must not be smaller than tuning.windowSeconds",
            ".rollout.judgeDeadlineSeconds",
        ),
        (
            "self.rollout.watchSeconds == 0 || self.rollout.watchSeconds >= self.tuning.intervalSeconds",
            "rollout.watchSeconds must be 0 or at least tuning.intervalSeconds",
            ".rollout.watchSeconds",
        ),
    )
    model: Model
    engine: Engine
    target_ref: TargetRef | None = None
    accelerator: Accelerator | None = None
    resources: Resources | None = None
    pod: Pod | None = None
    replicas: Annotated[int, Field(strict=True, ge=0, le=1000)] = 1
    """Pods that serve, without those of a trial."""
    workload: Workload | None = None
    slo: SloSpec = SloSpec()
    objective: Objective = Objective.THROUGHPUT
    """What is improved while the SLO is met."""
    tuning: Tuning = Tuning()
    rollout: Rollout = Rollout()
    quality: Quality = Quality()
    suspend: Flag = False
    """True: Trimtab leaves everything as it is."""
