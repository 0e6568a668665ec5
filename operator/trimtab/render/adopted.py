"""Adopted workloads: the trial is a copy beside the user's Deployment, which itself gets the planned fields only."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.api import names
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue import EngineCatalogue
from trimtab.model.config import EngineConfig, content_hash
from trimtab.model.reason import Reason
from trimtab.render.args import config_in, with_config, without_knobs
from trimtab.render.errors import RenderError
from trimtab.render.workloads import catalogue_of, revision_deployment, revision_metadata

_SHELLS = ("sh", "bash", "dash", "ash", "zsh")
# Written by the API server or by kubectl: a copy of the template must not carry them.
_NOT_COPIED = ("creationTimestamp", "generateName", "name", "namespace")


def target_config(deployment: LLMDeployment, target: Mapping[str, Any]) -> EngineConfig:
    """The knobs that the adopted workload's own command line sets."""
    catalogue, version = catalogue_of(deployment.spec), deployment.spec.engine.version
    return config_in(catalogue, version, _command_line(engine_container(target, _container_name(deployment))))


def target_template_hash(deployment: LLMDeployment, target: Mapping[str, Any]) -> str:
    """The hash of the adopted workload's pod template without the flags of knobs and without what tools stamp on it."""
    catalogue, version = catalogue_of(deployment.spec), deployment.spec.engine.version
    template = _template(target)
    container = engine_container({"spec": {"template": template}}, _container_name(deployment))
    for part in ("command", "args"):
        container[part] = list(without_knobs(catalogue, version, container.get(part) or ()))
    return content_hash(template)


def canary_of(
    target: Mapping[str, Any],
    deployment: LLMDeployment,
    revision: str,
    config: EngineConfig,
    replicas: int | None,
) -> dict[str, Any]:
    """A copy of the adopted Deployment with the planned configuration, as a revision of ours.

    Its pods keep the target's labels, so that the user's Service sends them their share of the traffic. The target's
    own controller leaves them alone: its ReplicaSets are told apart by their owner. Raises RenderError.
    """
    template = _template(target)
    ours = {**names.selector_labels(deployment.metadata.name), names.REVISION_LABEL: revision}
    template["metadata"]["labels"] = {**template["metadata"].get("labels", {}), **ours}
    _configure(template, deployment, config)
    selector = target["spec"].get("selector", {})
    return revision_deployment(
        metadata=revision_metadata(
            deployment, names.workload_name(str(target["metadata"]["name"]), revision), revision, config
        ),
        labels={**selector.get("matchLabels", {}), **ours},
        match_expressions=copy.deepcopy(selector.get("matchExpressions")),
        replicas=replicas,
        deadline=deployment.spec.rollout.ready_deadline_seconds,
        template=template,
    )


def target_patch(target: Mapping[str, Any], deployment: LLMDeployment, config: EngineConfig) -> dict[str, Any]:
    """The planned fields of the adopted workload and nothing else, for server-side apply under our field manager.

    Also a strategic merge patch, so it can be exported to a repository as it is. Raises RenderError.
    """
    name = _container_name(deployment)
    before = engine_container(target, name)
    template = _template(target)
    _configure(template, deployment, config)
    after = engine_container({"spec": {"template": template}}, name)
    planned: dict[str, Any] = {"name": name, "args": after["args"]}
    if after.get("command") != before.get("command"):
        planned["command"] = after["command"]
    return {
        "apiVersion": target.get("apiVersion", "apps/v1"),
        "kind": target.get("kind", "Deployment"),
        "metadata": {"name": target["metadata"]["name"], "namespace": target["metadata"]["namespace"]},
        "spec": {"template": {"spec": {"containers": [planned]}}},
    }


def engine_container(target: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The engine's container. Raises RenderError when the workload has none of this name."""
    containers: list[dict[str, Any]] = target["spec"]["template"]["spec"].get("containers", [])
    for container in containers:
        if container.get("name") == name:
            return container
    there = ", ".join(str(container.get("name")) for container in containers)
    raise RenderError(
        Reason.TARGET_NOT_FOUND,
        f"The target has no container {name!r}; it has {there}. Set spec.targetRef.container to the engine's.",
    )


def _container_name(deployment: LLMDeployment) -> str:
    target = deployment.spec.target_ref
    return target.container if target else names.ENGINE_CONTAINER


def _template(target: Mapping[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = copy.deepcopy(dict(target["spec"]["template"]))
    template["metadata"] = {
        key: value for key, value in (template.get("metadata") or {}).items() if key not in _NOT_COPIED
    }
    return template


def _configure(template: dict[str, Any], deployment: LLMDeployment, config: EngineConfig) -> None:
    catalogue, version = catalogue_of(deployment.spec), deployment.spec.engine.version
    container = engine_container({"spec": {"template": template}}, _container_name(deployment))
    _refuse_shell(container)
    _refuse_live(catalogue, version, config)
    command, arguments = list(container.get("command") or ()), list(container.get("args") or ())
    if _sets_knobs(catalogue, version, command):
        # The flags stand in the command: they move behind it, where ours go.
        arguments = [*command[1:], *arguments]
        container["command"] = command[:1]
    container["args"] = list(with_config(catalogue, version, arguments, config))


def _sets_knobs(catalogue: EngineCatalogue, version: str, tokens: Sequence[str]) -> bool:
    return bool(catalogue.set_by_arguments(version, tokens))


def _command_line(container: Mapping[str, Any]) -> list[str]:
    return [*(container.get("command") or ()), *(container.get("args") or ())]


def _refuse_live(catalogue: EngineCatalogue, version: str, config: EngineConfig) -> None:
    live = sorted(catalogue.live_knobs(version) & set(config))
    if live:
        raise RenderError(
            Reason.INVALID_SPEC,
            f"{', '.join(live)} stand in the settings file of the engine, which belongs to the adopted workload. "
            "Set them there, and take them out of spec.engine.config.",
        )


def _refuse_shell(container: Mapping[str, Any]) -> None:
    line = _command_line(container)
    program = line[0].rpartition("/")[2] if line else ""
    if program in _SHELLS and any(token.startswith("-") and token.endswith("c") for token in line[1:3]):
        raise RenderError(
            Reason.INVALID_SPEC,
            f"The target starts its engine through {program} -c, so its arguments cannot be changed one by one. "
            "Start the engine directly: its program in command, its arguments in args.",
        )
