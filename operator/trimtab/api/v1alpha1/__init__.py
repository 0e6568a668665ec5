"""Version v1alpha1 of the resources: `LLMDeployment` and `OptimizationPlan`."""

from trimtab.api.v1alpha1.base import API_VERSION, GROUP, VERSION
from trimtab.api.v1alpha1.knobs import KNOB_KINDS, KNOBS, EngineKnobs
from trimtab.api.v1alpha1.plan import PlanSpec, PlanStatus
from trimtab.api.v1alpha1.resources import PAUSED, RETRY, ROLLBACK, LLMDeployment, Metadata, OptimizationPlan
from trimtab.api.v1alpha1.rollout import FieldConflicts
from trimtab.api.v1alpha1.spec import Mode, Objective, Spec, TargetRef, Weekday, Window
from trimtab.api.v1alpha1.status import ATTEMPTS_KEPT, Condition, Finding, Measured, RevisionStatus, Status

__all__ = [
    "API_VERSION",
    "ATTEMPTS_KEPT",
    "GROUP",
    "KNOBS",
    "KNOB_KINDS",
    "PAUSED",
    "RETRY",
    "ROLLBACK",
    "VERSION",
    "Condition",
    "EngineKnobs",
    "FieldConflicts",
    "Finding",
    "LLMDeployment",
    "Measured",
    "Metadata",
    "Mode",
    "Objective",
    "OptimizationPlan",
    "PlanSpec",
    "PlanStatus",
    "RevisionStatus",
    "Spec",
    "Status",
    "TargetRef",
    "Weekday",
    "Window",
]
