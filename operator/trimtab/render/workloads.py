"""The objects of an owned LLMDeployment: a Deployment per revision, and the Service over all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trimtab.api import names
from trimtab.api.v1alpha1 import LLMDeployment, Spec
from trimtab.catalogue import EngineCatalogue, find_engine
from trimtab.model.config import EngineConfig, content_hash
from trimtab.model.reason import Reason
from trimtab.render.engines import STARTS
from trimtab.render.errors import RenderError
from trimtab.render.pods import pod_template

MIN_READY_SECONDS = 3


def catalogue_of(spec: Spec) -> EngineCatalogue:
    """The engine's catalogue. Raises RenderError for an engine that is not known."""
    found = find_engine(spec.engine.name)
    if found is None:
        known = ", ".join(sorted(STARTS))
        raise RenderError(
            Reason.UNKNOWN_ENGINE,
            f"The engine {spec.engine.name!r} is not known. Set spec.engine.name to one of {known}.",
        )
    return found


def template_hash(deployment: LLMDeployment) -> str:
    """The hash of all that an owned revision's pods are made from, except the configuration.

    It is taken from the spec, not from the rendered template, so that it is the same for every version of the operator.
    """
    spec = deployment.spec
    engine = spec.engine.to_json()
    engine.pop("config", None)
    return content_hash(
        {
            "model": {key: value for key, value in spec.model.to_json().items() if key != "configJson"},
            "engine": engine,
            "accelerator": spec.accelerator.to_json() if spec.accelerator else None,
            "resources": spec.resources.to_json() if spec.resources else None,
            "pod": spec.pod.to_json() if spec.pod else None,
            "drainSeconds": spec.rollout.drain_seconds,
        }
    )


def deployment(
    deployment: LLMDeployment,
    revision: str,
    config: EngineConfig,
    replicas: int | None,
    runs: str = "",
) -> dict[str, Any]:
    """The Deployment of one revision, to be created once: another version of the operator may render it differently.

    `replicas` None leaves them to whoever owns them. `runs`: the revision whose settings its pods take, where it is not
    its own. Raises RenderError.
    """
    template = pod_template(deployment, revision, config, catalogue_of(deployment.spec), runs)
    return revision_deployment(
        metadata=revision_metadata(
            deployment, names.workload_name(deployment.metadata.name, revision), revision, config
        ),
        labels={**names.selector_labels(deployment.metadata.name), names.REVISION_LABEL: revision},
        replicas=replicas,
        deadline=deployment.spec.rollout.ready_deadline_seconds,
        template=template,
    )


def service(deployment: LLMDeployment, only: str = "", *, name: str = "") -> dict[str, Any]:
    """One Service over the pods of all revisions: traffic goes to whatever is ready. `only`: to this revision alone;
    `name`: of another Service than the common one.
    """
    called = name or names.service_name(deployment.metadata.name)
    name = deployment.metadata.name
    selector = names.selector_labels(name) | ({names.REVISION_LABEL: only} if only else {})
    port = {
        "name": names.PORT_NAME,
        "port": deployment.spec.engine.port,
        "targetPort": names.PORT_NAME,
        "protocol": "TCP",
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": called,
            "namespace": deployment.metadata.namespace,
            "labels": {
                names.APP_NAME: name,
                names.MANAGED_BY: names.FIELD_MANAGER,
                names.DEPLOYMENT_LABEL: name,
            },
            "ownerReferences": [names.owner_reference(name, deployment.metadata.uid)],
        },
        "spec": {"type": "ClusterIP", "selector": selector, "ports": [port]},
    }


def revision_metadata(deployment: LLMDeployment, name: str, revision: str, config: EngineConfig) -> dict[str, Any]:
    """Name, labels and owner of a revision's Deployment; its configuration stands in an annotation, for people."""
    return {
        "name": name,
        "namespace": deployment.metadata.namespace,
        "labels": names.revision_labels(deployment.metadata.name, revision),
        "annotations": {names.CONFIG_ANNOTATION: json.dumps(dict(config), sort_keys=True)},
        "ownerReferences": [names.owner_reference(deployment.metadata.name, deployment.metadata.uid)],
    }


def revision_deployment(
    *,
    metadata: dict[str, Any],
    labels: Mapping[str, str],
    replicas: int | None,
    deadline: int,
    template: Mapping[str, Any],
    match_expressions: list[Any] | None = None,
) -> dict[str, Any]:
    """A Deployment around a template. Its template never changes; its replicas do."""
    selector: dict[str, Any] = {"matchLabels": dict(labels)}
    if match_expressions:
        selector["matchExpressions"] = match_expressions
    spec: dict[str, Any] = {
        "selector": selector,
        "minReadySeconds": MIN_READY_SECONDS,
        "progressDeadlineSeconds": deadline,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": dict(template),
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
