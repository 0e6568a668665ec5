"""The pod of an owned revision: restricted, read-only, ready only when the engine has completed a token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from trimtab.api import names
from trimtab.api.v1alpha1 import LLMDeployment, Spec
from trimtab.api.v1alpha1.pod import Pod
from trimtab.catalogue import EngineCatalogue
from trimtab.model.config import EngineConfig
from trimtab.render import programs
from trimtab.render.args import engine_args
from trimtab.render.engines import start_of
from trimtab.render.live import live_annotations, live_mounts, live_volumes

# After the drain's own deadline: what the engine may take to end.
GRACE_MARGIN_SECONDS = 30
_STARTUP_PERIOD = 5
_COMPLETION_TIMEOUT = 10

# What an engine needs to run as a user without a home on a read-only root file system. The spec's own variables win.
_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HOME": "/tmp",
    "PYTHONDONTWRITEBYTECODE": "1",
    "USER": "engine",  # torch names its cache after the user, and fails for one who is not in /etc/passwd
    "VLLM_NO_USAGE_STATS": "1",
}
# What must be writable.
_SCRATCH = {"/tmp": ("trimtab-tmp", {}), "/dev/shm": ("trimtab-shm", {"medium": "Memory"})}


def pod_template(
    deployment: LLMDeployment, revision: str, config: EngineConfig, catalogue: EngineCatalogue, runs: str = ""
) -> dict[str, Any]:
    """The template of a revision's Deployment. Raises RenderError for what the engine does not know.

    `runs`: the revision whose settings the pods begin with, where it is not the one that they are named after.
    """
    spec, pod = deployment.spec, deployment.spec.pod or Pod()
    version = spec.engine.version
    return {
        "metadata": {
            "labels": {**(pod.labels or {}), **names.revision_labels(deployment.metadata.name, revision)},
            "annotations": {
                **(pod.annotations or {}),
                **scrape_annotations(spec.engine.port),
                **live_annotations(catalogue, version, runs or revision, config),
            },
        },
        "spec": _present(
            {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": spec.rollout.drain_seconds + GRACE_MARGIN_SECONDS,
                "securityContext": _pod_security(pod),
                "nodeSelector": pod.node_selector,
                "tolerations": _plain(pod.tolerations),
                "runtimeClassName": pod.runtime_class_name,
                "priorityClassName": pod.priority_class_name,
                "imagePullSecrets": _plain(pod.image_pull_secrets),
                "containers": [_container(spec, pod, config, catalogue)],
                "volumes": [*_volumes(pod), *live_volumes(catalogue, version)],
            }
        ),
    }


def scrape_annotations(port: int) -> dict[str, str]:
    """What tells Prometheus to read a pod's metrics."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}


def _container(spec: Spec, pod: Pod, config: EngineConfig, catalogue: EngineCatalogue) -> dict[str, Any]:
    engine = spec.engine
    return _present(
        {
            "name": names.ENGINE_CONTAINER,
            "image": engine.image,
            "imagePullPolicy": engine.image_pull_policy.value if engine.image_pull_policy else None,
            "command": list(engine.command or start_of(engine.name).command),
            "args": list(engine_args(spec, catalogue, config)),
            "env": _environment(spec),
            "ports": [{"name": names.PORT_NAME, "containerPort": engine.port, "protocol": "TCP"}],
            "resources": _resources(spec),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "startupProbe": _startup_probe(spec),
            "readinessProbe": {
                "httpGet": {"path": "/health", "port": names.PORT_NAME},
                "periodSeconds": 5,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
            },
            # Lenient: a server that is slow under load must not be killed with all that it is answering.
            "livenessProbe": {
                "httpGet": {"path": "/health", "port": names.PORT_NAME},
                "periodSeconds": 15,
                "timeoutSeconds": 10,
                "failureThreshold": 8,
            },
            "lifecycle": {"preStop": {"exec": {"command": _drain_command(spec)}}},
            # What a dead engine said last is the best that a person can be told.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [*_mounts(pod), *live_mounts(catalogue, engine.version)],
        }
    )


def _startup_probe(spec: Spec) -> dict[str, Any]:
    """A completion through the engine. Twice the rollout's deadline, so that a trial ends by Trimtab's decision."""
    command = ["python3", "-c", programs.PROBE, "--port", str(spec.engine.port), "--timeout", str(_COMPLETION_TIMEOUT)]
    return {
        "exec": {"command": command},
        "periodSeconds": _STARTUP_PERIOD,
        "timeoutSeconds": 2 * _COMPLETION_TIMEOUT + 5,
        "failureThreshold": math.ceil(2 * spec.rollout.ready_deadline_seconds / _STARTUP_PERIOD),
    }


def _drain_command(spec: Spec) -> list[str]:
    return [
        *("python3", "-c", programs.DRAIN, "--port", str(spec.engine.port)),
        *("--deadline", str(spec.rollout.drain_seconds), "--log", "/proc/1/fd/1"),
    ]


def _environment(spec: Spec) -> list[dict[str, Any]]:
    own = spec.engine.env or ()
    said = {variable.name for variable in own}
    values = {**_ENVIRONMENT, **start_of(spec.engine.name).environment(spec)}
    ours = [{"name": name, "value": value} for name, value in sorted(values.items()) if name not in said]
    return ours + [variable.to_json() for variable in own]


def _resources(spec: Spec) -> dict[str, Any] | None:
    resources: dict[str, Any] = spec.resources.to_json() if spec.resources else {}
    if spec.accelerator:
        limits = {**resources.get("limits", {}), spec.accelerator.resource_name: str(spec.accelerator.count)}
        resources = {**resources, "limits": limits}
    return {kind: {key: str(value) for key, value in amounts.items()} for kind, amounts in resources.items()} or None


def _pod_security(pod: Pod) -> dict[str, Any]:
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **pod.user.to_json()}


def _volumes(pod: Pod) -> list[dict[str, Any]]:
    own = _plain(pod.volumes) or []
    return own + [{"name": name, "emptyDir": dict(source)} for name, source in _scratch(pod).values()]


def _mounts(pod: Pod) -> list[dict[str, Any]]:
    own = _plain(pod.volume_mounts) or []
    return own + [{"name": name, "mountPath": path} for path, (name, _) in _scratch(pod).items()]


def _scratch(pod: Pod) -> Mapping[str, tuple[str, Mapping[str, str]]]:
    said = {mount.mount_path.rstrip("/") for mount in pod.volume_mounts or ()}
    return {path: scratch for path, scratch in _SCRATCH.items() if path not in said}


def _plain(items: Iterable[Any] | None) -> list[dict[str, Any]] | None:
    return [item.to_json() for item in items] if items else None


def _present(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}
