"""A plan as an object, and as a patch for a repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.api import names
from trimtab.api.plans import plan_to
from trimtab.api.v1alpha1 import API_VERSION, LLMDeployment
from trimtab.api.values import to_knobs
from trimtab.model.plan import Plan
from trimtab.render.adopted import target_patch


def plan_object(deployment: LLMDeployment, plan: Plan) -> dict[str, Any]:
    """The OptimizationPlan: it goes when its LLMDeployment goes."""
    name = deployment.metadata.name
    return {
        "apiVersion": API_VERSION,
        "kind": "OptimizationPlan",
        "metadata": {
            "name": plan.name,
            "namespace": deployment.metadata.namespace,
            "labels": {names.MANAGED_BY: names.FIELD_MANAGER, names.DEPLOYMENT_LABEL: name},
            "ownerReferences": [names.owner_reference(name, deployment.metadata.uid)],
        },
        "spec": plan_to(plan),
    }


def export_patch(deployment: LLMDeployment, plan: Plan, target: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What to commit to make the plan's result the declared state.

    For an adopted workload (`target`) a strategic merge patch of it, otherwise a merge patch of the LLMDeployment.
    """
    if target is not None:
        return target_patch(target, deployment, plan.result)
    return {
        "apiVersion": API_VERSION,
        "kind": "LLMDeployment",
        "metadata": {"name": deployment.metadata.name, "namespace": deployment.metadata.namespace},
        "spec": {"engine": {"config": to_knobs(plan.result).to_json()}},
    }
