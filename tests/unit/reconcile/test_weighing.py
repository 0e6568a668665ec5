"""Who is fought about weights, and who is not."""

from __future__ import annotations

from typing import Any

from trimtab.kube.errors import Forbidden
from trimtab.model.reason import Reason
from trimtab.reconcile.perform import performing_failed
from trimtab.reconcile.routes import ContestedError, Weighing, owner_of_rules

KEY = ("serving", "chat")


def test_the_same_weights_are_written_three_times_in_ten_minutes_and_then_no_more() -> None:
    weighing, now = Weighing(), 1000.0
    for _ in range(3):
        assert weighing.may_write(KEY, 20, now)
        weighing.wrote(KEY, 20, now)
        now += 15.0
    assert not weighing.may_write(KEY, 20, now)
    assert weighing.may_write(("serving", "search"), 20, now), "another resource has weights of its own"
    assert weighing.may_write(KEY, 40, now), "the next step is another wish"
    assert weighing.may_write(KEY, 20, now + 600.0)
    weighing.forget(KEY)
    assert weighing.may_write(KEY, 20, now)


def test_rules_belong_to_a_tool_that_marks_the_route_or_to_who_applies_them() -> None:
    rules: dict[str, Any] = {"f:spec": {"f:rules": {}}}
    ours = {"manager": "trimtab-weights", "operation": "Update", "fieldsV1": rules}
    edited = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": rules}
    applied = {"manager": "platform", "operation": "Apply", "fieldsV1": rules}
    elsewhere = {"manager": "dns", "operation": "Apply", "fieldsV1": {"f:spec": {"f:hostnames": {}}}}
    assert owner_of_rules({"metadata": {"managedFields": [ours, edited, elsewhere]}}) == ""
    assert owner_of_rules({"metadata": {"managedFields": [ours, applied]}}) == "the field manager platform"
    marks = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    assert owner_of_rules({"metadata": {"labels": marks, "managedFields": [ours]}}) == "Flux"


def test_a_refused_verb_and_contested_weights_are_problems_of_a_person() -> None:
    refused = performing_failed(Forbidden('apply Deployment serving/chat: cannot patch resource "deployments"'))
    assert refused is not None and refused.reason is Reason.FORBIDDEN
    assert 'cannot patch resource "deployments"' in refused.message and "rbac.create=true" in refused.message
    contested = performing_failed(ContestedError("The weights of HTTPRoute chat are changed by platform."))
    assert contested is not None and contested.reason is Reason.FIELD_CONFLICT
