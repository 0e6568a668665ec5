"""What should run: an edit wins for the knobs that it touches, and what was tuned stays for the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.reconcile.resources import settled, stable
from trimtab.api.names import revision_name
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.model.plan import Change, Effect, Effort, Impact, Metric, Optimization, OptimizationType, Plan
from trimtab.model.rollout import Phase, RolloutState, Source, Stable
from trimtab.reconcile.wishes import traded_by_user, wish_of_plan, wish_of_user

SPEC = EngineConfig({"maxNumSeqs": 1, "enforceEager": True})
# What Trimtab made of it: a limit raised, a knob added that the spec does not name.
TUNED = stable("rev-tuned", maxNumSeqs=16, enforceEager=True, maxNumBatchedTokens=4096)


def _tuned() -> RolloutState:
    return settled(TUNED, asked=SPEC)


def test_before_anything_serves_the_wish_is_the_spec() -> None:
    wish = wish_of_user(SPEC, "t1", RolloutState())
    assert wish.config == SPEC
    assert wish.source is Source.USER
    assert wish.revision == revision_name(SPEC, "t1")


def test_a_spec_that_was_not_edited_keeps_what_was_tuned() -> None:
    wish = wish_of_user(SPEC, "t1", _tuned())
    assert wish.config == TUNED.config


def test_an_edited_knob_wins_and_the_others_stay_as_they_were_tuned() -> None:
    wish = wish_of_user(EngineConfig({"maxNumSeqs": 4, "enforceEager": True}), "t1", _tuned())
    assert dict(wish.config) == {"maxNumSeqs": 4, "enforceEager": True, "maxNumBatchedTokens": 4096}


def test_an_added_knob_joins_what_was_tuned() -> None:
    wish = wish_of_user(EngineConfig({**SPEC, "blockSize": 32}), "t1", _tuned())
    assert wish.config["blockSize"] == 32
    assert wish.config["maxNumSeqs"] == 16


def test_a_knob_that_is_taken_out_of_the_spec_returns_to_the_engines_default() -> None:
    wish = wish_of_user(EngineConfig({"maxNumSeqs": 1}), "t1", _tuned())
    assert dict(wish.config) == {"maxNumSeqs": 16, "maxNumBatchedTokens": 4096}


def test_taking_out_a_knob_that_was_tuned_drops_the_tuned_value() -> None:
    wish = wish_of_user(EngineConfig({"enforceEager": True}), "t1", _tuned())
    assert "maxNumSeqs" not in wish.config


def test_writing_the_tuned_value_into_the_spec_changes_nothing() -> None:
    wish = wish_of_user(EngineConfig({**SPEC, "maxNumSeqs": 16}), "t1", _tuned())
    assert wish.config == TUNED.config
    assert wish.revision == revision_name(TUNED.config, "t1")


def test_another_template_is_another_revision_with_the_same_configuration() -> None:
    before, after = wish_of_user(SPEC, "t1", _tuned()), wish_of_user(SPEC, "t2", _tuned())
    assert before.config == after.config
    assert before.revision != after.revision
    assert after.template == "t2"


_values = st.fixed_dictionaries(
    {}, optional={knob: st.integers(1, 4) for knob in ("maxNumSeqs", "maxNumBatchedTokens", "blockSize")}
).map(EngineConfig)


@given(asked=_values, tuned=_values, edited=_values)
def test_a_knob_follows_the_spec_exactly_when_the_spec_changed_it(
    asked: EngineConfig, tuned: EngineConfig, edited: EngineConfig
) -> None:
    state = settled(Stable("rev", tuned, "t1"), asked=asked)
    wish = wish_of_user(edited, "t1", state)
    for knob in {*asked, *tuned, *edited}:
        wanted = tuned.get(knob) if asked.get(knob) == edited.get(knob) else edited.get(knob)
        assert wish.config.get(knob) == wanted
    # Once it is adopted, the same spec asks for nothing more.
    adopted = settled(Stable("rev", wish.config, "t1"), asked=edited)
    assert wish_of_user(edited, "t1", adopted).config == wish.config


def _plan(start: EngineConfig, *steps: dict[str, Any]) -> Plan:
    effect = Effect(Metric.THROUGHPUT, 2.0, 1.5, 2.5, "a rule")
    optimizations = tuple(
        Optimization(
            type=OptimizationType.BATCHING,
            title="Raise the limit",
            description="More at once.",
            changes=tuple(Change(knob, start.get(knob), value, "because") for knob, value in step.items()),
            impact=Impact.HIGH,
            effects=(effect,),
            effort=Effort.RESTART,
            trades=(Metric.ITL,),
            alters_outputs="quantization" in step,
        )
        for step in steps
    )
    result = start
    for step in steps:
        result = result.with_changes(step)
    return Plan("serving", "chat", "vllm", "0.32.0", start, result, optimizations, effect)


def test_a_plan_is_tried_one_optimization_at_a_time() -> None:
    plan = _plan(TUNED.config, {"maxNumSeqs": 32}, {"quantization": "fp8"})
    wish = wish_of_plan(plan, _tuned())
    assert wish is not None
    assert wish.config == TUNED.config.with_changes({"maxNumSeqs": 32})
    assert (wish.source, wish.plan, wish.step) == (Source.PLAN, plan.name, 0)
    assert wish.trades == {Metric.ITL}
    assert not wish.alters_outputs, "only the second step would change what the model writes"
    assert wish.revision == revision_name(wish.config, TUNED.template)


def test_a_step_that_changes_outputs_says_so() -> None:
    wish = wish_of_plan(_plan(TUNED.config, {"quantization": "fp8"}), _tuned())
    assert wish is not None
    assert wish.alters_outputs


def test_a_plan_for_another_configuration_than_the_one_that_runs_is_outdated() -> None:
    assert wish_of_plan(_plan(SPEC, {"maxNumSeqs": 32}), _tuned()) is None


def test_without_a_stable_revision_no_plan_is_tried() -> None:
    assert wish_of_plan(_plan(SPEC, {"maxNumSeqs": 32}), RolloutState(phase=Phase.STARTING)) is None


def test_a_step_may_return_a_knob_to_its_default() -> None:
    wish = wish_of_plan(_plan(TUNED.config, {"maxNumBatchedTokens": None}), _tuned())
    assert wish is not None
    assert "maxNumBatchedTokens" not in wish.config


@pytest.mark.parametrize(
    ("before", "after", "traded"),
    [
        ({"maxNumSeqs": 2}, {"maxNumSeqs": 16}, {Metric.ITL}),
        ({"maxNumSeqs": 16}, {"maxNumSeqs": 2}, set()),
        ({}, {"maxNumSeqs": 16}, set()),
        ({"blockSize": 16}, {"blockSize": 32}, set()),
    ],
)
def test_raising_a_batch_limit_trades_the_itl_and_nothing_else_is_a_trade(
    before: dict[str, KnobValue], after: dict[str, KnobValue], traded: set[Metric]
) -> None:
    assert traded_by_user(EngineConfig(before), EngineConfig(after)) == traded
