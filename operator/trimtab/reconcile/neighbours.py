"""What else in the namespace has a say in a rollout: quotas, disruption budgets, autoscalers, the owner of a target.

A namespace is looked at once in a while for all its resources together. What may not be read, or is of a kind that the
cluster does not have, has no say: the API server still has the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab.kube.client import Kube, Object
from trimtab.kube.errors import Forbidden, NotFound
from trimtab.kube.kinds import DISRUPTION_BUDGETS, HPAS, RESOURCE_QUOTAS, SCALED_OBJECTS, Kind
from trimtab.kube.quantities import milli

LASTS = 20.0  # seconds

# How the tools that apply a repository mark what they own.
_GIT_OWNERS = (
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The objects of one namespace that were there at `at`."""

    at: float
    quotas: Sequence[Object] = ()
    budgets: Sequence[Object] = ()
    autoscalers: Sequence[Object] = ()


ALONE = Neighbours(at=0.0)


@dataclass(slots=True)
class NeighbourMemory:
    """The last look at each namespace; a restart begins with an empty one."""

    _seen: dict[str, Neighbours] = field(default_factory=dict)

    async def read(self, kube: Kube, namespace: str, now: float) -> Neighbours:
        found = self._seen.get(namespace)
        if found is None or not 0.0 <= now - found.at < LASTS:
            found = Neighbours(
                at=now,
                quotas=await _there(kube, RESOURCE_QUOTAS, namespace),
                budgets=await _there(kube, DISRUPTION_BUDGETS, namespace),
                autoscalers=[*await _there(kube, HPAS, namespace), *await _there(kube, SCALED_OBJECTS, namespace)],
            )
            self._seen[namespace] = found
        return found


async def _there(kube: Kube, kind: Kind, namespace: str) -> list[Object]:
    try:
        return await kube.list(kind, namespace)
    except (NotFound, Forbidden):
        return []


def pods_admitted(quotas: Iterable[Mapping[str, Any]], pod: Mapping[str, Any] | None) -> int | None:
    """How many further pods like `pod` all quotas admit; None where none bounds them, or there is no pod to go by.

    Quotas with scopes are left out: whether they apply depends on more than is looked at here.
    """
    if pod is None:
        return None
    asked = _asked(pod)
    rooms = []
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        for name, hard in (status.get("hard") or spec.get("hard") or {}).items():
            needs, limit, used = asked.get(name, 0), milli(hard), milli((status.get("used") or {}).get(name, "0"))
            if needs > 0 and limit is not None and used is not None:
                rooms.append(max(0, limit - used) // needs)
    return min(rooms) if rooms else None


def _asked(pod: Mapping[str, Any]) -> dict[str, int]:
    """What a pod counts in a quota, in thousandths."""
    asked = {"pods": 1000, "count/pods": 1000}
    for container in (pod.get("spec") or {}).get("containers") or ():
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        requests = {**limits, **(resources.get("requests") or {})}
        for prefix, amounts in (("requests.", requests), ("limits.", limits), ("", requests)):
            for name, amount in amounts.items():
                asked[prefix + name] = asked.get(prefix + name, 0) + (milli(amount) or 0)
    return asked


def pods_protected(budgets: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> int:
    """The ready pods that PodDisruptionBudgets ask for among pods with these labels; 0 without any."""
    wanted = [
        int((budget.get("status") or {}).get("desiredHealthy") or 0)
        for budget in budgets
        if _selects((budget.get("spec") or {}).get("selector"), labels)
    ]
    return max(wanted, default=0)


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """As the API server matches labels; an absent selector selects nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(rule, labels) for rule in selector.get("matchExpressions") or ())


def _holds(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    there, values = rule["key"] in labels, rule.get("values") or ()
    match rule.get("operator"):
        case "In":
            return there and labels[rule["key"]] in values
        case "NotIn":
            return not there or labels[rule["key"]] not in values
        case "Exists":
            return there
        case _:
            return not there


def scaler_of(autoscalers: Iterable[Mapping[str, Any]], deployment: str) -> str:
    """The HPA or ScaledObject that owns the replicas of a Deployment, as a person would name it; empty without one."""
    for scaler in autoscalers:
        aimed = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
        if aimed.get("kind", "Deployment") == "Deployment" and aimed.get("name") == deployment:
            return f"{scaler['kind']} {scaler['metadata']['name']}"
    return ""


def git_owner(target: Mapping[str, Any] | None) -> str:
    """The tool that applies this object from a repository; empty when nothing says so."""
    metadata = (target or {}).get("metadata") or {}
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((tool for mark, tool in _GIT_OWNERS if marks.get(mark)), "")
