"""Traffic by weight: the two Services behind a route, and the weights in an HTTPRoute of the Gateway API.

`rules` and `backendRefs` are atomic lists (gateway.networking.k8s.io/v1), so server-side apply could only own all of
them. A JSON patch changes the weights alone, and is refused when the route has changed since it was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.api import names
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.render.workloads import service


@dataclass(frozen=True, slots=True)
class Backends:
    """Where one rule of a route names both Services, and the weights that they have."""

    rule: int
    stable: int
    canary: int
    stable_weight: int
    canary_weight: int

    @property
    def share(self) -> float | None:
        """The canary's share in per cent; None where neither has a weight."""
        total = self.stable_weight + self.canary_weight
        return 100 * self.canary_weight / total if total > 0 else None


def route_services(deployment: LLMDeployment, stable: str, canary: str) -> tuple[dict[str, Any], ...]:
    """The Services of stable and of the canary, over the pods of a revision each; of all revisions for an empty one."""
    for_stable, for_canary = names.route_service_names(deployment.metadata.name)
    return service(deployment, stable, name=for_stable), service(deployment, canary, name=for_canary)


def backends_of(route: Mapping[str, Any], deployment: LLMDeployment) -> tuple[Backends, ...] | str:
    """The rules that share traffic between the two Services; or why this cannot be done, as a sentence."""
    stable, canary = names.route_service_names(deployment.metadata.name)
    found = []
    for index, rule in enumerate((route.get("spec") or {}).get("rules") or ()):
        references = rule.get("backendRefs") or ()
        named = [_service(reference, route) for reference in references]
        if not {stable, canary} & set(named):
            continue
        if sorted(named) != sorted((stable, canary)):
            return (
                f"Rule {index + 1} of HTTPRoute {route['metadata']['name']} must name the Services {stable} and "
                f"{canary}, each once, and no other backend beside them."
            )
        ours, theirs = named.index(stable), named.index(canary)
        weights = (_weight(references[ours]), _weight(references[theirs]))
        found.append(Backends(index, ours, theirs, *weights))
    if not found:
        return (
            f"No rule of HTTPRoute {route['metadata']['name']} names the Services {stable} and {canary} in its "
            f"backendRefs (port {deployment.spec.engine.port})."
        )
    return tuple(found)


def weigh(route: Mapping[str, Any], backends: tuple[Backends, ...], percent: int) -> list[dict[str, Any]]:
    """The JSON patch that gives the canary this share in every rule; empty where it has it."""
    changes = [change for one in backends if one.share != percent for change in _changes(one, percent)]
    if not changes:
        return []
    # A version that was read: another writer in between is a conflict, and the next look decides anew.
    version = {"op": "replace", "path": "/metadata/resourceVersion", "value": route["metadata"]["resourceVersion"]}
    return [version, *changes]


def _changes(one: Backends, percent: int) -> Iterator[dict[str, Any]]:
    for place, weight in ((one.stable, 100 - percent), (one.canary, percent)):
        yield {"op": "add", "path": f"/spec/rules/{one.rule}/backendRefs/{place}/weight", "value": weight}


def _service(reference: Mapping[str, Any], route: Mapping[str, Any]) -> str:
    """The name of a Service of the route's own namespace; of anything else what no Service can be called."""
    home = route["metadata"].get("namespace")
    ours = (reference.get("group") or "", reference.get("kind", "Service")) == ("", "Service")
    return str(reference.get("name")) if ours and reference.get("namespace", home) == home else "/"


def _weight(reference: Mapping[str, Any]) -> int:
    return int(reference.get("weight", 1))
