"""The kinds that Trimtab reads or writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API; `group` is empty for the core API."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """The address on the API server; every part that varies is escaped, so a name cannot lead elsewhere."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{_escaped(namespace)}" if self.namespaced and namespace else ""
        item = f"/{_escaped(name)}" if name else ""
        below = f"/{_escaped(subresource)}" if subresource else ""
        return f"{root}{place}/{self.plural}{item}{below}"


def _escaped(part: str) -> str:
    if part in (".", ".."):
        raise ValueError(f"{part!r} is not the name of an object")
    return quote(part, safe="")


LLM_DEPLOYMENTS = Kind("LLMDeployment", "trimtab.dev", "v1alpha1", "llmdeployments")
OPTIMIZATION_PLANS = Kind("OptimizationPlan", "trimtab.dev", "v1alpha1", "optimizationplans")
DEPLOYMENTS = Kind("Deployment", "apps", "v1", "deployments")
CONFIG_MAPS = Kind("ConfigMap", "", "v1", "configmaps")
SERVICES = Kind("Service", "", "v1", "services")
PODS = Kind("Pod", "", "v1", "pods")
NODES = Kind("Node", "", "v1", "nodes", namespaced=False)
HPAS = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
RESOURCE_QUOTAS = Kind("ResourceQuota", "", "v1", "resourcequotas")
DISRUPTION_BUDGETS = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
SCALED_OBJECTS = Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects")
HTTP_ROUTES = Kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes")
EVENTS = Kind("Event", "", "v1", "events")
LEASES = Kind("Lease", "coordination.k8s.io", "v1", "leases")

KINDS: tuple[Kind, ...] = (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    HTTP_ROUTES,
    HPAS,
    LLM_DEPLOYMENTS,
    LEASES,
    NODES,
    OPTIMIZATION_PLANS,
    PODS,
    DISRUPTION_BUDGETS,
    RESOURCE_QUOTAS,
    SCALED_OBJECTS,
    SERVICES,
)
