"""What has become of the plan that a person approved: an approval holds for one plan, and not for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.api.instants import from_rfc3339
from trimtab.api.v1alpha1 import LLMDeployment, Mode
from trimtab.kube.client import Object
from trimtab.model.rollout import RolloutState


def expired(deployment: LLMDeployment, known: Sequence[Object], plan: str, now: float) -> Object | None:
    """The object of a plan that is older than spec.tuning.planExpirySeconds; None for a younger one, or none."""
    found = _named(known, plan)
    made = (found or {}).get("metadata", {}).get("creationTimestamp")
    if found is None or not made or now - from_rfc3339(str(made)) < deployment.spec.tuning.plan_expiry_seconds:
        return None
    return found


def of_an_expired(deployment: LLMDeployment, plan: str) -> str:
    """What to say of an approval for a plan that has become too old."""
    days = deployment.spec.tuning.plan_expiry_seconds / 86_400
    return (
        f"The approved plan {plan} is older than {days:.1f} days (spec.tuning.planExpirySeconds), so it is not begun. "
        f"`kubectl delete optplan {plan}` has it made anew from the present load; the approval then holds for that."
    )


def of_another(
    deployment: LLMDeployment, state: RolloutState, known: Sequence[Object], mode: Mode, current: str | None
) -> str:
    """What to say of an approval for a plan that is not the current one and was never tried; empty otherwise."""
    approved = deployment.spec.tuning.approved_plan
    if mode is not Mode.APPROVE or not approved or approved == current:
        return ""
    found = _named(known, approved)
    if any(attempt.plan == approved for attempt in state.attempts) or ((found or {}).get("status") or {}).get("steps"):
        return ""
    fate = "has been superseded before it was tried" if found is not None else "does not exist"
    way = f"Approve {current} instead" if current else "Nothing is proposed at present"
    return f"The approved plan {approved} {fate}. {way}, or empty spec.tuning.approvedPlan."


def _named(known: Sequence[Mapping[str, Any]], name: str) -> Object | None:
    return next((dict(document) for document in known if document["metadata"]["name"] == name), None)
