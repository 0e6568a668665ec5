"""Traffic by weight in the cluster: the HTTPRoute that the spec names and the two Services behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab.api.names import DEPLOYMENT_LABEL, REVISION_LABEL, route_service_names
from trimtab.api.v1alpha1 import FieldConflicts, LLMDeployment
from trimtab.kube.client import Kube, Object
from trimtab.kube.errors import Forbidden
from trimtab.kube.kinds import HTTP_ROUTES, SERVICES
from trimtab.model.reason import Reason
from trimtab.model.rollout import RouteFacts, ShareTraffic
from trimtab.reconcile.neighbours import git_owner
from trimtab.render import Backends, backends_of, weigh

WEIGHTS_MANAGER = "trimtab-weights"
CONDITION = "RouteReady"
_PATIENCE = 2  # times that weights are set again within _CALM seconds after somebody else changed them
_CALM = 600.0


class ContestedError(RuntimeError):
    """Somebody else goes on changing the weights, so they are left alone."""


@dataclass(frozen=True, slots=True)
class Route:
    """As it is. `facts` None: the spec names no route any more, and only the two Services are left."""

    facts: RouteFacts | None
    live: Object | None = None
    backends: tuple[Backends, ...] = ()
    services: Mapping[str, Object] = field(default_factory=dict)  # by name

    @property
    def told(self) -> RouteFacts | None:
        """What the condition says: of Services that are left, until they select all pods."""
        if self.facts is not None:
            return self.facts
        if any(selected_revision(found) for found in self.services.values()):
            message = "The spec names no route any more, so both of its Services will select the pods of all revisions."
            return RouteFacts(obstacle=Reason.ROUTE_NOT_USABLE, message=message)
        return None


@dataclass(slots=True)
class Weighing:
    """What this process wrote last, by resource: whoever undoes it is not fought for ever."""

    _written: dict[tuple[str, str], tuple[int, float, int]] = field(default_factory=dict)

    def may_write(self, key: tuple[str, str], percent: int, now: float) -> bool:
        before, at, times = self._written.get(key, (-1, -math.inf, 0))
        return before != percent or now - at > _CALM or times <= _PATIENCE

    def wrote(self, key: tuple[str, str], percent: int, now: float) -> None:
        before, at, times = self._written.get(key, (-1, -math.inf, 0))
        again = before == percent and now - at <= _CALM
        self._written[key] = (percent, now, times + 1 if again else 1)

    def forget(self, key: tuple[str, str]) -> None:
        self._written.pop(key, None)


async def read_route(kube: Kube, deployment: LLMDeployment) -> Route | None:
    """None where traffic is shared by numbers of pods, and always was."""
    shown = any(item.get("type") == CONDITION for item in deployment.status.get("conditions") or ())
    wanted = deployment.spec.rollout.route
    if deployment.adopted or (wanted is None and not shown):
        return None
    namespace = deployment.metadata.namespace
    services = {}
    for name in route_service_names(deployment.metadata.name):
        found = await kube.get(SERVICES, namespace, name)
        if found is not None:
            services[name] = found
    if wanted is None:
        return Route(facts=None, services=services)
    try:
        live = await kube.get(HTTP_ROUTES, namespace, wanted.name)
    except Forbidden as error:
        message = f"{error} Install the chart with gatewayApi.httpRoutes=true."
        return Route(_facts(deployment, services, (), Reason.FORBIDDEN, message), services=services)
    if live is None:
        message = f"There is no HTTPRoute {wanted.name} in {namespace}. Create it, with both Services as backends."
        return Route(_facts(deployment, services, (), Reason.ROUTE_NOT_USABLE, message), services=services)
    backends = backends_of(live, deployment)
    if isinstance(backends, str):
        return Route(_facts(deployment, services, (), Reason.ROUTE_NOT_USABLE, backends), live, services=services)
    reason, message = _obstacle(deployment, live, services)
    return Route(_facts(deployment, services, backends, reason, message), live, backends, services)


def owner_of_rules(route: Mapping[str, Any]) -> str:
    """Who applies the rules from elsewhere: a tool that marks the route, or another manager by server-side apply."""
    tool = git_owner(route)
    if tool:
        return tool
    for entry in _writers(route):
        if entry.get("operation") == "Apply":
            return f"the field manager {entry.get('manager')}"
    return ""


async def share_traffic(
    kube: Kube, deployment: LLMDeployment, route: Route, action: ShareTraffic, weighing: Weighing, now: float
) -> None:
    """Sets the weights. Raises Conflict when the route has changed since it was read, ContestedError for one whose
    weights somebody else goes on changing, and what else the API server refuses.

    Where the rules belong to somebody else a share that was given before is taken back, and nothing else is changed.
    """
    facts, percent = route.facts, action.percent
    if facts is None or percent is None or route.live is None or not route.backends:
        return
    operations = weigh(route.live, route.backends, percent)
    takes_back = action.stable != action.canary and percent < (facts.most or 0)
    if not operations or (facts.obstacle is not None and not takes_back):
        return
    key = (deployment.metadata.namespace, deployment.metadata.name)
    if not takes_back and not weighing.may_write(key, percent, now):
        writers = sorted({str(entry.get("manager")) for entry in _writers(route.live)})
        raise ContestedError(
            f"The weights of HTTPRoute {route.live['metadata']['name']} are changed by {', '.join(writers)} each time "
            f"that Trimtab sets them to {100 - percent} and {percent}. Let it ignore the weights of the backendRefs, "
            "or remove spec.rollout.route."
        )
    await kube.json_patch(HTTP_ROUTES, key[0], route.live["metadata"]["name"], operations, manager=WEIGHTS_MANAGER)
    weighing.wrote(key, percent, now)


def _obstacle(
    deployment: LLMDeployment, live: Mapping[str, Any], services: Mapping[str, Object]
) -> tuple[Reason | None, str]:
    """What keeps a route with the right backends from being used, with the way out."""
    for name, found in services.items():
        labels = found["metadata"].get("labels") or {}
        if labels.get(DEPLOYMENT_LABEL) != deployment.metadata.name:
            message = f"The Service {name} is there already and is not this resource's. Rename one of them."
            return Reason.ROUTE_NOT_USABLE, message
    wanted, owner = deployment.spec.rollout.route, owner_of_rules(live)
    if wanted is None or not owner or wanted.field_conflicts is FieldConflicts.OVERRIDE:
        return None, ""
    return Reason.FIELD_CONFLICT, (
        f"The rules of HTTPRoute {wanted.name} belong to {owner}, so its weights are not changed. Let {owner} "
        "ignore the weights of its backendRefs and set spec.rollout.route.fieldConflicts to Override."
    )


def _facts(
    deployment: LLMDeployment,
    services: Mapping[str, Object],
    backends: Sequence[Backends],
    obstacle: Reason | None = None,
    message: str = "",
) -> RouteFacts:
    stable, canary = (selected_revision(services.get(name)) for name in route_service_names(deployment.metadata.name))
    shares = [one.share for one in backends]
    known = [share for share in shares if share is not None]
    if known and len(known) == len(shares):
        return RouteFacts(stable, canary, math.floor(min(known)), math.ceil(max(known)), obstacle, message)
    if obstacle is Reason.ROUTE_NOT_USABLE:
        # No rule leads to both of them, so no weight of ours sends anything anywhere.
        return RouteFacts(stable, canary, 100, 0, obstacle, message)
    return RouteFacts(stable, canary, None, None, obstacle, message)


def selected_revision(service: Mapping[str, Any] | None) -> str:
    """The revision that a Service selects; empty when it selects all, or is not there."""
    selector = ((service or {}).get("spec") or {}).get("selector") or {}
    return str(selector.get(REVISION_LABEL) or "")


def _writers(route: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of managedFields of those who wrote the rules, but for ourselves."""
    return [
        entry
        for entry in route["metadata"].get("managedFields") or ()
        if "f:rules" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}) and entry.get("manager") != WEIGHTS_MANAGER
    ]
