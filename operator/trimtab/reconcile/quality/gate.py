"""Can the outputs of a deployment be compared, and with which probes?

Known before anything is tried: where they cannot be compared, a plan that can alter outputs waits for a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue import EngineCatalogue
from trimtab.judge.quality import NEUTRAL, Unusable, parse_probes
from trimtab.kube.client import Object
from trimtab.kube.errors import Forbidden
from trimtab.kube.kinds import CONFIG_MAPS, Kind
from trimtab.model.quality import Probe
from trimtab.model.reason import Reason

# Arguments of an engine with which the operator's plain requests cannot be answered.
_CLOSED: Final = {
    "--api-key": "asks for a key, and Trimtab reads no secrets",
    "--ssl-keyfile": "serves TLS only, and probes are plain HTTP to the pod",
    "--ssl-certfile": "serves TLS only, and probes are plain HTTP to the pod",
}
_CLOSED_BY_VARIABLE: Final = {"VLLM_API_KEY": _CLOSED["--api-key"]}


class Reader(Protocol):
    """Reads an object (`kube.client.Kube`)."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None: ...


@dataclass(frozen=True, slots=True)
class Gate:
    """The probes to compare with; without any, `reason` and `message` say why nothing can be compared."""

    probes: tuple[Probe, ...]
    reason: Reason
    message: str

    @property
    def can_run(self) -> bool:
        return bool(self.probes)


async def read_gate(
    kube: Reader, deployment: LLMDeployment, engine: EngineCatalogue, target: Mapping[str, Any] | None
) -> Gate:
    """Reads the ConfigMap of `spec.quality.probes`, where there is one. `target`: the adopted Deployment."""
    closed = _closed(deployment, engine, target)
    if closed:
        return Gate((), Reason.QUALITY_NOT_MEASURABLE, f"{closed} A change that can alter outputs needs an approval.")
    named = deployment.spec.quality.probes
    if named is None:
        return _ready(NEUTRAL, "that come with the operator")
    found = await _probes(kube, deployment.metadata.namespace, named.config_map)
    if isinstance(found, Unusable):
        place = f"spec.quality.probes.configMap is {named.config_map!r}."
        needs = "Until then a change that can alter outputs needs an approval."
        return Gate((), Reason.QUALITY_PROBES_INVALID, f"{place} {found.message} {needs}")
    return _ready(found, f"of the ConfigMap {named.config_map}")


def _ready(probes: tuple[Probe, ...], whose: str) -> Gate:
    message = f"The outputs of a change that can alter them are compared on the {len(probes)} texts {whose}."
    return Gate(probes, Reason.QUALITY_GATE_READY, message)


async def _probes(kube: Reader, namespace: str, name: str) -> tuple[Probe, ...] | Unusable:
    try:
        found = await kube.get(CONFIG_MAPS, namespace, name)
    except Forbidden:
        return Unusable("The operator may not read it. Add its name to quality.configMaps of the Helm chart.")
    if found is None:
        return Unusable(f"There is no such ConfigMap in the namespace {namespace!r}. Create it.")
    return parse_probes(found.get("data") or {}, found.get("binaryData") or {})


def _closed(deployment: LLMDeployment, engine: EngineCatalogue, target: Mapping[str, Any] | None) -> str:
    """Why the engine answers no probe, as far as its configuration shows it; empty when it should."""
    if not engine.scores_text:
        return f"{engine.title} is not known to give the log-probabilities of a text, so outputs cannot be compared."
    for token in _arguments(deployment, target):
        name, _, _ = token.partition("=")
        if name in _CLOSED:
            return f"Outputs cannot be compared: with {name} the engine {_CLOSED[name]}."
    for variable in _variables(deployment, target):
        if variable in _CLOSED_BY_VARIABLE:
            return f"Outputs cannot be compared: with {variable} the engine {_CLOSED_BY_VARIABLE[variable]}."
    return ""


def _arguments(deployment: LLMDeployment, target: Mapping[str, Any] | None) -> Iterator[str]:
    yield from deployment.spec.engine.args or ()
    for container in _containers(deployment, target):
        yield from (str(token) for token in (*(container.get("command") or ()), *(container.get("args") or ())))


def _variables(deployment: LLMDeployment, target: Mapping[str, Any] | None) -> Iterator[str]:
    yield from (variable.name for variable in deployment.spec.engine.env or ())
    for container in _containers(deployment, target):
        yield from (str(variable.get("name")) for variable in container.get("env") or ())


def _containers(deployment: LLMDeployment, target: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    reference = deployment.spec.target_ref
    if reference is None or target is None:
        return ()
    containers: Sequence[Mapping[str, Any]] = target["spec"]["template"]["spec"].get("containers") or ()
    return [container for container in containers if container.get("name") == reference.container]
