"""Machine reasons: every condition, event, attempt and verdict carries one, and each has a page in `docs/runbook/`."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something is as it is. CamelCase, stable, one runbook page each."""

    # The resource and what it points to.
    RECONCILED = "Reconciled"
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_ENGINE = "UnknownEngine"
    UNSUPPORTED_ENGINE_VERSION = "UnsupportedEngineVersion"
    TARGET_NOT_FOUND = "TargetNotFound"
    TARGET_CONFLICT = "TargetConflict"
    FIELD_CONFLICT = "FieldConflict"
    FORBIDDEN = "Forbidden"
    ROUTE_READY = "RouteReady"
    ROUTE_NOT_USABLE = "RouteNotUsable"
    SUSPENDED = "Suspended"
    PAUSED = "Paused"

    # Metrics.
    METRICS_FOUND = "MetricsFound"
    METRICS_MISSING = "MetricsMissing"
    METRICS_STALE = "MetricsStale"
    METRICS_INVALID = "MetricsInvalid"
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"
    PROMETHEUS_TIMEOUT = "PrometheusTimeout"
    PROMETHEUS_BAD_ANSWER = "PrometheusBadAnswer"
    NO_TRAFFIC = "NoTraffic"

    # Health.
    SLO_MET = "SLOMet"
    SLO_VIOLATED = "SLOViolated"
    NO_SLO = "NoSLO"

    # Planning.
    PLAN_PROPOSED = "PlanProposed"
    AWAITING_APPROVAL = "AwaitingApproval"
    OBSERVE_ONLY = "ObserveOnly"
    NOTHING_TO_IMPROVE = "NothingToImprove"
    NO_SAFE_CHANGE = "NoSafeChange"
    COOLING_DOWN = "CoolingDown"
    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    ROLLOUT_IN_PROGRESS = "RolloutInProgress"
    INFEASIBLE_SLO = "InfeasibleSLO"
    PLAN_EXPIRED = "PlanExpired"

    # Rolling out.
    STARTING = "Starting"
    STABLE = "Stable"
    CANARY_STARTING = "CanaryStarting"
    CANARY_JUDGING = "CanaryJudging"
    SHIFTING = "Shifting"
    PROMOTING = "Promoting"
    WATCHING = "Watching"
    ROLLING_BACK = "RollingBack"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    ABANDONED = "Abandoned"
    SUPERSEDED = "Superseded"
    WITHDRAWN = "Withdrawn"
    PROVEN = "Proven"
    REMEMBERED_AS_BAD = "RememberedAsBad"
    OWNED_BY_GIT = "OwnedByGit"
    OUTSIDE_WINDOW = "OutsideWindow"

    # Why a canary was not kept.
    SLO_REGRESSION = "SLORegression"
    WORSE_THAN_STABLE = "WorseThanStable"
    CANARY_CRASH_LOOP = "CanaryCrashLoop"
    CANARY_OOM_KILLED = "CanaryOOMKilled"
    CANARY_IMAGE_PULL = "CanaryImagePull"
    CANARY_UNSCHEDULABLE = "CanaryUnschedulable"
    CANARY_NOT_READY = "CanaryNotReady"
    QUOTA_EXCEEDED = "QuotaExceeded"
    LIVE_REFUSED = "LiveRefused"
    INSUFFICIENT_GPUS = "InsufficientGPUs"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    ROLLED_BACK_BY_USER = "RolledBackByUser"

    # The quality gate.
    QUALITY_GATE_READY = "QualityGateReady"
    QUALITY_PROBES_INVALID = "QualityProbesInvalid"
    QUALITY_NOT_MEASURABLE = "QualityNotMeasurable"
    QUALITY_UNKNOWN = "QualityUnknown"
    QUALITY_REGRESSION = "QualityRegression"
    WITHIN_QUALITY_BUDGET = "WithinQualityBudget"

    # What a verdict rests on.
    WITHIN_SLO = "WithinSLO"
    NOT_WORSE_THAN_STABLE = "NotWorseThanStable"
    TOO_FEW_SAMPLES = "TooFewSamples"
    UNEQUAL_LOAD = "UnequalLoad"
    STABLE_UNREADABLE = "StableUnreadable"
    CANARY_UNREADABLE = "CanaryUnreadable"
