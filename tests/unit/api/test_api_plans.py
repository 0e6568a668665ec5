import json
from dataclasses import replace

from hypothesis import given

from tests.unit.api.builders import llmdeployment, plans
from trimtab.api.convert import Unreadable, plan_from, plan_to
from trimtab.api.v1alpha1 import PlanSpec
from trimtab.model.plan import Plan
from trimtab.render import plan_object


@given(plans)
def test_every_plan_survives_the_way_into_an_object_and_back(plan: Plan) -> None:
    document = json.loads(json.dumps(plan_object(llmdeployment(), plan), allow_nan=False))
    found = plan_from(document)
    assert found == plan
    assert isinstance(found, Plan)
    assert found.name == plan.name == document["metadata"]["name"]


@given(plans)
def test_effects_beyond_every_bound_still_fit_into_an_object(plan: Plan) -> None:
    endless = replace(plan.improvement, high=float("inf"), low=float("-inf"))
    PlanSpec.model_validate(plan_to(replace(plan, improvement=endless)))


@given(plans)
def test_a_plan_with_a_value_of_another_type_is_unreadable_and_says_so(plan: Plan) -> None:
    document = plan_object(llmdeployment(), plan)
    document["spec"]["optimizations"][0]["changes"] = [{"knob": "maxNumSeqs", "to": "many", "reason": "why not"}]
    found = plan_from(document)
    assert isinstance(found, Unreadable)
    assert "maxNumSeqs" in found.message


def test_a_plan_with_a_knob_of_a_newer_operator_is_unreadable() -> None:
    found = plan_from({"metadata": {"name": "p"}, "spec": {"target": "chat", "start": {"maxNumUnicorns": 1}}})
    assert isinstance(found, Unreadable)
    assert "maxNumUnicorns" in found.message or "engine" in found.message
