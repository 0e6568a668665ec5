"""How far may a proposal go? The mode, the administrator's limit, the approval, and how long it must have lasted."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.resources import NOW, owned, seconds, settled, snapshot, stable
from trimtab.api.v1alpha1 import LLMDeployment, Mode
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Health, Severity
from trimtab.model.plan import NoPlan, Plan
from trimtab.model.reading import Known, Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RolloutState
from trimtab.model.slo import Slo
from trimtab.model.snapshot import PodMetrics, Snapshot
from trimtab.reconcile.planning import Planned, awaits_approval, consider, mode_of, patience

SERVES = stable("rev-a", maxNumSeqs=1)
# One request runs on each pod and 14 wait: what the limit of one sequence leads to.
CROWDED = PodMetrics(
    ttft=Known(seconds(6.0, 6.5, 7.0), window=60.0, samples=240.0),
    itl=Known(seconds(0.006, 0.007, 0.008), window=60.0, samples=7000.0),
    e2e=Known(seconds(6.5, 7.0, 7.5), window=60.0, samples=240.0),
    queue_time=Known(seconds(6.0, 6.4, 6.9), window=60.0, samples=240.0),
    prompt_tokens=Known(seconds(64.0, 64.0), window=60.0, samples=240.0),
    output_tokens=Known(seconds(64.0, 64.0), window=60.0, samples=240.0),
    request_rate=Known(2.0, window=60.0, samples=120.0),
    error_rate=Known(0.0, window=60.0, samples=120.0),
    prompt_token_rate=Known(128.0, window=60.0, samples=12.0),
    output_token_rate=Known(128.0, window=60.0, samples=12.0),
    preemption_rate=Known(0.0, window=60.0, samples=12.0),
    prefix_query_rate=Known(128.0, window=60.0, samples=12.0),
    prefix_hit_rate=Known(0.0, window=60.0, samples=12.0),
    running=Known(1.0, window=60.0, samples=12.0),
    waiting=Known(14.0, window=60.0, samples=12.0),
    kv_usage=Known(0.03, window=60.0, samples=12.0),
    kv_capacity_tokens=Known(87296.0, window=60.0, samples=12.0),
    memory_bytes=Known(2.7e9, window=60.0, samples=12.0),
)
QUEUE = Bottleneck(BottleneckKind.QUEUE_BUILDUP, Severity.CRITICAL, 0.95, "14 requests wait.", {})
BATCH = Bottleneck(BottleneckKind.BATCH_SIZE_SUBOPTIMAL, Severity.CRITICAL, 0.95, "1 of 1 slots run.", {})


def _consider(
    mode: Mode,
    *,
    approved: str = "",
    state: RolloutState | None = None,
    seen: Snapshot | None = None,
    health: Health | None = None,
) -> Planned:
    deployment = owned(engine={"config": {"maxNumSeqs": 1}}, tuning={"mode": mode.value, "approvedPlan": approved})
    return consider(
        deployment,
        state or settled(SERVES),
        seen or snapshot("rev-a", metrics=CROWDED),
        health or Health((BATCH, QUEUE)),
        Slo(),
        (),
        mode,
    )


def _plan(planned: Planned) -> Plan:
    assert isinstance(planned.proposal, Plan), planned.proposal
    return planned.proposal


@pytest.mark.parametrize(
    ("asked", "limit", "holds"),
    [
        ("Apply", "Apply", Mode.APPLY),
        ("Apply", "Recommend", Mode.RECOMMEND),
        ("Apply", "Observe", Mode.OBSERVE),
        ("Approve", "Apply", Mode.APPROVE),
        ("Observe", "Apply", Mode.OBSERVE),
    ],
)
def test_the_administrators_limit_bounds_every_resource(asked: str, limit: str, holds: Mode) -> None:
    assert mode_of(owned(tuning={"mode": asked}), limit) is holds


def test_plans_are_shown_and_not_tried_where_a_field_is_newer_than_the_operator() -> None:
    raw = owned(tuning={"mode": "Apply"}).to_json()
    raw["spec"]["tuning"]["freeze"] = True
    assert mode_of(LLMDeployment.read(raw), "Apply") is Mode.RECOMMEND
    assert mode_of(LLMDeployment.read(raw), "Observe") is Mode.OBSERVE


def test_observe_plans_nothing() -> None:
    planned = _consider(Mode.OBSERVE)
    assert isinstance(planned.proposal, NoPlan)
    assert planned.proposal.reason is Reason.OBSERVE_ONLY
    assert planned.intent == ""


def test_recommend_plans_and_tries_nothing() -> None:
    planned = _consider(Mode.RECOMMEND)
    assert _plan(planned).result["maxNumSeqs"] != 1
    assert planned.is_new
    assert planned.wish is None


def test_approve_tries_the_approved_plan_and_no_other() -> None:
    name = _plan(_consider(Mode.APPROVE)).name
    assert _consider(Mode.APPROVE).wish is None
    assert _consider(Mode.APPROVE, approved="chat-00000000").wish is None
    wish = _consider(Mode.APPROVE, approved=name).wish
    assert wish is not None
    assert wish.plan == name


def test_apply_tries_every_plan() -> None:
    planned = _consider(Mode.APPLY)
    assert planned.wish is not None
    assert planned.wish.plan == _plan(planned).name


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.STABLE])
def test_no_plan_is_made_while_a_rollout_is_under_way(phase: Phase) -> None:
    state = RolloutState(phase=phase, stable=SERVES, since=NOW)
    planned = _consider(Mode.APPLY, state=state)
    assert isinstance(planned.proposal, NoPlan)
    assert planned.proposal.reason is Reason.ROLLOUT_IN_PROGRESS


def test_no_plan_is_made_without_metrics() -> None:
    blind = Snapshot(
        namespace="serving", name="chat", at=NOW, window=60.0, engine="vllm", engine_version="0.32.0", revisions=(),
        metrics=Unknown(Why.TIMEOUT, "Prometheus did not answer within 8 s."),
    )  # fmt: skip
    planned = _consider(Mode.APPLY, seen=blind)
    assert isinstance(planned.proposal, NoPlan)
    assert planned.proposal.reason is Reason.METRICS_MISSING
    assert "8 s" in planned.proposal.message


def test_the_intent_of_a_plan_is_the_same_while_its_figures_move() -> None:
    first = _consider(Mode.APPLY)
    more = PodMetrics(**{**{name: getattr(CROWDED, name) for name in CROWDED.__slots__}, "waiting": Known(40.0)})
    second = _consider(Mode.APPLY, seen=snapshot("rev-a", metrics=more))
    assert first.intent
    assert first.intent == second.intent


@pytest.mark.parametrize(("interval", "window", "expected"), [(15, 60, 30.0), (5, 20, 10.0), (5, 120, 60.0)])
def test_a_plan_must_last_for_half_a_window_and_two_looks(interval: int, window: int, expected: float) -> None:
    assert patience(owned(tuning={"intervalSeconds": interval, "windowSeconds": window})) == expected


@pytest.mark.parametrize(
    ("mode", "alters_outputs", "approved", "awaits"),
    [
        (Mode.APPLY, False, "", False),
        (Mode.APPLY, True, "", True),
        (Mode.APPLY, True, "this", False),
        (Mode.APPROVE, False, "", True),
        (Mode.APPROVE, False, "another", True),
        (Mode.APPROVE, True, "this", False),
        (Mode.RECOMMEND, True, "", False),
    ],
)
def test_a_step_whose_outputs_cannot_be_compared_waits_for_a_person_whatever_the_mode_allows(
    mode: Mode, alters_outputs: bool, approved: str, awaits: bool
) -> None:
    name = {"this": "chat-11111111", "another": "chat-00000000", "": ""}[approved]
    deployment = owned(tuning={"mode": "Apply", "approvedPlan": name})
    assert awaits_approval(deployment, "chat-11111111", mode, unguarded=alters_outputs) is awaits


def test_the_administrators_limit_to_approve_asks_for_approval_also_where_the_resource_says_apply() -> None:
    """`consider` gets the mode that holds; the resource's own is Apply."""
    deployment = owned(engine={"config": {"maxNumSeqs": 1}}, tuning={"mode": "Apply"})
    seen, health = snapshot("rev-a", metrics=CROWDED), Health((BATCH, QUEUE))
    planned = consider(deployment, settled(SERVES), seen, health, Slo(), (), mode_of(deployment, "Approve"))
    assert planned.awaits_approval
    assert planned.wish is None
    planned = consider(deployment, settled(SERVES), seen, health, Slo(), (), mode_of(deployment, "Apply"))
    assert not planned.awaits_approval
    assert planned.wish is not None
