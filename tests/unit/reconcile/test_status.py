"""The status as a pure function of what is known: conditions, figures, and sentences that a person can read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.reconcile.resources import (
    NOW,
    adopting,
    attempt,
    candidate,
    facts,
    owned,
    seconds,
    settled,
    snapshot,
    stable,
)
from trimtab.api.convert import rollout_state_to
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Health, Severity, TargetState
from trimtab.model.config import EngineConfig
from trimtab.model.plan import (
    Change,
    Effect,
    Effort,
    Impact,
    Metric,
    NoPlan,
    Optimization,
    OptimizationType,
    Plan,
)
from trimtab.model.reading import Known, Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RolloutState, RouteFacts
from trimtab.model.slo import Latency, LatencyTarget
from trimtab.model.snapshot import PodMetrics, Snapshot
from trimtab.reconcile.spec_checks import Problem
from trimtab.reconcile.status import Report, measured, status_of, summary

SERVES = stable("rev-a", maxNumSeqs=1)
QUEUE = Bottleneck(
    BottleneckKind.QUEUE_BUILDUP, Severity.HIGH, 0.876, "14 requests wait on each pod.", {"waiting": 14.0}
)
TTFT = LatencyTarget(Latency.TTFT, 95, 1.0)
ITL = LatencyTarget(Latency.ITL, 95, 0.2)
EFFECT = Effect(Metric.THROUGHPUT, 4.5, 3.0, 6.0, "measured with vLLM 0.32 on a CPU")
PLAN = Plan(
    namespace="serving",
    target="chat",
    engine="vllm",
    engine_version="0.32.0",
    start=SERVES.config,
    result=EngineConfig({"maxNumSeqs": 16}),
    optimizations=(
        Optimization(
            type=OptimizationType.BATCHING,
            title="Run 16 sequences at once",
            description="Requests wait.",
            changes=(Change("maxNumSeqs", 1, 16, "14 requests wait."),),
            impact=Impact.CRITICAL,
            effects=(EFFECT,),
            effort=Effort.RESTART,
        ),
    ),
    improvement=EFFECT,
)
METRICS = PodMetrics(
    ttft=Known(seconds(0.5, 6.4, 6.4, 6.4), window=60.0),
    itl=Known(seconds(0.007, 0.008), window=60.0),
    request_rate=Known(2.0),
    error_rate=Known(0.01),
    output_token_rate=Known(64.4),
    running=Known(1.0),
    waiting=Known(7.2),
    kv_usage=Known(0.031),
)


def report(state: RolloutState | None = None, **changes: Any) -> Report:
    """A quiet service of two pods."""
    state = state or settled(SERVES)
    held = rollout_state_to(state)
    values: dict[str, Any] = {
        "deployment": owned(),
        "state": state,
        "rollout": held["rollout"],
        "attempts": held["attempts"],
        "revisions": {"rev-a": facts("rev-a", 2)},
        "snapshot": snapshot("rev-a", metrics=METRICS),
        "health": Health(),
        "proposal": NoPlan(Reason.NOTHING_TO_IMPROVE, "1 request runs and none waits."),
        "selector": "trimtab.dev/deployment=chat",
    }
    return Report(**{**values, **changes})


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def message(status: dict[str, Any], kind: str) -> str:
    return str(next(item["message"] for item in status["conditions"] if item["type"] == kind))


def test_a_quiet_service() -> None:
    status = status_of(report(), NOW)
    assert conditions(status) == {
        "MetricsAvailable": ("True", "MetricsFound"),
        "Planned": ("False", "NothingToImprove"),
        "Progressing": ("False", "Stable"),
        "Ready": ("True", "Reconciled"),
        "SLOSatisfied": ("Unknown", "NoSLO"),
    }
    assert (status["phase"], status["reason"], status["slo"], status["bottleneck"]) == (
        "Stable", "Stable", "Unknown", "None",
    )  # fmt: skip
    assert status["summary"] == "No bottleneck was found. 1 request runs and none waits."
    assert (status["observedGeneration"], status["replicas"]) == (3, 2)
    assert status["selector"] == "trimtab.dev/deployment=chat"
    assert status["revisions"] == [
        {"name": "rev-a", "role": "Stable", "replicas": 2, "ready": 2, "config": {"maxNumSeqs": 1}}
    ]
    assert "plan" not in status


def test_the_worst_finding_opens_the_summary_and_the_plan_follows() -> None:
    status = status_of(report(health=Health((QUEUE,)), proposal=PLAN, plan_name=PLAN.name), NOW)
    assert status["summary"] == (
        f"14 requests wait on each pod. The plan {PLAN.name} proposes: Run 16 sequences at once."
    )
    assert status["bottleneck"] == "QueueBuildup"
    assert status["findings"] == [
        {
            "kind": "QueueBuildup",
            "severity": "High",
            "confidencePercent": 88,
            "message": "14 requests wait on each pod.",
        }
    ]
    assert status["plan"] == PLAN.name
    assert conditions(status)["Planned"] == ("True", "PlanProposed")
    assert message(status, "Planned") == (
        f"{PLAN.name}: Run 16 sequences at once. Estimated throughput x 4.50 (3.00 to 6.00, "
        "measured with vLLM 0.32 on a CPU)."
    )


def test_a_predicted_plan_says_so_and_names_what_is_out_of_reach() -> None:
    beyond = "No allowed configuration is predicted to keep ttft.p95 within 300 ms (the nearest is about 900 ms)."
    plan = replace(PLAN, estimated=False, shortfall=beyond)
    status = status_of(report(proposal=plan, plan_name=plan.name), NOW)
    assert "Predicted throughput x 4.50" in message(status, "Planned")
    assert message(status, "Planned").endswith(beyond)


@pytest.mark.parametrize(("awaits", "reason"), [(True, "AwaitingApproval"), (False, "PlanProposed")])
def test_a_plan_that_waits_for_a_person_says_what_to_do(awaits: bool, reason: str) -> None:
    status = status_of(report(proposal=PLAN, plan_name=PLAN.name, awaits_approval=awaits), NOW)
    assert conditions(status)["Planned"] == ("True", reason)
    assert ("spec.tuning.approvedPlan" in message(status, "Planned")) is awaits


def test_the_slo_is_told_target_by_target_with_both_numbers() -> None:
    violated = Health(
        targets=(
            TargetState(TTFT, Known(6.4), Known(0.9), met=False),
            TargetState(ITL, Known(0.008), Known(0.0), met=True),
        ),
        slo_met=False,
    )
    status = status_of(report(health=violated), NOW)
    assert status["slo"] == "Violated"
    assert conditions(status)["SLOSatisfied"] == ("False", "SLOViolated")
    assert message(status, "SLOSatisfied") == "ttft.p95 is 6400 ms, the target 1000 ms."
    met = Health(targets=(TargetState(ITL, Known(0.008), Known(0.0), met=True),), slo_met=True)
    status = status_of(report(health=met), NOW)
    assert conditions(status)["SLOSatisfied"] == ("True", "SLOMet")
    assert message(status, "SLOSatisfied") == "itl.p95 is 8 ms, the target 200 ms."


def test_an_slo_that_cannot_be_checked_is_unknown_and_not_met() -> None:
    few = Unknown(Why.TOO_FEW_SAMPLES, "3 requests.")
    unknown = Health(targets=(TargetState(TTFT, few, few, met=None),), slo_met=None)
    status = status_of(report(health=unknown), NOW)
    assert status["slo"] == "Unknown"
    assert conditions(status)["SLOSatisfied"] == ("Unknown", "TooFewSamples")


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (Why.UNREACHABLE, "PrometheusUnreachable"),
        (Why.TIMEOUT, "PrometheusTimeout"),
        (Why.BAD_ANSWER, "PrometheusBadAnswer"),
        (Why.NOT_A_NUMBER, "MetricsInvalid"),
        (Why.STALE, "MetricsStale"),
        (Why.NOT_SCRAPED, "MetricsMissing"),
        (Why.NOT_EXPORTED, "MetricsMissing"),
    ],
)
def test_unreadable_metrics_have_a_reason_and_nothing_is_decided(why: Why, reason: str) -> None:
    blind: Snapshot = replace(snapshot("rev-a"), metrics=Unknown(why, "Prometheus did not answer within 8 s."))
    status = status_of(report(snapshot=blind), NOW)
    assert conditions(status)["MetricsAvailable"] == ("False", reason)
    assert status["summary"].startswith(
        "Nothing is decided, because the metrics cannot be read: Prometheus did not answer within 8 s."
    )
    assert "measured" not in status, "an empty map becomes null in server-side apply"


def test_figures_are_rounded_and_unknown_ones_are_absent() -> None:
    figures = measured(snapshot("rev-a", count=2, metrics=METRICS).revision("rev-a"))
    assert figures == {
        "errorPermille": 5,
        "itlP95Milliseconds": 8,
        "kvUsagePercent": 3,
        "outputTokensPerSecond": 129,
        "requestsPerSecondMilli": 4000,
        "running": 2,
        "ttftP50Milliseconds": 2467,
        "ttftP95Milliseconds": 6007,
        "waiting": 14,
    }
    assert measured(snapshot("rev-a").revision("rev-a")) == {}


def test_an_empty_histogram_gives_no_figure() -> None:
    nothing = PodMetrics(ttft=Known(seconds()), request_rate=Known(0.0), error_rate=Known(0.0))
    assert measured(snapshot("rev-a", metrics=nothing).revision("rev-a")) == {"requestsPerSecondMilli": 0}
    assert math.isnan(seconds().quantile(0.5))


def _on_trial(phase: Phase) -> RolloutState:
    return replace(
        settled(SERVES), phase=phase, candidate=candidate("rev-b", maxNumSeqs=2), holding="1 of 1 canary pod ready."
    )


def test_a_trial_shows_both_revisions_with_their_roles() -> None:
    revisions = {"rev-a": facts("rev-a", 2), "rev-b": facts("rev-b", 0, desired=1), "rev-0": facts("rev-0", 1, 0)}
    status = status_of(report(_on_trial(Phase.CANARY_STARTING), revisions=revisions), NOW)
    assert [(row["name"], row["role"], row["replicas"], row["ready"]) for row in status["revisions"]] == [
        ("rev-0", "Draining", 0, 1),
        ("rev-a", "Stable", 2, 2),
        ("rev-b", "Canary", 1, 0),
    ]
    assert "config" not in status["revisions"][0], "what is not known is absent"
    assert conditions(status)["Progressing"] == ("True", "CanaryStarting")
    assert message(status, "Progressing") == "1 of 1 canary pod ready."


def test_what_has_been_promoted_is_stable_while_it_is_watched() -> None:
    promoted = stable("rev-b", maxNumSeqs=2)
    state = replace(_on_trial(Phase.WATCHING), stable=promoted, previous=SERVES)
    revisions = {"rev-a": facts("rev-a", 0), "rev-b": facts("rev-b", 2)}
    status = status_of(report(state, revisions=revisions), NOW)
    assert {row["name"]: row["role"] for row in status["revisions"]} == {"rev-a": "Draining", "rev-b": "Stable"}


def test_a_revision_that_is_gone_and_that_nobody_remembers_is_not_listed() -> None:
    revisions = {"rev-a": facts("rev-a", 2), "rev-9": facts("rev-9", 0)}
    status = status_of(report(revisions=revisions), NOW)
    assert [row["name"] for row in status["revisions"]] == ["rev-a"]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Reason.PROMOTED, "was promoted"),
        (Reason.ROLLED_BACK, "was rolled back"),
        (Reason.ABANDONED, "was abandoned"),
        (Reason.SUPERSEDED, "was superseded"),
        (Reason.WITHDRAWN, "was withdrawn"),
    ],
)
def test_the_last_trial_is_told_until_the_next_one(outcome: Reason, said: str) -> None:
    last = attempt(outcome, Reason.SLO_REGRESSION, "TTFT p95 objective 6.0 s: 80 % of 40 requests above it.")
    status = status_of(report(settled(SERVES, attempts=(last,))), NOW)
    expected = f"The last trial, revision rev-b, {said}: TTFT p95 objective 6.0 s: 80 % of 40 requests above it."
    assert conditions(status)["Progressing"] == ("False", outcome.value)
    assert message(status, "Progressing") == expected
    assert status["summary"].endswith(expected)
    assert status["attempts"][0]["outcome"] == outcome.value


@pytest.mark.parametrize("tried_before", [False, True])
def test_what_only_a_person_can_change_is_told_before_the_last_trial(tried_before: bool) -> None:
    attempts = (attempt(Reason.ABANDONED, Reason.CANARY_IMAGE_PULL, "No such image."),) if tried_before else ()
    holding = "The canary needs 64 GPUs beside the stable pods and 4 are free. Lower spec.accelerator.count."
    state = replace(settled(SERVES, attempts=attempts), holding=holding, held_by=Reason.INSUFFICIENT_GPUS)
    status = status_of(report(state), NOW)
    assert conditions(status)["Progressing"] == ("False", "InsufficientGPUs")
    assert message(status, "Progressing").startswith(holding)
    assert ("No such image." in message(status, "Progressing")) is tried_before


def test_too_few_ready_pods_are_not_ready_and_say_why() -> None:
    state = replace(settled(SERVES), holding="1 of 2 stable pods ready.")
    status = status_of(report(state, revisions={"rev-a": facts("rev-a", 1, desired=2)}), NOW)
    assert conditions(status)["Ready"] == ("False", "Starting")
    assert message(status, "Ready") == "1 of 2 pods are ready. 1 of 2 stable pods ready."


def test_fields_of_a_newer_version_are_named() -> None:
    raw = owned().to_json()
    raw["spec"]["rollout"] = {"newer": 1}
    status = status_of(report(settled(SERVES), deployment=LLMDeployment.read(raw)), NOW)
    assert conditions(status)["Ready"] == ("True", "Reconciled")
    assert "Not known to this version, and left aside: spec.rollout.newer. " in message(status, "Ready")


def test_a_service_that_starts_is_not_ready_even_if_its_pods_are() -> None:
    state = replace(settled(SERVES), phase=Phase.STARTING)
    assert conditions(status_of(report(state), NOW))["Ready"] == ("False", "Starting")


@pytest.mark.parametrize("draining", [0, 1])
def test_an_adopted_workload_wants_what_its_own_deployment_says(draining: int) -> None:
    """Not what the canary beside it asks for, which may be on its way out."""
    revisions = {
        "rev-a": replace(facts("rev-a", 2, desired=3), owned=False),
        "rev-b": facts("rev-b", 0, desired=draining),
    }
    status = status_of(report(deployment=adopting(), revisions=revisions), NOW)
    assert conditions(status)["Ready"] == ("False", "Starting")
    assert "2 of 3 pods are ready" in message(status, "Ready")


@pytest.mark.parametrize(
    ("deployment", "reason"),
    [
        (owned(suspend=True), "Suspended"),
        (owned(annotations={"trimtab.dev/paused": "true"}), "Paused"),
        (owned(annotations={"trimtab.dev/paused": "false"}), "Stable"),
    ],
)
def test_a_person_who_stopped_it_sees_that_as_the_reason(deployment: Any, reason: str) -> None:
    assert status_of(report(deployment=deployment), NOW)["reason"] == reason


PROBLEM = Problem(Reason.UNKNOWN_ENGINE, "spec.engine.name is 'mystery'; set it to one of sglang, tgi, vllm.")


def test_a_problem_keeps_what_was_known_visible() -> None:
    before = status_of(report(health=Health((QUEUE,))), NOW)
    status = status_of(Report(deployment=owned(status=before), problem=PROBLEM), NOW + 60)
    assert conditions(status)["Ready"] == ("False", "UnknownEngine")
    assert (status["phase"], status["reason"], status["summary"]) == ("Stable", "UnknownEngine", PROBLEM.message)
    for kept in ("rollout", "revisions", "measured", "findings", "bottleneck", "replicas"):
        assert status[kept] == before[kept]
    assert conditions(status)["MetricsAvailable"] == conditions(before)["MetricsAvailable"]


def test_a_problem_on_the_first_look_is_blocked() -> None:
    status = status_of(Report(deployment=owned(), problem=PROBLEM), NOW)
    assert (status["phase"], status["reason"]) == ("Blocked", "UnknownEngine")
    assert conditions(status) == {"Ready": ("False", "UnknownEngine")}


def test_what_could_not_be_performed_stands_beside_a_state_that_moves_on() -> None:
    obstacle = Problem(Reason.FIELD_CONFLICT, "The field belongs to argocd-controller.")
    status = status_of(report(_on_trial(Phase.PROMOTING), problem=obstacle), NOW)
    assert conditions(status)["Ready"] == ("False", "FieldConflict")
    assert conditions(status)["Progressing"] == ("True", "Promoting")
    assert (status["phase"], status["reason"], status["summary"]) == ("Promoting", "FieldConflict", obstacle.message)
    assert status["rollout"]["candidate"]["revision"] == "rev-b", "the state must be persisted before it is acted upon"


def test_a_transition_time_moves_with_the_status_alone() -> None:
    first = status_of(report(), NOW)
    again = status_of(report(deployment=owned(status=first), revisions={"rev-a": facts("rev-a", 3)}), NOW + 60)
    failed = status_of(
        report(deployment=owned(status=again), revisions={"rev-a": facts("rev-a", 1, desired=2)}), NOW + 120
    )

    def moved(status: dict[str, Any]) -> str:
        return str(next(item["lastTransitionTime"] for item in status["conditions"] if item["type"] == "Ready"))

    assert moved(first) == moved(again)
    assert moved(failed) != moved(again)


def test_the_same_report_gives_the_same_status() -> None:
    first = status_of(report(health=Health((QUEUE,)), proposal=PLAN, plan_name=PLAN.name), NOW)
    again = report(deployment=owned(status=first), health=Health((QUEUE,)), proposal=PLAN, plan_name=PLAN.name)
    assert status_of(again, NOW + 15) == first


def test_every_sentence_of_the_summary_ends_and_the_whole_is_bounded() -> None:
    long = NoPlan(Reason.NO_SAFE_CHANGE, "Each alternative was rejected " * 200)
    text = summary(report(proposal=long, health=Health((replace(QUEUE, message="14 requests wait"),))))
    assert text.startswith("14 requests wait. ")
    assert len(text) <= 2000


def test_no_map_in_a_status_is_empty() -> None:
    empty = stable("rev-a")
    status = status_of(report(settled(empty), snapshot=snapshot("rev-a")), NOW)

    def look(value: object, path: str) -> None:
        if isinstance(value, dict):
            assert value, f"{path} is an empty map, which server-side apply turns into null"
            for name, item in value.items():
                look(item, f"{path}.{name}")
        elif isinstance(value, list):
            for item in value:
                look(item, f"{path}[]")

    look(status, "status")


def test_a_route_is_a_condition_while_one_is_named() -> None:
    ready = status_of(report(route=RouteFacts("rev-a", "rev-a", 0, 0)), NOW)
    assert conditions(ready)["RouteReady"] == ("True", "RouteReady")
    wrong = RouteFacts("rev-a", "rev-a", 100, 0, Reason.ROUTE_NOT_USABLE, "There is no HTTPRoute chat in serving.")
    told = status_of(report(route=wrong), NOW)
    assert conditions(told)["RouteReady"] == ("False", "RouteNotUsable")
    assert message(told, "RouteReady") == "There is no HTTPRoute chat in serving."
    assert "RouteReady" not in conditions(status_of(report(deployment=owned(status=told)), NOW)), "it is gone with it"
